"""What browsers are told, and how often the broker is asked for it."""

from __future__ import annotations

import asyncio
import json
import threading

import msgpack
import pytest
import zmq

from farm import wire
from farm.page.asking import STORY_EVERY_S, Asker
from farm.page.feed import HISTORY_S, Feed, Rates
from farm.sockets import Role, open_socket

TERMINALS = ("published", "insufficient", "skipped", "shed", "dead")


def snapshot(arrived, published, *, backlog=0, instance="t"):
    return {
        "instance": instance,
        "state": "HEALTHY",
        "holes": {"arrived": arrived} | dict.fromkeys(TERMINALS, 0) | {"published": published},
        "throughput": {"backlog": backlog},
        "workers": [{"name": "1", "state": "idle", "secret": "s"}],
        **{key: {} for key in ("mqtt", "jobs", "journal", "latency")},
        **dict.fromkeys(("up_s", "farm_version", "dead_letters", "workers_expected"), 0),
        "problems": [],
    }


def test_rates_are_what_came_between_two_looks():
    rates = Rates()
    for at_s, arrived, published in ((10.0, 100, 90), (11.0, 110, 95), (13.0, 110, 115)):
        rates.take(snapshot(arrived, published, backlog=3), at_s)
    assert list(rates.samples) == [[11.0, 10.0, 5.0, 3], [13.0, 0.0, 10.0, 3]]


def test_a_broker_that_began_anew_makes_no_negative_rate():
    # prevents: a spike down to minus a million after each restart
    rates = Rates()
    for at_s, arrived in ((10.0, 500), (11.0, 3), (12.0, 5)):
        rates.take(snapshot(arrived, arrived), at_s)
    assert list(rates.samples) == [[12.0, 2.0, 2.0, 0]]
    rates.lost()
    rates.take(snapshot(900, 900), 60.0)
    assert len(rates.samples) == 1


def test_two_looks_at_nearly_the_same_time_make_no_rate():
    # prevents: a peak in the chart whenever somebody opens the page
    rates = Rates()
    for at_s, arrived in ((10.0, 100), (11.0, 110), (11.01, 113), (12.0, 120)):
        rates.take(snapshot(arrived, arrived), at_s)
    assert [sample[1] for sample in rates.samples] == [10.0, 10.0]


def test_five_minutes_are_kept_and_no_more():
    rates = Rates()
    for second in range(1000):
        rates.take(snapshot(second, second), float(second))
    assert rates.samples[0][0] == pytest.approx(999 - HISTORY_S)
    assert len(rates.samples) == HISTORY_S + 1


def events(pieces):
    return [json.loads(piece.partition(b"data: ")[2]) for piece in pieces if b"event: now" in piece]


def test_all_browsers_are_told_the_same_and_a_slow_one_only_the_newest():
    # prevents: memory that grows with a browser that does not read
    async def run():
        feed = Feed(5, lambda: {"kept": 7})
        fast, slow = feed.stream(), feed.stream()
        got = {"fast": [await anext(fast), await anext(fast)], "slow": []}
        got["slow"] += [await anext(slow), await anext(slow)]
        for second in range(1, 4):
            feed.take(snapshot(second, second), float(second))
            await feed.publish(float(second))
            got["fast"].append(await anext(fast))
        got["slow"].append(await anext(slow))
        waiting = asyncio.ensure_future(anext(slow, None))
        await asyncio.sleep(0)
        await feed.close()
        assert await waiting is None
        return got

    got = asyncio.run(run())
    assert [told["now_s"] for told in events(got["fast"])] == [1.0, 2.0, 3.0]
    [slow] = events(got["slow"])
    assert (slow["now_s"], slow["journal"]) == (3.0, {"kept": 7})
    assert slow["farm"]["workers"][0]["name"] == "1"
    assert "secret" not in slow["farm"]["workers"][0]  # what is shown is chosen, not left out


def test_a_farm_that_is_silent_is_told_with_the_time_of_its_last_word():
    async def run():
        feed = Feed(1, dict)
        feed.take(snapshot(1, 1), 10.0)
        feed.take(None, 11.0)
        stream = feed.stream()
        pieces = [await anext(stream), await anext(stream)]
        await feed.publish(11.0)
        return [*pieces, await anext(stream)]

    [told] = events(asyncio.run(run()))
    assert (told["is_silent"], told["answered_s"], told["farm"]["instance"]) == (True, 10.0, "t")


@pytest.mark.parametrize(
    "broken",
    [{"workers": None}, {"holes": {}}, {"throughput": 7}, {"holes": None}, {"workers": [1]},
     {"mqtt": ...}, {"problems": ...}],
)  # fmt: skip
def test_a_snapshot_of_another_version_is_told_as_one(broken):
    # prevents: a page that stands still without a word beside a farm of another version
    feed = Feed(1, dict)
    feed.take(snapshot(1, 1), 10.0)
    whole = snapshot(2, 2) | broken
    feed.take({name: value for name, value in whole.items() if value is not ...}, 11.0)
    assert (feed.is_silent, feed.answered_s) == (True, 10.0)
    assert "not as this page knows it" in feed.problem
    feed.take(snapshot(3, 3), 12.0)
    assert (feed.is_silent, feed.problem) == (False, "")
    assert not feed.rates.samples  # over what was not understood there is no rate


def test_what_stands_in_a_snapshot_is_made_printable():
    # prevents: a client's name that turns the direction of the text beside it
    feed = Feed(1, dict)
    feed.take(snapshot(1, 1, instance="a\u202eb"), 1.0)
    assert feed.snapshot is not None
    assert feed.snapshot["instance"] == "a\\u202eb"


class Broker:
    """Answers on a control socket like a broker, and counts what it is asked."""

    def __init__(self, endpoint, *, is_foreign=False):
        self.asked = []
        self.is_foreign = is_foreign
        self._context = zmq.Context()
        self._socket = open_socket(self._context, Role.CONTROL_SERVER, endpoint)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while self._socket.poll(5000):
            identity, *frames = self._socket.recv_multipart()
            request = wire.decode([frame for frame in frames if frame])
            self.asked.append(type(request))
            if self.is_foreign and not isinstance(request, wire.Drain):
                strange = msgpack.packb([wire.PROTOCOL + 1, {}])
                self._socket.send_multipart([identity, b"", wire.encode(wire.Done())[:1] + strange])
                continue
            if isinstance(request, wire.Drain):
                reply = wire.Done()
            elif isinstance(request, wire.StoryRequest):
                reply = wire.StoryReply({"19": [[1.0, 0, []]]})
            else:
                reply = wire.StatsReply({"state": "HEALTHY"})
            self._socket.send_multipart([identity, b"", wire.encode(reply)])
            if isinstance(request, wire.Drain):
                return

    def close(self):
        self._thread.join()
        self._context.destroy(linger=0)


def test_the_broker_is_asked_for_a_story_not_more_often_than_it_should(short_path):
    # prevents: many browsers on one open hole that keep the broker from its work
    endpoint = f"ipc://{short_path}/c"
    broker = Broker(endpoint)
    now_s = [100.0]
    asker = Asker(endpoint, lambda: now_s[0])
    assert asker.snapshot() == {"state": "HEALTHY"}
    stories = [asker.story("B/T", "7", "19") for _ in range(50)]
    assert stories[0] == [[1.0, 0, []]]
    assert stories[1:] == [None] * 49
    now_s[0] += STORY_EVERY_S
    assert asker.story("B/T", "7", "20") is None  # this one it does not know
    assert broker.asked == [wire.StatsRequest, wire.StoryRequest, wire.StoryRequest]
    asker._ask(wire.Drain())
    broker.close()
    asker.close()


def test_a_farm_of_another_version_is_not_called_a_stopped_one(short_path):
    # prevents: "this is the journal of one that has stopped", beside a farm that runs
    endpoint = f"ipc://{short_path}/c"
    broker = Broker(endpoint, is_foreign=True)
    asker = Asker(endpoint)
    assert asker.snapshot() is None
    assert f"protocol version {wire.PROTOCOL + 1}" in asker.problem
    asker._ask(wire.Drain())
    assert asker.problem == ""
    broker.close()
    asker.close()


def test_nobody_there_is_no_error_and_who_comes_is_found(short_path, monkeypatch):
    # prevents: a page that must be started again after the farm was
    monkeypatch.setattr("farm.page.asking.TIMEOUT_S", 0.05)
    endpoint = f"ipc://{short_path}/c"
    asker = Asker(endpoint)
    assert asker.snapshot() is None
    assert asker.snapshot() is None
    broker = Broker(endpoint)
    monkeypatch.setattr("farm.page.asking.TIMEOUT_S", 5)
    assert asker.snapshot() == {"state": "HEALTHY"}
    asker._ask(wire.Drain())
    broker.close()
    asker.close()
