"""What the flow has written before it goes on, and how it takes up what a former life left open.

Times are monotonic seconds; the journal is one in memory that lags when told to.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from fakes import NEEDS, FakeAdapter, FakeJournal, payload
from test_flow import TOOL, Rig

from farm import wire
from farm.adapter import Finished, Need, Status
from farm.broker.outbox import Letter
from farm.journal.ids import first_id
from farm.journal.records import (
    Answered,
    Closed,
    Ended,
    Hurt,
    Message,
    Opened,
    Rejected,
    RejectionEnded,
    Resolved,
    Watermark,
)
from farm.journal.recovery import Found, FoundHole, FoundLetter, FoundMessage, FoundPast


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def rig(journal: FakeJournal) -> Rig:
    return Rig(journal=journal)


# ---- before it counts ----------------------------------------------------------------------------


def test_the_records_of_a_hole_come_in_the_order_of_its_life(
    rig: Rig, journal: FakeJournal
) -> None:
    rig.hole("7")
    rig.compute(rig.hire(), "42 mm")
    rig.publish()
    kinds = [type(record) for record in journal.records]
    assert kinds == [Message, Message, Opened, Answered, Ended]
    first, second, opened, answered, ended = journal.records
    assert opened.messages == {"result": first.message_id, "trace": second.message_id}
    assert opened.hole_id == answered.hole_id == ended.hole_id
    assert answered.publications[0].payload == b"7 ok 42 mm"
    assert (answered.terminal, ended.terminal) == ("published", "published")
    assert first.payload == payload("7")
    assert first.crc == zlib.crc32(payload("7"))


def test_an_answer_waits_until_it_is_on_disk(rig: Rig, journal: FakeJournal) -> None:
    # prevents: an answer that a consumer has and the farm, after a crash, gives otherwise
    journal.lags = True
    rig.hole("7")
    rig.compute(rig.hire(), "42 mm")
    assert rig.publish() == []
    journal.written = journal.position - 1
    rig.flow.release(rig.now_s)
    assert rig.publish() == []
    journal.written = journal.position
    rig.flow.release(rig.now_s)
    assert rig.publish() == ["7 ok 42 mm"]


def test_the_error_about_a_message_waits_as_well_and_is_remembered(
    rig: Rig, journal: FakeJournal
) -> None:
    journal.lags = True
    rig.arrive(f"{TOOL}/result", b"no colon")
    assert rig.publish() == []
    journal.written = journal.position
    rig.flow.release(rig.now_s)
    assert rig.publish() == ["result rejected: The result message has no colon"]
    [rejected], [ended] = journal.of(Rejected), journal.of(RejectionEnded)
    assert rejected.rejection_id == ended.rejection_id
    [message] = journal.of(Message)
    assert message.note == "The result message has no colon"


def test_a_repeat_is_not_kept_and_can_not_fill_the_disk(rig: Rig, journal: FakeJournal) -> None:
    rig.hole("7", "x")
    for _ in range(10):
        rig.hole("7", "x")
    assert len(journal.of(Message)) == 2
    assert rig.flow.counts["holes"] == 1
    assert rig.flow.correlator.counts["duplicates"] == 20


def test_an_optional_part_that_serves_a_later_hole_is_kept_and_a_repeat_serves_none(
    journal: FakeJournal,
) -> None:
    # prevents: a hole whose optional part is nowhere on disk, and that is dead after a restart
    rig = Rig(journal=journal, adapter=FakeAdapter(needs=NEEDS | {"heads": Need.OPTIONAL}))
    rig.hole("1")
    rig.part("heads", "1", "late")
    rig.hole("2")
    rig.part("heads", "2", "late")
    rig.part("heads", "2", "late")  # the same once more
    rig.pass_time(1.0)
    rig.hole("3")
    rig.pass_time(1.0)
    kept = {message.message_id for message in journal.of(Message)}
    used = {i for opened in journal.of(Opened) for i in opened.messages.values()}
    assert used <= kept
    assert "heads" in journal.of(Opened)[-1].messages


def test_what_waits_in_vain_is_closed_with_its_hole(rig: Rig, journal: FakeJournal) -> None:
    rig.part("result", "7")
    rig.pass_time(31.0)
    [message], [opened], [answered] = (journal.of(k) for k in (Message, Opened, Answered))
    assert opened.messages == {"result": message.message_id}
    assert answered.terminal == "dead"


def test_the_mark_follows_the_oldest_part_that_waits(rig: Rig, journal: FakeJournal) -> None:
    # prevents: a start that looks through all history, or one that looks too near
    rig.hole("1")
    rig.part("result", "2")
    rig.hole("3")
    rig.flow.mark()
    [mark] = journal.of(Watermark)
    waiting = next(m for m in journal.of(Message) if m.part_id == "2")
    assert mark.message_id == waiting.message_id
    rig.part("trace", "2")
    rig.flow.mark()
    assert journal.of(Watermark)[-1].message_id > max(m.message_id for m in journal.of(Message))


def test_a_replaced_part_does_not_move_the_mark_past_one_that_waits() -> None:
    # prevents: a part lost by a crash, since the oldest hole had got a younger part
    journal = FakeJournal()
    rig = Rig(journal=journal, mqtt={"listener": {"duplicate_handling": "replace"}})
    rig.part("result", "1", "old")
    rig.part("result", "2")
    rig.part("result", "1", "new")
    rig.flow.mark()
    assert journal.of(Watermark)[-1].message_id == journal.of(Message)[0].message_id
    [closed] = journal.of(Closed)
    assert closed.message_id == journal.of(Message)[0].message_id


def test_a_kill_is_remembered_and_the_third_gives_up(rig: Rig, journal: FakeJournal) -> None:
    rig.hole("7")
    for deaths in (1, 2, 3):
        worker = rig.hire()
        [job_id] = rig.dispatch()
        rig.slots[worker.worker_id] = frozenset({job_id})
        rig.flow.dispatcher.worker_gone(worker, "killed by SIGSEGV", rig.now_s)
        assert [hurt.deaths for hurt in journal.of(Hurt)] == list(range(1, deaths + 1))
    [answered] = journal.of(Answered)
    assert answered.terminal == "dead"
    assert "SIGSEGV" in answered.reason
    told = [what for life in answered.story for _, what, _ in life[2]]
    assert told.count("worker lost") == 3


# ---- after a start -------------------------------------------------------------------------------


def found_hole(number: int, part_id: str, messages: dict[str, int], deaths: int = 0) -> FoundHole:
    return FoundHole(number, TOOL, part_id, messages, 10, deaths, 0.0, 0.0, 0.0, [])


def keep(journal: FakeJournal, number: int, kind: str, part_id: str, text: str = "") -> bytes:
    data = payload(part_id, text)
    topic = f"{TOOL}/{kind}"
    journal.append(Message(number, 0.0, kind, TOOL, part_id, topic, data, zlib.crc32(data)))
    return data


def test_a_hole_without_an_answer_is_computed_from_the_bytes_on_disk(
    rig: Rig, journal: FakeJournal
) -> None:
    keep(journal, 1, "result", "7", "a")
    keep(journal, 2, "trace", "7", "b")
    rig.flow.resume(Found(holes=[found_hole(5, "7", {"result": 1, "trace": 2})]), 0.0)
    worker = rig.hire()
    [job_id] = rig.dispatch()
    assert job_id == 5
    entry = rig.flow.ledger.get(5)
    assert entry is not None
    assert entry.payloads == {"result": payload("7", "a"), "trace": payload("7", "b")}
    rig.claim(worker, 5)
    rig.finish(worker, 5, "1 mm")
    assert rig.publish() == ["7 ok 1 mm"]
    assert rig.ends == {"published": 1}


def test_a_hole_whose_bytes_are_damaged_ends_with_an_error_and_holds_up_nobody(
    rig: Rig, journal: FakeJournal
) -> None:
    for number, kind in enumerate(("result", "trace", "result", "trace"), start=1):
        keep(journal, number, kind, "7" if number < 3 else "8")
    journal.damaged = {2}
    holes = [
        found_hole(5, "7", {"result": 1, "trace": 2}),
        found_hole(6, "8", {"result": 3, "trace": 4}),
    ]
    rig.flow.resume(Found(holes=holes), 0.0)
    rig.compute(rig.hire(), "1 mm")
    texts = rig.publish()
    assert texts[0].startswith("7 failed The hole's messages are damaged on disk")
    assert texts[1] == "8 ok 1 mm"


def test_kills_of_a_former_life_count(rig: Rig, journal: FakeJournal) -> None:
    # prevents: a poisoned hole that takes the broker's restarts for a pardon
    keep(journal, 1, "result", "7")
    keep(journal, 2, "trace", "7")
    hole = found_hole(5, "7", {"result": 1, "trace": 2}, deaths=2)
    rig.flow.resume(Found(holes=[hole]), 0.0)
    worker = rig.hire()
    rig.dispatch()
    rig.slots[worker.worker_id] = frozenset({5})
    rig.flow.dispatcher.worker_gone(worker, "exit code 13", rig.now_s)
    assert rig.ends == {}
    assert rig.publish()[0].startswith("7 failed Gave up: 3 workers")


def test_what_a_former_life_had_given_up_costs_no_worker(rig: Rig, journal: FakeJournal) -> None:
    # prevents: half a hole sent to a worker, one that kills sent to a fourth one
    for number, kind in ((1, "result"), (2, "result"), (3, "trace")):
        keep(journal, number, kind, "7" if number == 1 else "8")
    holes = [
        found_hole(5, "7", {"result": 1}),
        found_hole(6, "8", {"result": 2, "trace": 3}, deaths=3),
    ]
    rig.flow.resume(Found(holes=holes), 0.0)
    rig.hire()
    assert rig.dispatch() == []
    first, second = rig.publish()
    assert first == "7 failed Not paired: no trace arrived (present: result)"
    assert second.startswith("8 failed Gave up: 3 workers")


def test_an_unconfirmed_rejection_is_no_hole(rig: Rig, journal: FakeJournal) -> None:
    # prevents: a farm that waits for ever, at each stop, for a hole that never was
    rig.flow.arrived(f"{TOOL}/trace", b"no id", arrived_s=0.0, intake_s=0.0, now_s=0.0)
    [rejected] = journal.of(Rejected)
    later = Rig(journal=journal)
    letter = FoundLetter(rejected.rejection_id, TOOL, "", None, 1, 0.0, 0.0, 0.0)
    later.flow.resume(Found(letters=[letter]), 0.0)
    assert later.flow.unanswered == 0
    assert len(later.publish()) == 1
    assert later.flow.unanswered == 0


def test_an_unconfirmed_answer_goes_out_again_with_the_same_bytes_and_counts_once(
    rig: Rig, journal: FakeJournal
) -> None:
    rig.hole("7")
    rig.compute(rig.hire(), "42 mm")
    [answered] = journal.of(Answered)
    later = Rig(journal=journal)
    letter = FoundLetter(answered.hole_id, TOOL, "7", "published", 1, 0.0, 0.0, 0.0)
    later.flow.resume(Found(letters=[letter]), 0.0)
    assert later.publish() == ["7 ok 42 mm"]
    assert later.ends == {"published": 1}
    assert later.flow.unanswered == 0


def test_a_part_that_waited_meets_its_partner_in_the_next_life(rig: Rig) -> None:
    waiting = FoundMessage(1, "result", TOOL, "7", payload("7", "a"))
    rig.flow.resume(Found(waiting=[waiting]), 0.0)
    rig.part("trace", "7", "b")
    rig.compute(rig.hire(), "1 mm")
    assert rig.publish() == ["7 ok 1 mm"]


def test_what_mqtt_delivers_again_after_a_crash_is_no_new_hole(
    rig: Rig, journal: FakeJournal
) -> None:
    # prevents: a hole answered twice, since its acknowledgement did not reach MQTT before the crash
    prints = {kind: (zlib.crc32(payload("7")), len(payload("7"))) for kind in ("result", "trace")}
    rig.flow.resume(Found(past=[FoundPast(TOOL, "7", 100.0, prints)]), 0.0)
    for kind in ("result", "trace"):
        rig.flow.arrived(
            f"{TOOL}/{kind}",
            payload("7"),
            arrived_s=1.0,
            intake_s=1.0,
            now_s=1.0,
            is_redelivered=True,
        )
    assert rig.flow.counts["holes"] == 0
    assert rig.flow.correlator.counts["redelivered"] == 2
    assert journal.records == []


def test_the_same_id_sent_anew_long_after_is_a_new_hole(rig: Rig) -> None:
    # prevents: a unit whose ids restart and that gets no answers for a while after each restart
    prints = {kind: (zlib.crc32(payload("7")), len(payload("7"))) for kind in ("result", "trace")}
    rig.flow.resume(Found(past=[FoundPast(TOOL, "7", 100.0, prints)]), 0.0)
    rig.hole("7")
    assert rig.flow.counts["holes"] == 1


def test_the_answerer_learns_of_the_last_life_and_says_nothing(rig: Rig) -> None:
    finished = Finished(TOOL, "7", Status.OK, "1 mm", "", {}, "m", "h")
    rig.flow.resume(Found(judged=[(finished, 0.0)]), 0.0)
    assert rig.adapter.made.asked == [finished]
    assert rig.publish() == []
    assert rig.flow.unanswered == 0


def test_order_is_kept_over_a_restart(rig: Rig, journal: FakeJournal) -> None:
    rig.hole("1")
    rig.compute(rig.hire(), "a")
    [answered] = journal.of(Answered)
    keep(journal, 11, "result", "2")
    keep(journal, 12, "trace", "2")
    later = Rig(journal=journal)
    found = Found(
        letters=[FoundLetter(answered.hole_id, TOOL, "1", "published", 1, 0.0, 0.0, 0.0)],
        holes=[found_hole(answered.hole_id + 1, "2", {"result": 11, "trace": 12})],
    )
    later.flow.resume(found, 0.0)
    later.hole("3")
    first, second = later.hire(), later.hire()
    older, newer = later.dispatch()
    later.claim(first, older)
    later.claim(second, newer)
    later.finish(second, newer, "c")
    later.finish(first, older, "b")
    assert [text.split()[0] for text in later.publish()] == ["1", "2", "3"]


def test_ids_of_a_life_belong_to_it(rig: Rig, journal: FakeJournal) -> None:
    rig.hole("7")
    [opened] = journal.of(Opened)
    assert first_id(journal.life) < opened.hole_id < first_id(journal.life + 1)


# ---- a stop --------------------------------------------------------------------------------------


def test_at_a_stop_what_waits_is_left_to_the_next_life(rig: Rig, journal: FakeJournal) -> None:
    rig.part("result", "7")
    rig.flow.suspend(1.0, 1.0)
    assert rig.flow.unanswered == 0
    assert journal.of(Answered) == []
    assert journal.of(Watermark)[-1].message_id == journal.of(Message)[0].message_id


def test_a_drain_that_takes_a_while_does_not_forget_what_waits(
    rig: Rig, journal: FakeJournal
) -> None:
    # prevents: an acknowledged part lost, since the mark went on after it was handed over
    rig.part("result", "7")
    rig.flow.suspend(1.0, 1.0)
    rig.flow.mark()
    assert journal.of(Watermark)[-1].message_id == journal.of(Message)[0].message_id


def test_without_a_journal_what_waits_at_a_stop_gets_an_error() -> None:
    journal = FakeJournal()
    journal.is_durable = False
    rig = Rig(journal=journal)
    rig.part("result", "7")
    rig.flow.suspend(1.0, 1.0)
    [text] = rig.publish()
    assert "without a journal" in text


# ---- too much ------------------------------------------------------------------------------------


def test_payloads_beyond_the_budget_wait_on_disk_and_come_back(
    journal: FakeJournal,
) -> None:
    # prevents: a memory that grows with the backlog
    rig = Rig(journal=journal, overload={"memory_bytes": 1000}, limits={"message_bytes": 1000})
    for number in range(20):
        rig.hole(str(number), "x" * 100)
    rig.flow.relieve(0.0)
    assert rig.flow.ledger.memory_bytes <= 1000
    assert rig.flow.counts["spilled"] > 10
    worker = rig.hire()
    for _ in range(20):
        rig.compute(worker, "1 mm")
    assert len(rig.publish()) == 20
    assert rig.ends == {"published": 20}


def test_nothing_leaves_memory_before_it_is_on_disk(journal: FakeJournal) -> None:
    rig = Rig(journal=journal, overload={"memory_bytes": 1000}, limits={"message_bytes": 1000})
    journal.lags = True
    for number in range(20):
        rig.hole(str(number), "x" * 100)
    rig.flow.relieve(0.0)
    assert rig.flow.counts["spilled"] == 0


def test_a_fresh_hole_is_answered_in_time_while_its_tools_backlog_is_late(rig: Rig) -> None:
    # prevents: an overload of minutes after which every answer is minutes late
    for number in range(10):
        rig.hole(str(number))
    rig.pass_time(2.0)
    rig.hole("fresh")
    worker = rig.hire()
    rig.compute(worker, "1 mm")
    assert rig.publish() == []  # the backlog may be gone in a moment: then the order is kept
    rig.pass_time(0.6)
    assert [text.split()[0] for text in rig.publish()] == ["fresh"]
    for _ in range(10):
        rig.compute(worker, "1 mm")
    assert sorted(text.split()[0] for text in rig.publish()) == [str(n) for n in range(10)]
    assert rig.flow.overtaken > 0


@pytest.mark.parametrize(("policy", "gone"), [("oldest", "0"), ("newest", "3")])
def test_shed_holes_end_visibly_one_by_one(journal: FakeJournal, policy: str, gone: str) -> None:
    rig = Rig(journal=journal, overload={"max_open_jobs": 4, "shed": policy, "shed_after_s": 10.0})
    for number in range(4):
        rig.hole(str(number))
    rig.flow.relieve(0.0)
    assert rig.publish() == []
    rig.now_s = 10.0
    rig.flow.relieve(10.0)
    rig.pass_time(0.6)
    [text] = rig.publish()
    assert text.startswith(f"{gone} failed Shed after 10 s")
    assert rig.ends == {"shed": 1}
    assert journal.of(Answered)[0].terminal == "shed"


def test_shedding_makes_room_for_a_moment_and_not_more(journal: FakeJournal) -> None:
    # prevents: a whole backlog shed in a blink, since shed holes count as open until MQTT confirms
    rig = Rig(
        journal=journal,
        overload={"max_open_jobs": 100, "shed": "oldest", "shed_after_s": 10.0},
    )
    for number in range(100):
        rig.hole(str(number))
    rig.flow.relieve(0.0)
    for turn in range(20):
        rig.flow.relieve(10.0 + turn)
    assert len(rig.flow.ledger) == 95


@pytest.mark.parametrize("what", ["the disk", "MQTT"])
def test_nothing_is_shed_for_what_shedding_does_not_help(journal: FakeJournal, what: str) -> None:
    rig = Rig(
        journal=journal, overload={"max_open_jobs": 10, "shed": "oldest", "shed_after_s": 1.0}
    )
    worker = rig.hire()
    for number in range(10):
        rig.hole(str(number))
        if what == "MQTT":
            rig.compute(worker, "1 mm")
        elif number == 5:
            journal.is_behind = True
            break
    assert rig.flow.is_full
    for second in range(10):
        rig.flow.relieve(float(second))
    assert not [answered for answered in journal.of(Answered) if answered.terminal == "shed"]


def test_a_journal_that_can_not_be_written_stops_the_intake(rig: Rig, journal: FakeJournal) -> None:
    journal.is_behind = True
    assert rig.flow.is_full


# ---- dead letters --------------------------------------------------------------------------------


def dead(rig: Rig, journal: FakeJournal) -> tuple[int, dict[str, int]]:
    rig.hole("7")
    worker = rig.hire()
    rig.dispatch()
    rig.wire.clear()
    [opened] = journal.of(Opened)
    rig.claim(worker, opened.hole_id)
    rig.finish(worker, opened.hole_id, None, "failed", "no feed")
    rig.publish()
    return opened.hole_id, dict(opened.messages)


def test_a_dead_letter_is_told_and_counted(journal: FakeJournal) -> None:
    rig = Rig(journal=journal, dead_letters={"publish": True})
    dead(rig, journal)
    assert rig.flow.dead_letters == 1
    assert "farm/test/dead" in [topic for topic, _ in rig.published]
    rig.now_s += 2.0
    rig.publish()
    assert rig.published[-1] == ("farm/test/dead/count", b"1")


def test_a_retried_dead_letter_is_a_new_hole_with_the_old_bytes(
    rig: Rig, journal: FakeJournal
) -> None:
    hole_id, messages = dead(rig, journal)
    new_id = rig.flow.retry(hole_id, (TOOL, "7", messages), rig.now_s)
    assert new_id > hole_id
    assert rig.flow.dead_letters == 0
    [resolved] = journal.of(Resolved)
    assert (resolved.hole_id, resolved.how) == (hole_id, "retried")
    [reopened] = [record for record in journal.of(Opened) if record.retry_of == hole_id]
    # prevents: a letter struck off by a process that ended before the new hole was there
    assert journal.records.index(reopened) < journal.records.index(resolved)
    rig.compute(rig.hire(), "now it works")
    assert rig.publish() == ["7 ok now it works"]


def test_an_open_hole_tells_its_story(rig: Rig) -> None:
    rig.hole("7")
    worker = rig.hire()
    [job_id] = rig.dispatch()
    rig.claim(worker, job_id)
    stories: dict[str, Any] = rig.flow.stories(TOOL, "7")
    [life] = stories[str(job_id)]
    assert [what for _, what, _ in life[2]] == ["first part", "paired", "dispatched", "claimed"]
    assert rig.flow.stories(TOOL, "8") == {}
    assert wire.decode([wire.encode(wire.StoryReply(stories))]) == wire.StoryReply(stories)


def test_a_notice_is_no_hole(rig: Rig) -> None:
    letter = Letter(0, "", "", None, 0.0, 0.0, 0.0)
    rig.flow.delivered(letter, 0.0)
    assert rig.ends == {}
