"""What was received and not yet looked at, and the clock that stands still with MQTT."""

from __future__ import annotations

from farm.broker.intake import Arrival, Intake, IntakeClock


def arrival(size: int = 10, mid: int = 1, at_s: float = 0.0) -> Arrival:
    return Arrival("b/t/result", b"x" * size, mid, 1, 0, at_s)


def test_messages_leave_in_order_of_arrival() -> None:
    # acknowledgements must go out in this order
    intake = Intake(max_messages=10, max_bytes=1000)
    for mid in (1, 2, 3):
        assert intake.put(arrival(mid=mid))
    taken = [intake.take() for _ in range(4)]
    assert [found and found.mid for found in taken] == [1, 2, 3, None]


def test_a_full_queue_refuses_by_number() -> None:
    intake = Intake(max_messages=2, max_bytes=1000)
    assert [intake.put(arrival()) for _ in range(3)] == [True, True, False]
    assert len(intake) == 2


def test_a_full_queue_refuses_by_bytes() -> None:
    intake = Intake(max_messages=100, max_bytes=20)
    assert [intake.put(arrival(10)) for _ in range(3)] == [True, True, False]
    assert intake.payload_bytes == 20


def test_a_message_larger_than_the_bound_is_taken_alone_and_not_for_ever_sent_again() -> None:
    # refused, it would come again after every reconnect, and nothing behind it would ever arrive
    intake = Intake(max_messages=100, max_bytes=25)
    assert intake.put(arrival(1000))
    assert not intake.put(arrival(1))
    intake.take()
    assert intake.put(arrival(1))


def test_bytes_are_given_back_when_a_message_is_taken() -> None:
    intake = Intake(max_messages=100, max_bytes=25)
    intake.put(arrival(20))
    assert not intake.put(arrival(20))
    intake.take()
    assert intake.payload_bytes == 0
    assert intake.put(arrival(20))


def test_there_is_room_again_only_when_it_is_nearly_empty() -> None:
    # prevents: a reconnect for each message, and what is still here sent once more with each
    intake = Intake(max_messages=10, max_bytes=1000)
    for _ in range(10):
        intake.put(arrival())
    for _ in range(8):
        intake.take()
        assert not intake.has_room()
    intake.take()
    assert intake.has_room()


def test_what_mqtt_sends_again_is_dropped_and_qos_0_is_not() -> None:
    # prevents: a queue that is full of copies after a reconnect, and runs over again
    intake = Intake(max_messages=10, max_bytes=1000)
    intake.put(arrival(mid=1))
    intake.put(arrival(30, mid=0)._replace(qos=0))
    intake.put(arrival(mid=2))
    intake.take()
    intake.drop_what_comes_again()
    assert intake.payload_bytes == 30
    left = intake.take()
    assert left is not None
    assert left.qos == 0
    assert intake.take() is None
    assert intake.payload_bytes == 0


def test_bytes_count_for_room_as_well() -> None:
    intake = Intake(max_messages=100, max_bytes=100)
    intake.put(arrival(51))
    assert not intake.has_room()


def test_the_delay_is_that_of_the_oldest_message() -> None:
    intake = Intake(max_messages=4, max_bytes=1000)
    assert intake.delay_s(100.0) == 0.0
    intake.put(arrival(at_s=90.0))
    intake.put(arrival(at_s=99.0))
    assert intake.delay_s(100.0) == 10.0


def test_the_clock_stands_still_while_mqtt_is_away() -> None:
    # else an outage of MQTT longer than the window makes every waiting hole an error
    clock = IntakeClock()
    assert clock.read(100.0) == 0.0
    clock.set_open(100.0, is_open=True)
    assert clock.read(105.0) == 5.0
    clock.set_open(110.0, is_open=False)
    assert clock.read(4000.0) == 10.0
    clock.set_open(4000.0, is_open=True)
    assert clock.read(4001.0) == 11.0


def test_saying_the_same_again_does_not_disturb_the_clock() -> None:
    clock = IntakeClock()
    for now_s in (0.0, 1.0, 2.0):
        clock.set_open(now_s, is_open=True)
    assert clock.read(3.0) == 3.0
    for now_s in (3.0, 4.0):
        clock.set_open(now_s, is_open=False)
    assert clock.read(9.0) == 3.0
