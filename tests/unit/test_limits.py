"""Every limit has two sides: what is honest goes through, what is not is refused, and counted.

docs/limits.md lists them all; what other tests hold to already is named there.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import itertools
import json
import math
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest
import structlog
import zmq
from fakes import FakeAdapter, make_flow, payload
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from test_desk import Bench

import farm
from farm import log, wire
from farm.adapter import Publication
from farm.broker import snapshot
from farm.broker.gate import Gate
from farm.broker.habits import Habits
from farm.broker.outbox import Letter, Outbox
from farm.broker.switchboard import Switchboard
from farm.broker.topics import check_filters, matches
from farm.config import Config
from farm.config.attach import AttachConfig
from farm.config.file import MAX_FILE_BYTES, plain_value, read_file
from farm.config.keys import tree
from farm.doors.doorkeeper import Doorkeeper
from farm.doors.keyring import Keyring
from farm.doors.rates import BURST_S, REQUESTS, RESULTS, Rates
from farm.drilling.hole import Hole
from farm.drilling.plotting import hole_figure, write_png
from farm.errors import ConfigError, WireError
from farm.models.model import Insufficient
from farm.printable import (
    MAX_CHARS,
    file_name,
    json_line,
    printable,
    printable_data,
)
from farm.sockets import MAX_FRAME_BYTES, MAX_PART_BYTES, Role, open_socket
from farm.state_dir import Endpoints
from farm.telemetry.view import render
from farm.telemetry.workers import table
from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.broker.buffer import Part

HOSTILE = (
    "\x1b[31m\x1b]0;owned\x07\r\n2026-01-01 [error] forged\u202eevil\u2066\u200b\u2028\x9b2J\x7f\0"
    "\ud800"
)


def assert_harmless(text: str) -> None:
    """Nothing in it that a terminal obeys, and no line of a stranger's making."""
    assert not {c for c in text if c != "\n" and not c.isprintable()}
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())


# ---- what can be printed -------------------------------------------------------------------------


@given(st.text())
def test_what_is_printed_is_one_line_that_nothing_obeys(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if text.isprintable() and all(unicodedata.category(each)[0] != "M" for each in text):
        fillers = set("\u115f\u1160\u3164\uffa0")
        assert shown == text or fillers & set(text)  # else an honest text is left as it is


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bohrer Süd-7 №2 漢字", "Bohrer Süd-7 №2 漢字"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb", r"a\x0ab"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
        ("a\u034fb\ufe0fc\u3164", r"a\u034fb\ufe0fc\u3164"),
        ("\U000e0100", r"\U000e0100"),
        ("Bohru\u0308ng, ti\u1ebft, x\u0302\u0301", "Bohru\u0308ng, ti\u1ebft, x\u0302\u0301"),
        ("x" + "\u0301" * 4 + "y\u0301", "x\u0301\u0301" + r"\u0301\u0301" + "y\u0301"),
    ],
)
def test_an_escape_says_what_was_there(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * MAX_CHARS) == "x" * MAX_CHARS
    assert printable("x" * (MAX_CHARS + 7)).endswith("… (7 characters more)")


def test_all_texts_in_data_are_made_printable() -> None:
    data = {HOSTILE: [HOSTILE, {"a": (HOSTILE, 1, None, 2.5)}]}
    assert_harmless(json.dumps(printable_data(data), ensure_ascii=False))
    honest = {"a": [1, 2.5, None, True, {"b": "text"}]}
    assert printable_data(honest) == honest
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert "…" in json.dumps(printable_data(deep), ensure_ascii=False)


def test_json_is_whole_and_harmless() -> None:
    # prevents: an escape that `farm why --json` sends to the screen it is printed on
    line = json_line({"name": HOSTILE})
    assert_harmless(line)
    assert line.isascii()
    assert json.loads(line) == {"name": HOSTILE}


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/etc/passwd", "..", "", ".ssh", "a/b", HOSTILE]
)
def test_a_name_from_outside_leads_to_no_other_folder(text: str, tmp_path: Path) -> None:
    name = file_name(text)
    assert (tmp_path / name).parent == tmp_path
    assert (tmp_path / name).resolve().parent == tmp_path
    assert name.isascii()
    assert name.isprintable()
    assert not name.startswith(".")
    assert file_name("trace-2.json") == "trace-2.json"


# ---- logs and screens ----------------------------------------------------------------------------


@pytest.fixture
def restored_log() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_field_of_a_log_line_is_obeyed(
    style: str, capsys: pytest.CaptureFixture[str], restored_log: None
) -> None:
    log.set_up(level="INFO", style=style, process=HOSTILE)
    names = [HOSTILE, {HOSTILE: HOSTILE}]
    raw, path, error = b"\x1b", Path("/\x1b"), ValueError(HOSTILE)
    log.get().warning("event", reason=HOSTILE, names=names, raw=raw, path=path, exc_info=error)
    log.get().info("honest", reason="Süd-7 is silent", count=7)
    out = capsys.readouterr().out
    assert_harmless(out)
    assert "owned" in out  # it is shown
    last = out.splitlines()[-1]
    assert "count" in last
    if style == "json":
        assert [json.loads(line)["event"] for line in out.splitlines()] == ["event", "honest"]
        assert json.loads(last)["reason"] == "Süd-7 is silent"


def drawn(renderable: Any) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=200, color_system=None, legacy_windows=False)
    console.print(renderable)
    return screen.getvalue()


def test_no_name_on_a_screen_is_obeyed() -> None:
    """Of a broker that cleans nothing, as an older one."""
    flow = make_flow(Config())
    worker = flow.roster.hello(
        name=HOSTILE, host=HOSTILE, pid=1, local=False, now_s=0.0, key=HOSTILE
    )
    worker.model_version = worker.model_hash = HOSTILE
    around = snapshot.Surroundings(
        instance=HOSTILE,
        mqtt={"state": HOSTILE, "address": HOSTILE, "reconnects": 0},
        intake={"queued": 0, "braked": False, "paused": False, "lost_qos0": 0},
        journal={"durability": HOSTILE, "queued": 0, "failure": HOSTILE, "life": 7},
        expected_workers=1,
        failed_slots=[(3, HOSTILE)],
        is_starting=False,
        is_draining=False,
    )
    shot = snapshot.build(flow, around, now_s=1.0, started_s=0.0)
    for width in (60, 100, 200):
        assert_harmless(drawn(render(shot, width)))
    for width in (80, 160):
        assert_harmless(drawn(table(shot["workers"], width)))


def test_a_workers_own_words_are_cleaned_where_they_come_in() -> None:
    bench = Bench()
    welcome = bench.desk.answer(wire.Hello(HOSTILE, HOSTILE, 7), 0.0, "line-7")
    assert isinstance(welcome, wire.Welcome)
    ready = wire.Ready(welcome.worker_id, HOSTILE, HOSTILE, 0.1, {})
    bench.desk.answer(ready, 0.0, "line-7")
    worker = bench.flow.roster.get(welcome.worker_id)
    assert worker is not None
    for text in (worker.name, worker.host, worker.model_version, worker.model_hash):
        assert text == printable(HOSTILE)
    honest = bench.desk.answer(wire.Hello("line-7-2", "host", 8), 0.0, "line-7")
    assert isinstance(honest, wire.Welcome)
    assert [w.name for w in bench.flow.roster.of_name("line-7-2")] == ["line-7-2"]


def test_a_title_of_a_plot_is_text(tmp_path: Path) -> None:
    # prevents: an id with two dollars in it, which is no formula, and an end of `farm plot`
    level = np.zeros(50, np.float32)
    hole = Hole(np.arange(50, dtype=np.float32), level, level, np.ones(50, np.int16), ())
    title = f"hole $\\frac{{$ {HOSTILE}"
    figure = hole_figure(hole, Insufficient("nothing"), title=title)
    write_png(figure, tmp_path / "hole.png")
    assert (tmp_path / "hole.png").stat().st_size > 10_000
    assert_harmless(figure.get_suptitle().replace("\n", ""))
    assert "$\\frac{$" in figure.get_suptitle()


# ---- messages between processes ------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def by_hand(message: Any) -> bytes:
    """As somebody packs it who checks nothing."""
    names = getattr(message, "_fields", None) or [
        field.name for field in dataclasses.fields(message)
    ]
    fields = [getattr(message, name) for name in names]
    kind = wire.kind_of(type(message))
    packed: bytes = msgpack.packb([wire.PROTOCOL, *fields])
    return bytes([kind]) + packed


def result(**change: Any) -> wire.Result:
    honest = wire.Result(1, 2, "ok", [1.0], "", {"a": "b"}, "v", "h", 0.1, 0.1, 0.5, 9)
    return honest._replace(**change)


NAME, REASON = "n" * wire.MAX_NAME_CHARS, "r" * wire.MAX_REASON_CHARS
BOUNDS = [  # the largest that goes, and the least that does not
    (wire.Hello(NAME, NAME, 1), wire.Hello(NAME + "n", "h", 1)),
    (wire.Hello(NAME, NAME, 1), wire.Hello("n", NAME + "n", 1)),
    (wire.Ready(1, NAME, NAME, 0.1, {}), wire.Ready(1, NAME + "n", "h", 0.1, {})),
    (wire.Ready(1, NAME, NAME, 0.1, {}), wire.Ready(1, "v", NAME + "n", 0.1, {})),
    (wire.Ready(1, "v", "h", 9.0, {}), wire.Ready(1, "v", "h", math.nan, {})),
    (wire.Ready(1, "v", "h", 9.0, {}), wire.Ready(1, "v", "h", math.inf, {})),
    (
        wire.Ready(1, "v", "h", 0.1, {"value": nested(wire.MAX_DEPTH - 1)}),
        wire.Ready(1, "v", "h", 0.1, {"value": nested(wire.MAX_DEPTH)}),
    ),
    (wire.Heartbeat(1, "draining", 1), wire.Heartbeat(1, "drained", 1)),
    (wire.Heartbeat(1, "working", 1), wire.Heartbeat(1, HOSTILE[:9], 1)),
    (wire.Fetch(NAME, 0), wire.Fetch(NAME + "n", 0)),
    (wire.Bye(1, "r" * wire.MAX_KEY_CHARS), wire.Bye(1, "r" * (wire.MAX_KEY_CHARS + 1))),
    (wire.Claim(1, [1] * 16, [1] * 16), wire.Claim(1, [1] * 17, [1] * 17)),
    (wire.Bounce(1, [1] * 16, [1] * 16), wire.Bounce(1, [1] * 17, [1] * 17)),
    (result(reason=REASON), result(reason=REASON + "r")),
    (result(status=NAME), result(status=NAME + "n")),
    (result(model_version=NAME), result(model_version=NAME + "n")),
    (result(model_hash=NAME), result(model_hash=NAME + "n")),
    (result(value=nested(wire.MAX_DEPTH)), result(value=nested(wire.MAX_DEPTH + 1))),
    (
        result(provenance={"a": nested(wire.MAX_DEPTH - 1)}),
        result(provenance={"a": nested(wire.MAX_DEPTH)}),
    ),
    (result(value={"a": {"b": [1]}}), result(value={"a": [nested(500)]})),
    (result(read_s=0), result(read_s=math.nan)),
    (result(infer_s=1), result(infer_s=-1.0)),
    (result(demand=1), result(demand=math.inf)),
    (wire.StoryRequest("s" * 1000, "p"), wire.StoryRequest("s" * 1001, "p")),
    (wire.DrainWorker(NAME), wire.DrainWorker(NAME + "n")),
]


@pytest.mark.parametrize("pair", BOUNDS, ids=lambda pair: f"{type(pair[0]).__name__}")
def test_each_bound_of_a_message_lets_the_largest_through(pair: tuple[Any, Any]) -> None:
    honest, hostile = pair
    assert wire.decode([by_hand(honest)]) == honest
    with pytest.raises(WireError) as refused:
        wire.decode([by_hand(hostile)])
    assert type(hostile).__name__ in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_a_version_that_is_nested_ends_nobody(depth: int) -> None:
    # prevents: a thousand bytes that ended the broker: the sentence of their refusal showed them
    with pytest.raises(WireError):
        wire.decode([b"\x10" + b"\x91" * depth + b"\xc0"])


def test_what_is_refused_is_not_repeated() -> None:
    # prevents: a refusal of four megabytes, which can't be sent, and ended the broker
    frame = by_hand(wire.Heartbeat(1, "working", 1)).ljust(wire.MAX_HEAD_BYTES, b"\0")
    with pytest.raises(WireError) as refused:
        wire.decode([frame])
    assert len(str(refused.value)) < 200


# ---- the broker's sockets ------------------------------------------------------------------------


def test_each_socket_takes_what_its_role_needs() -> None:
    # prevents: a control socket that takes 64 MB from whoever has a key
    assert {role: role.value.max_frame_bytes for role in Role} == {
        Role.JOBS_SENDER: MAX_FRAME_BYTES,
        Role.JOBS_RECEIVER: MAX_PART_BYTES,
        Role.RESULTS_RECEIVER: MAX_FRAME_BYTES,
        Role.RESULTS_SENDER: MAX_FRAME_BYTES,
        Role.CONTROL_SERVER: MAX_FRAME_BYTES,
        Role.CONTROL_CLIENT: MAX_FRAME_BYTES,
    }
    assert wire.MAX_HEAD_BYTES < MAX_FRAME_BYTES < 1.1 * wire.MAX_HEAD_BYTES
    context: zmq.Context[Any] = zmq.Context()
    try:
        made = open_socket(context, Role.CONTROL_CLIENT, "tcp://127.0.0.1:9")
        assert made.getsockopt(zmq.MAXMSGSIZE) == MAX_FRAME_BYTES
    finally:
        context.destroy(linger=0)


def test_the_largest_message_fits_the_frame_of_a_job() -> None:
    # prevents: a hole that can be taken in and never be sent, and costs a connection each time
    with pytest.raises(ValueError, match="64000000"):
        Config.model_validate({"limits": {"message_bytes": MAX_PART_BYTES}})
    sizes = dict.fromkeys(("memory_bytes", "max_open_bytes"), 2_000_000_000)
    most = {"limits": {"message_bytes": 64_000_000}, "overload": sizes}
    assert Config.model_validate(most).limits.message_bytes < MAX_PART_BYTES


class Desk:
    """A switchboard, with whoever talks to it on this machine."""

    def __init__(self, tmp_path: Path) -> None:
        flow = make_flow(Config())
        self.counts: Counter[str] = Counter()
        places = {name: f"ipc://{tmp_path}/{name}" for name in ("jobs", "results", "control")}
        self.board = Switchboard(
            Endpoints(**places),
            doors=None,
            gate=Gate(flow.roster, flow.ledger),
            waker=Waker(),
            counts=self.counts,
        )
        self.context: zmq.Context[Any] = zmq.Context()
        self.results = open_socket(self.context, Role.RESULTS_SENDER, places["results"])

    def heard(self, frames: list[bytes]) -> int:
        self.results.send_multipart(frames)
        self.board.wait(5000)
        return sum(map(len, self.board.results()))

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.board.close()


def test_results_of_too_many_frames_are_refused_whole(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    try:
        claim = wire.encode(wire.Claim(1, [1], [1]))
        assert desk.heard([claim] * wire.MAX_FRAMES) == wire.MAX_FRAMES
        assert desk.counts["bad_frames"] == 0
        assert desk.heard([claim] * (wire.MAX_FRAMES + 1)) == 0
        assert desk.counts["bad_frames"] == 1
    finally:
        desk.close()


# ---- how many, how often -------------------------------------------------------------------------

RATES = AttachConfig(requests_hz=10.0, results_hz=100.0)


def rates() -> tuple[Rates, Counter[str]]:
    counts: Counter[str] = Counter()
    return Rates(RATES, counts), counts


def test_a_key_may_say_so_much_in_a_second_and_ten_seconds_of_it_at_once() -> None:
    made, counts = rates()
    burst = int(10 * BURST_S)
    assert [made.fault("a", REQUESTS, 1, 0.0) for _ in range(burst)] == [""] * burst
    assert "attach.requests_hz" in made.fault("a", REQUESTS, 1, 0.0)
    assert counts["rate_limited"] == 1
    assert made.fault("a", RESULTS, 1, 0.0) == ""  # another bucket
    assert made.fault("b", REQUESTS, 1, 0.0) == ""  # another key
    for second in range(1, 100):  # the honest one: just its rate, for ever
        for _ in range(10):
            assert made.fault("a", REQUESTS, 1, float(second)) == ""
    assert "attach.requests_hz" in made.fault("a", REQUESTS, 11, 100.0)
    assert made.take_offenders() == {}


def test_this_machine_has_no_rate() -> None:
    made, counts = rates()
    assert not any(made.fault("", REQUESTS, 1000, 0.0) for _ in range(1000))
    assert not counts


def test_who_goes_on_beyond_the_rate_is_named_once() -> None:
    made, counts = rates()
    burst = int(10 * BURST_S)
    for _ in range(2 * burst):
        made.fault("a", REQUESTS, 1, 0.0)
    assert list(made.take_offenders()) == ["a"]
    assert made.take_offenders() == {}
    assert counts["rate_limited"] == burst
    # who says too much now and then, and is quiet in between, is none
    for hour in range(1, 50):
        for _ in range(burst + burst // 2):
            made.fault("b", REQUESTS, 1, 3600.0 * hour)
    assert made.take_offenders() == {}


def test_what_a_key_says_since_we_made_it_costs_it_nothing() -> None:
    """A machine of busy workers that is kept out for the bounces that a GPU beside them causes; or
    a bucket that fills beyond its edge.
    """
    made, counts = rates()
    for _ in range(20 * int(RATES.results_hz * BURST_S)):
        assert made.fault("a", RESULTS, 1, 0.0) == ""
        made.give_back("a", RESULTS, 1)
    assert not counts
    made.give_back("a", RESULTS, 1000)
    made.give_back("nobody", RESULTS, 1)
    burst = int(RATES.results_hz * BURST_S)
    assert [made.fault("a", RESULTS, 1, 0.0) != "" for _ in range(burst + 1)].count(True) == 1


def test_what_a_key_has_sent_before_it_was_kept_out_is_not_heard() -> None:
    # prevents: a Hello that waited in the socket, taken for a worker behind a shut door
    made, _counts = rates()
    for _ in range(2 * int(10 * BURST_S)):
        made.fault("a", REQUESTS, 1, 0.0)
    out_s = RATES.keep_out_s
    assert "kept out" in made.fault("a", REQUESTS, 1, out_s - 0.1)
    assert "kept out" in made.fault("a", RESULTS, 1, out_s - 0.1)
    assert made.fault("b", REQUESTS, 1, out_s - 0.1) == ""
    assert made.fault("a", REQUESTS, 1, out_s) == ""


def test_a_key_that_is_kept_out_comes_in_again_later(tmp_path: Path) -> None:
    keyring, counts, now_s = Keyring(tmp_path), Counter[str](), [0.0]
    pairs = {name: keyring.add(name) for name in ("line-7", "line-8")}
    keeper = Doorkeeper(keyring, counts, lambda: now_s[0])

    def status(name: str) -> bytes:
        key = zmq.utils.z85.decode(pairs[name].public)
        return keeper.answer([b"1.0", b"1", b"farm", b"1.2.3.4", b"", b"CURVE", key])[2]

    assert status("line-7") == b"200"
    keeper.keep_out("line-7", 60.0)
    assert (status("line-7"), status("line-8")) == (b"400", b"200")
    assert (counts["kept_out"], counts["turned_away"]) == (1, 1)
    now_s[0] = 59.9
    assert status("line-7") == b"400"
    now_s[0] = 60.1
    assert status("line-7") == b"200"


def test_no_more_workers_than_may_be() -> None:
    bench = Bench()
    bench.desk._attach = AttachConfig(max_workers=3, max_workers_per_key=2)

    pids = itertools.count(1)  # another process each time: the same one again is one worker

    def hello(key: str) -> wire.Message:
        return bench.desk.answer(wire.Hello("w", "far", next(pids)), 0.0, key)

    assert isinstance(hello("a"), wire.Welcome)
    assert isinstance(hello("a"), wire.Welcome)
    refused = hello("a")
    assert isinstance(refused, wire.Refused)
    assert "attach.max_workers_per_key" in refused.reason
    assert isinstance(hello("b"), wire.Welcome)
    full = hello("b")
    assert isinstance(full, wire.Refused)
    assert "attach.max_workers," in full.reason
    assert bench.flow.counts["workers_refused"] == 2
    assert isinstance(hello(""), wire.Welcome)  # our own are the supervisor's to count
    [leaver] = bench.flow.roster.of_key("b")
    bench.desk.let_go(leaver, "done", 1.0)
    assert isinstance(hello("b"), wire.Welcome)


def test_strangers_that_never_get_ready_do_not_cost_the_golden_hole() -> None:
    # prevents: a key whose Hellos switch off the check on new workers
    bench = Bench()
    golden = bench.flow.dispatcher.golden
    golden.keep({"trace": b"x"}, 1.0, "h", 0.0)
    for far in ("line-7",) * 20:
        welcome = bench.desk.answer(wire.Hello("w", "far", 1), 0.0, far)
        assert isinstance(welcome, wire.Welcome)
        worker = bench.flow.roster.get(welcome.worker_id)
        assert worker is not None
        bench.desk.let_go(worker, "silent", 1.0)
    assert golden.parts
    for pid in range(20):  # the other side: it can be the hole that ends our own
        welcome = bench.desk.answer(wire.Hello("w", "here", pid), 0.0)
        assert isinstance(welcome, wire.Welcome)
        worker = bench.flow.roster.get(welcome.worker_id)
        assert worker is not None
        bench.desk.let_go(worker, "signal 11", 1.0)
    assert not golden.parts


# ---- the output is never the input ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "topic", "is_match"),
    [
        ("a/b", "a/b", True), ("a/b", "a/c", False), ("a/b", "a/b/c", False), ("a/b", "a", False),
        ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/+", "a", False), ("+/+", "/b", True),
        ("a/#", "a", True), ("a/#", "a/b/c", True), ("#", "a/b", True), ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False), ("$SYS/#", "$SYS/x", True), ("$share/g/a/+", "a/b", True),
        ("$share/g/a/+", "b/a", False), ("", "a", False), ("+", "", True),
    ],
)  # fmt: skip
def test_a_filter_takes_in_what_mqtt_says(topic_filter: str, topic: str, *, is_match: bool) -> None:
    assert matches(topic_filter, topic) is is_match


def letter() -> Letter:
    return Letter(0, "s", "1", None, 0.0, 0.0, 0.0)


def test_an_answer_on_a_topic_that_is_taken_in_is_set_aside() -> None:
    # prevents: an adapter whose answers come back in, are answered, and so on for ever
    outbox = Outbox(max_inflight=9, is_input=lambda topic: topic.endswith("/in"))
    outbox.add((Publication("a/in", b"x"),), letter())
    outbox.add((Publication("a/out", b"y"),), letter())
    honest = outbox.next_to_send()
    assert honest is not None
    assert honest.topic == "a/out"
    [refused] = outbox.take_set_aside()
    assert "takes in itself" in refused.refusals[0]
    assert outbox.loops == 1


class Loop(FakeAdapter):
    """Answers where it listens."""

    def route(self, topic: str) -> Any:
        return super().route("box/tool/result" if topic == "out/box/tool" else topic)


@pytest.mark.parametrize("is_looping", [True, False])
def test_an_adapter_that_answers_itself_is_told_so(*, is_looping: bool) -> None:
    flow = make_flow(Config(), Loop() if is_looping else FakeAdapter())
    flow.arrived("box/tool/result", b"no colon", arrived_s=0.0, intake_s=0.0, now_s=0.0)
    found = flow.publication(0.0)
    assert found is not None  # the other news of the farm go out in any case
    assert (found.topic == "out/box/tool") is not is_looping
    assert flow.outbox.loops == int(is_looping)
    assert flow.counts["refused_publications"] == int(is_looping)


class Listener(FakeAdapter):
    """Subscribes to what a test says."""

    filters: tuple[Any, ...] = ()
    takes: str = ""

    def topic_filters(self) -> tuple[str, ...]:
        return self.filters

    def route(self, topic: str) -> Any:
        return object() if topic == self.takes else None


NEWS = ("farm/x/status", "farm/x/dead")


@pytest.mark.parametrize(
    "filters",
    [(), ("",), (7,), ("a/#/b",), ("a#",), ("a+/b",), ("a\x00",), ("a\ud800",), ("x" * 70_000,),
     ("a",) * 101],
)  # fmt: skip
def test_subscriptions_that_are_none_are_refused_at_the_start(filters: tuple[Any, ...]) -> None:
    adapter = Listener()
    adapter.filters = filters
    with pytest.raises(ConfigError, match=r"traffic\.adapter"):
        check_filters(adapter, NEWS)


def test_the_farms_own_news_are_no_input() -> None:
    adapter = Listener()
    adapter.filters, adapter.takes = ("#",), "farm/x/dead"
    with pytest.raises(ConfigError, match="answer its own news"):
        check_filters(adapter, NEWS)
    adapter.takes = "site/other"
    check_filters(adapter, NEWS)
    adapter.filters, adapter.takes = ("site/+/in", "$share/g/site/#"), "farm/x/dead"
    check_filters(adapter, NEWS)  # routed, but not subscribed to


# ---- MQTT ----------------------------------------------------------------------------------------


def heads(source: str, size: int) -> Part:
    from farm.broker.buffer import Part  # noqa: PLC0415 - named in a hint above

    return Part("heads", source, None, b"h" * size, 0.0)


def test_optional_parts_are_remembered_by_bytes_too() -> None:
    # prevents: ten thousand made-up tools with 4 MB of Heads each, kept in memory for ever
    habits = Habits("auto", max_sources=10_000, max_bytes=10_000)
    for n in range(1000):
        habits.note(heads(f"tool-{n}", 1000))
    kept = [n for n in range(1000) if habits.newest(f"tool-{n}", ["heads"])]
    assert kept == [995, 996, 997, 998, 999]  # each counts twice, since it is bound to no join yet
    habits.note(heads("large", 50_000))  # the newest one is remembered whatever its size
    assert habits.newest("large", ["heads"])
    honest = Habits("auto", max_sources=10_000, max_bytes=64_000_000)
    for n in range(10_000):
        honest.note(heads(f"tool-{n}", 1000))
    assert len(honest) == 10_000


def test_what_is_taken_or_replaced_weighs_nothing() -> None:
    # prevents: a count that only rises, until nothing is remembered any more
    habits = Habits("auto", max_sources=100, max_bytes=10_000)
    for _ in range(100):
        habits.note(heads("a", 2000))
        habits.take_loose("a", ["heads"], since_s=0.0)
    habits.note(heads("b", 1000))
    assert habits.newest("a", ["heads"])
    assert habits._payload_bytes == 2000 + 2 * 1000


@pytest.mark.parametrize("text", ["x" * 1000, "x" * 1001])
def test_a_message_beyond_the_limit_is_told_of_with_its_knob(text: str) -> None:
    limits = {"limits": {"message_bytes": 1004}}
    flow = make_flow(Config.model_validate(limits))
    flow.arrived("box/tool/trace", payload("440", text), arrived_s=0.0, intake_s=0.0, now_s=0.0)
    is_large = len(text) > 1000
    assert flow.counts["rejected"] == int(is_large)
    assert len(flow.correlator.buffer) == int(not is_large)


# ---- configuration -------------------------------------------------------------------------------

LAUGHS = "model_settings:\n  a: &a [x, x]\n" + "".join(
    f"  {chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
)
MERGES = "model_settings:\n  a: &a {x: 1}\n" + "".join(
    f"  {chr(98 + n)}: &{chr(98 + n)}\n    <<: [*{chr(97 + n)}, *{chr(97 + n)}]\n"
    for n in range(24)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, "100000 values"),
        (MERGES, "100000 values"),
        ("model_settings: &a [*a]\n", "nested without end"),
        ("model_settings: " + "[" * 5000, "nested without end"),
        ("# " + "ä" * MAX_FILE_BYTES, "1000000 bytes"),
        ("model_settings: !!python/object/apply:os.system [id]\n", "tag is not supported"),
    ],
    ids=["laughs", "merges", "inside itself", "deep", "long", "python"],
)
def test_a_configuration_that_is_a_bomb_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(text, encoding="utf-8")
    reading = read_file(path)
    assert any(problem in each for each in reading.problems), reading.problems
    assert not reading.settings


def test_honest_aliases_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text("model_settings:\n  a: &a {x: 1}\n  b: *a\n  c: {<<: *a, y: 2}\n")
    reading = read_file(path)
    assert not reading.problems
    [setting] = reading.settings
    assert setting.value == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


def test_a_value_of_the_environment_is_no_bomb_either() -> None:
    assert plain_value("{a: &a [1], b: *a}") == {"a": [1], "b": [1]}
    bomb = "[&a [1, 1], " + "".join(
        f"&{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}], " for n in range(24)
    )
    with pytest.raises(ValueError, match="100000 values"):
        plain_value(bomb + "1]")


def test_the_page_of_limits_names_knobs_that_there_are() -> None:
    # prevents: a knob that was renamed, and an operator who turns it in vain
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    sections = "limits|correlation|attach|overload|intake|dispatch|workers|mqtt.listener"
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", page))
    counters = {"intake.oversize", "intake.overruns"}
    assert len(named - counters) > 15
    assert named - counters <= set(tree().leaves)
    limits = {key for key in tree().leaves if key.startswith(("limits.", "attach.max", "attach.r"))}
    assert limits <= named


# ---- what no code of ours does -------------------------------------------------------------------

BANNED_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "jsonpickle", "cloudpickle"}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_METHODS = {  # by the name before the dot
    "yaml": {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"},
    "os": {"system", "popen"},
    "torch": {"load", "save"},
    "subprocess": {"getoutput", "getstatusoutput"},
}
UNSAFE_LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader"}


def banned(tree: ast.AST) -> Iterator[str]:
    """What in a module makes code of data, or a shell of a text."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            yield from (f"{line}: import {a.name}" for a in node.names if _is_banned(a.name))
        elif isinstance(node, ast.ImportFrom) and _is_banned(node.module or ""):
            yield f"{line}: from {node.module}"
        elif isinstance(node, ast.Attribute) and node.attr in UNSAFE_LOADERS:
            yield f"{line}: {node.attr}"
        elif isinstance(node, ast.Call):
            yield from (f"{line}: {what}" for what in _banned_in_call(node))


def _is_banned(module: str) -> bool:
    return module.partition(".")[0] in BANNED_MODULES


def _banned_in_call(call: ast.Call) -> Iterator[str]:
    match call.func:
        case ast.Name(name) if name in BANNED_CALLS:
            yield name
        case ast.Attribute(ast.Name(module), name) if name in BANNED_METHODS.get(module, ()):
            yield f"{module}.{name}"
    for keyword in call.keywords:
        if keyword.arg in ("shell", "allow_pickle") and not (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        ):
            yield str(keyword.arg)


SOURCES = sorted(Path(farm.__file__).parent.rglob("*.py"))


def test_nothing_makes_code_of_data() -> None:
    # prevents: a message, a file or a model that chooses what code is run
    assert len(SOURCES) > 200
    found = {
        f"{path}:{what}"
        for path in SOURCES
        for what in banned(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import marshal", "import dill as d",
        "eval(x)", "exec(x)", "compile(x, '', 'exec')", "__import__(x)", "yaml.load(x)",
        "yaml.unsafe_load(x)", "yaml.compose(x, Loader=yaml.Loader)", "torch.load(x)",
        "subprocess.run(x, shell=True)", "subprocess.run(x, shell=y)", "os.system(x)",
        "np.load(x, allow_pickle=True)",
    ],
)  # fmt: skip
def test_the_ban_sees_it(code: str) -> None:
    assert list(banned(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["import json", "yaml.safe_load(x)", "net.eval()", "re.compile(x)", "launcher.exec(slot)",
     "yaml.compose(x, Loader=yaml.SafeLoader)", "np.load(x, allow_pickle=False)",
     "subprocess.run([x])", "safetensors.torch.load_file(x)"],
)  # fmt: skip
def test_the_ban_lets_the_rest_be(code: str) -> None:
    assert not list(banned(ast.parse(code)))
