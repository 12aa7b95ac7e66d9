"""What the metrics tell of a flow: all of it, under the names of the catalogue, and few of each."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakes import FakeAnswerer, make_flow, payload
from prometheus_client.parser import text_string_to_metric_families

from farm import wire
from farm.adapter import Answer, Terminal
from farm.broker import snapshot
from farm.broker.reception import rules_of
from farm.config import Config
from farm.drilling import answerer
from farm.metrics.catalogue import CATALOGUE, FAMILIES, Type
from farm.metrics.disk import DiskUse, look
from farm.metrics.endings import Ending, ending_of
from farm.metrics.exposition import Exposition
from farm.metrics.hatch import Hatch
from farm.metrics.samples import ELSEWHERE, QUALITY_EVENTS, UNPAIRED, Vocabulary, samples
from farm.metrics.vitals import Vitals
from farm.metrics.words import MAX_CHARS, OTHER, Words
from farm.supervisor.pool import describe_end
from farm.telemetry.histogram import LIMITS_S, Histogram
from farm.telemetry.words import COUNT_WORDS, OF_ANSWERERS, OF_THE_BROKER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.broker.flow import Flow

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
EVIL = '\x1b[31mred"} 1\nfarm_evil 1\u202e\ud800'
DISK = DiskUse(journal_bytes=1, free_bytes=2, size_bytes=3)


@pytest.fixture
def flow() -> Flow:
    return make_flow(Config.model_validate({"correlation": {"optional_parts": "never"}}))


def arrive(
    flow: Flow, kind: str, part_id: str | None, *, now_s: float = 0.0, text: str = ""
) -> None:
    flow.arrived(
        f"box/tool/{kind}", payload(part_id, text), arrived_s=now_s, intake_s=now_s, now_s=now_s
    )


def hire(flow: Flow, name: str, **told: Any) -> Any:
    told = {"host": "here", "pid": 1, "local": True, "version": "m1", "hash": "h1"} | told
    place = {key: told[key] for key in ("host", "pid", "local")}
    worker = flow.roster.hello(name=name, **place, now_s=0.0)
    ready = wire.Ready(worker.worker_id, told["version"], told["hash"], 0.1, {})
    flow.dispatcher.ready(worker, ready)
    return worker


def vitals_of(flow: Flow, **changes: Any) -> Vitals:
    around = snapshot.Surroundings(
        instance="test",
        mqtt={"state": "connected", "reconnects": 2, "retakes": 0, "address": "x"},
        intake={
            **dict.fromkeys(("queued", "payload_bytes", "unacknowledged", "overruns"), 0),
            **dict.fromkeys(("oversize", "lost_qos0", "braked", "paused"), 0),
        },
        journal={"failure": "", "durability": "process", "queued": 0, "commits": 7, "life": 1},
        expected_workers=3,
        failed_slots=(),
        is_starting=False,
        is_draining=False,
        **changes,
    )
    return Vitals(
        snapshot=snapshot.build(flow, around, now_s=1.0, started_s=0.0),
        kinds=flow.kinds,
        messages=dict(flow.correlator.tally),
        stages={stage: histogram.cumulative() for stage, histogram in flow.stages.items()},
        commits=Histogram().cumulative(),
        ready=1,
        exits={},
        credit=1,
        is_dispatch_paused=False,
        inflight=0,
        oldest_answer_s=0.0,
    )


def told_of(
    vitals: Vitals, words: Vocabulary | None = None
) -> dict[str, dict[tuple[str, ...], Any]]:
    """The samples by name and labels; each there once."""
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    made = samples(vitals, disk=DISK, keep_bytes=9, words=words or Vocabulary.new())
    for name, labels, value in made:
        assert len(labels) == len(FAMILIES[name].labels), name
        assert labels not in found.setdefault(name, {}), (name, labels)
        found[name][labels] = value
    return found


def expose(vitals: Vitals) -> str:
    """The text of a farm, as the HTTP server would send it."""
    hatch = Hatch(lambda: hatch.turn(1.0, lambda _now_s: vitals), lambda: 1.0)
    hatch.turn(1.0, lambda _now_s: vitals)
    made = Exposition(
        hatch, farm=EVIL, partition="0", keep_bytes=9, disk=lambda: DISK, requests=Counter()
    )
    return made.render().decode()


# ---- the catalogue -------------------------------------------------------------------------------


def test_all_that_is_in_the_catalogue_is_exported_and_nothing_else(flow: Flow) -> None:
    """Prevents: a metric that is documented, charted and alerted on, and does not exist."""
    hire(flow, "1")
    fleet = dict.fromkeys(("wanted", "alive", "pending", "restarting", "leaving"), 1)
    text = expose(vitals_of(flow, fleet=fleet, nursery={"made": 1}))
    exported = {
        (f"{each.name}_total" if each.type == "counter" else each.name): each
        for each in text_string_to_metric_families(text)
        if each.name.startswith("farm_")
    }
    assert exported.keys() == FAMILIES.keys()
    for name, family in FAMILIES.items():
        assert exported[name].type == family.type.value, name
        assert exported[name].documentation == family.help, name
        for sample in exported[name].samples:
            assert set(sample.labels) - {"le"} == set(family.labels), name


def test_the_page_shows_the_catalogue() -> None:
    """Prevents: a page that names metrics of last year."""
    rows = re.findall(
        r"^\| `(farm_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", PAGE.read_text(), re.MULTILINE
    )
    assert rows == [
        (each.name, each.type.value, ", ".join(each.labels), each.help) for each in CATALOGUE
    ]


def test_names_follow_the_conventions() -> None:
    """Prevents: milliseconds, kilobytes, and counters that look like gauges."""
    assert len(FAMILIES) == len(CATALOGUE)
    for name, type_, labels, text in CATALOGUE:
        assert re.fullmatch(r"farm_[a-z0-9_]+", name)
        assert name.endswith("_total") == (type_ is Type.COUNTER), name
        assert not re.search(r"_(ms|millis|kb|mb|percent|minutes|hours)(_|$)", name), name
        assert text.endswith("."), name
        assert "|" not in text
        assert not {"tool", "source", "id", "part_id", "topic"} & set(labels), "unbounded"


def test_every_count_of_the_broker_has_its_place() -> None:
    """Prevents: a new counter that is taken for one of the answerer's own, or told nowhere."""
    broker = set(COUNT_WORDS) - set(QUALITY_EVENTS)
    assert broker <= ELSEWHERE, broker - ELSEWHERE
    assert OF_THE_BROKER == ELSEWHERE, "what an answerer may not raise"
    assert set(QUALITY_EVENTS) == OF_ANSWERERS


def test_every_count_of_the_shipped_answerer_is_told_from_the_first_scrape_on() -> None:
    """Prevents: a counter that appears with its first event, in which Prometheus sees no rise."""
    tree = ast.parse(Path(answerer.__file__).read_text(encoding="utf-8"))
    constants = [
        leaf.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Tuple)
        for leaf in node.elts
        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
    ]
    counted = {text for text in constants if re.fullmatch("[a-z]+(_[a-z]+)+", text)}
    assert counted >= {"invalid_values", "negative_runs"}, "they are written otherwise now"
    assert counted <= set(QUALITY_EVENTS), counted - set(QUALITY_EVENTS)
    assert counted <= set(COUNT_WORDS), counted - set(COUNT_WORDS)


def test_what_the_supervisor_counts_is_not_told_as_none_before_it_has_told() -> None:
    """Prevents: three nurseries that seem to start whenever the broker process restarts."""

    def told(nursery: dict[str, Any]) -> list[float]:
        vitals = vitals_of(make_flow(Config()), nursery=nursery)
        found = samples(vitals, disk=None, keep_bytes=1, words=Vocabulary.new())
        return [value for name, _, value in found if name == "farm_nursery_starts_total"]

    assert told({}) == []
    assert told({"state": "ready", "made": 3}) == [3]
    assert told({"state": "off", "made": 0}) == [0]


# ---- what is told --------------------------------------------------------------------------------


def test_messages_are_told_by_kind_and_by_what_became_of_them() -> None:
    """Prevents: messages that come and are never seen again, in no figure."""
    config = Config.model_validate(
        {
            "correlation": {"optional_parts": "never"},
            "limits": {"message_bytes": 1000},
            "mqtt": {"listener": {"time_window": 10, "duplicate_time_window": 5}},
        }
    )
    flow = make_flow(config)
    arrive(flow, "result", "1")
    arrive(flow, "trace", "1")
    arrive(flow, "trace", "1")  # a duplicate
    arrive(flow, "heads", "1")  # late: its hole is complete
    arrive(flow, "result", "2")  # will find no partner
    arrive(flow, "heads", "3")  # its hole never comes
    arrive(flow, "heads", "3", text="other", now_s=6.0)  # takes the place of that
    flow.arrived("box/tool/trace", b"no colon", arrived_s=0.0, intake_s=0.0, now_s=0.0)
    flow.arrived("box/tool/trace", b"9:" + b"x" * 2000, arrived_s=0.0, intake_s=0.0, now_s=0.0)
    flow.arrived("box/tool/other", b"9:", arrived_s=0.0, intake_s=0.0, now_s=0.0)
    flow.expire(30.0, 30.0)
    told = told_of(vitals_of(flow))
    assert told["farm_messages_received_total"] == {("result",): 2, ("trace",): 4, ("heads",): 3}
    ended = {labels: n for labels, n in told["farm_messages_ended_total"].items() if n}
    assert ended == {
        ("result", "paired"): 1,
        ("trace", "paired"): 1,
        ("trace", "duplicate"): 1,
        ("heads", "late"): 1,
        ("result", "unpaired"): 1,
        ("heads", "replaced"): 1,
        ("heads", "unused"): 1,
        ("trace", "unreadable"): 1,
        ("trace", "too_large"): 1,
    }
    assert told["farm_messages_waiting"] == {("result",): 0, ("trace",): 0, ("heads",): 0}
    assert told["farm_messages_ignored_total"][("foreign_topic",)] == 1
    assert told["farm_holes_unpaired_total"] == {
        **{(reason,): 0 for reason in UNPAIRED},
        ("expired",): 1,
    }
    assert told["farm_holes_ended_total"][("dead",)] == 0  # its error is not confirmed yet
    assert told["farm_holes_open"][()] == 2


def test_a_replaced_message_is_one_whichever_policy_did_it() -> None:
    """Prevents: figures that do not add up under duplicate_handling: replace."""
    listener = {"duplicate_handling": "replace"}
    flow = make_flow(Config.model_validate({"mqtt": {"listener": listener}}))
    assert rules_of(Config()).duplicate_handling == "ignore"
    arrive(flow, "result", "1", text="a")
    arrive(flow, "result", "1", text="b")
    ended = told_of(vitals_of(flow))["farm_messages_ended_total"]
    assert {labels: n for labels, n in ended.items() if n} == {("result", "replaced"): 1}


def test_what_has_not_happened_is_told_as_0(flow: Flow) -> None:
    """Prevents: a first dead letter or negative run of which Prometheus sees no rise."""
    told = told_of(vitals_of(flow))
    for name in ("farm_holes_ended_total", "farm_quality_events_total", "farm_peers_refused_total"):
        assert told[name]
        assert set(told[name].values()) == {0}


def test_a_backlog_that_does_not_shrink_takes_for_ever(flow: Flow) -> None:
    """Prevents: a gap in the curve, or a 0, where it is worst."""
    told = told_of(vitals_of(flow))
    assert told["farm_drain_seconds"][()] == 0
    arrive(flow, "result", "1")
    arrive(flow, "trace", "1")
    told = told_of(vitals_of(flow))
    assert told["farm_drain_seconds"][()] == math.inf
    assert told["farm_backlog_holes"][()] == 1
    assert "farm_drain_seconds +Inf" in expose(vitals_of(flow))


def test_workers_are_told_by_state_and_by_name(flow: Flow) -> None:
    """Prevents: two series of one name, which Prometheus refuses with all others."""
    first, second = hire(flow, "1"), hire(flow, "1", pid=2)
    hire(flow, "2", version="m2", hash="h2")
    first.jobs_done, second.jobs_done = 5, 2
    first.rss_bytes = second.rss_bytes = 100
    flow.roster.take_up(second, 7, 0.25)
    told = told_of(vitals_of(flow))
    assert told["farm_worker_jobs_total"] == {("1", "here"): 7, ("2", "here"): 0}
    assert told["farm_worker_starts_total"] == {("1", "here"): 2, ("2", "here"): 1}
    assert told["farm_worker_memory_bytes"][("1", "here")] == 200
    assert told["farm_worker_job_age_seconds"][("1", "here")] == 0.75
    assert told["farm_workers"] == {("loading",): 0, ("idle",): 2, ("busy",): 1, ("draining",): 0}
    assert (told["farm_workers_ready"][()], told["farm_workers_missing"][()]) == (3, 2)
    assert told["farm_workers_by_model"] == {("m1", "h1"): 2, ("m2", "h2"): 1}


def test_without_a_journal_nothing_is_told_of_it(flow: Flow) -> None:
    """Prevents: an alarm for a journal that there is none of."""
    vitals = vitals_of(flow)
    without = Vitals(
        **{name: getattr(vitals, name) for name in vitals.__slots__} | {"commits": None}
    )
    assert not [name for name in told_of(without) if name.startswith("farm_journal_")]


def test_a_loop_that_does_not_answer_is_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: figures of a hung broker that look fresh, or a scrape that hangs with it."""
    monkeypatch.setattr("farm.metrics.exposition.ASK_TIMEOUT_S", 0.01)
    now_s = 100.0
    hatch = Hatch(lambda: None, lambda: now_s)
    hatch.turn(now_s, lambda _now_s: None)  # type: ignore[arg-type,return-value]
    now_s = 112.0
    made = Exposition(
        hatch, farm="f", partition="", keep_bytes=9, disk=lambda: None, requests=Counter()
    )
    text = made.render().decode()
    assert "\nfarm_loop_tick_age_seconds 12.0\n" in text
    assert "\nfarm_workers" not in text
    assert "\nprocess_resident_memory_bytes " in text


def test_histograms_count_since_the_start_up_to_round_limits() -> None:
    """Prevents: a histogram that falls when the figures of farm stats begin anew."""
    histogram = Histogram()
    for duration_s in (0.0, 1e-4, 0.05, 0.2, 0.2000001, 1.0, 5000.0):
        histogram.add(duration_s)
    before = histogram.cumulative()
    for _ in range(3):
        histogram.rotate()
    assert histogram.count == 0
    after = histogram.cumulative()
    assert after == before
    assert (after.total, after.sum_s) == (7, pytest.approx(5001.4501001))
    up_to = dict(zip(LIMITS_S, after.up_to, strict=True))
    assert [up_to[s] for s in (1e-4, 0.05, 0.1, 0.2, 0.5, 1.0, 1000.0)] == [2, 3, 3, 4, 5, 6, 6]
    assert [f"{limit_s:g}" for limit_s in LIMITS_S[:7]] == [
        *("0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01")
    ]


# ---- strangers' words ----------------------------------------------------------------------------


def test_no_name_of_a_stranger_becomes_a_line_of_its_own(flow: Flow) -> None:
    """Prevents: metrics that a worker, or who names the farm, has made up."""
    hire(flow, EVIL, host=EVIL, version=EVIL, hash=EVIL)
    text = expose(vitals_of(flow))
    assert not re.search(r"^farm_evil", text, re.MULTILINE)
    assert "\x1b" not in text
    assert "\u202e" not in text
    found = {
        label
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for label in sample.labels.values()
    }
    assert all(len(label) <= MAX_CHARS for label in found)


def test_names_are_told_apart_up_to_a_number() -> None:
    """Prevents: a new series for each name that a worker makes up, kept by Prometheus for weeks."""
    words = Words(3)
    assert [words.of(str(n), "h") for n in (1, 2, 3)] == [("1", "h"), ("2", "h"), ("3", "h")]
    assert words.of("4", "h") == (OTHER, OTHER)
    assert words.of("2", "h") == ("2", "h")
    assert len(words.of("x" * 1000)[0]) < 100


def test_workers_beyond_that_number_are_told_as_one(flow: Flow) -> None:
    """Prevents: work that nobody did, in the sum over all workers."""
    for n in range(5):
        hire(flow, f"w{n}").jobs_done = 10
    words = Vocabulary(Words(9), Words(2), Words(9), Words(9))
    jobs = told_of(vitals_of(flow), words)["farm_worker_jobs_total"]
    assert jobs == {("w0", "here"): 10, ("w1", "here"): 10, (OTHER, OTHER): 30}


def test_what_workers_have_done_never_goes_back(flow: Flow) -> None:
    """Prevents: a rise by all that the others have done, whenever one of them leaves."""
    words = Vocabulary(Words(9), Words(2), Words(9), Words(9))
    workers = [hire(flow, f"w{n}", pid=n) for n in range(5)]
    for worker in workers:
        worker.jobs_done = 10
    told_of(vitals_of(flow), words)
    flow.dispatcher.worker_gone(workers[0], "killed", 1.0)
    flow.dispatcher.worker_gone(workers[4], "killed", 1.0)
    hire(flow, "w0", pid=100).jobs_done = 1
    told = told_of(vitals_of(flow), words)
    assert told["farm_worker_jobs_total"][OTHER, OTHER] == 30
    assert told["farm_worker_jobs_total"]["w0", "here"] == 11
    assert told["farm_worker_starts_total"]["w0", "here"] == 2


def test_a_worker_without_a_name_of_its_own_has_one_series_for_all_its_lives(flow: Flow) -> None:
    """Prevents: three hundred restarts of one machine's workers, and no name for any other."""
    words = Vocabulary.new()
    for pid in range(400):
        for name, key in ((f"hall-2-{pid}", "hall-2"), (f"pid-{pid}", "")):
            worker = flow.roster.hello(
                name=name, host="far", pid=pid, local=False, key=key, now_s=0.0
            )
            ready = wire.Ready(worker.worker_id, "m1", "h1", 0.1, {})
            flow.dispatcher.ready(worker, ready)
            worker.jobs_done = 1
        told = told_of(vitals_of(flow), words)
        if pid < 399:
            for worker in tuple(flow.roster.all()):
                flow.dispatcher.worker_gone(worker, "left", 1.0)
    both = {("hall-2", "far"): 400, ("pid", "far"): 400}
    assert told["farm_worker_jobs_total"] == both
    assert told["farm_worker_starts_total"] == both


def test_an_adapters_label_is_short_whatever_it_is_made_of() -> None:
    """Prevents: 663 characters of escapes for 64 that can't be printed."""
    for text in ("\U000e0001" * 64, "x" * 65, "x" * 64, "\x1b" * 30):
        [label] = Words(9).of(text)
        assert len(label) <= MAX_CHARS
        assert label.isprintable()
        assert (text == "x" * 64) is (label == text)


def test_what_an_answerer_counts_is_told_up_to_a_number() -> None:
    """Prevents: an adapter that counts by tool, and a series for each of ten thousand."""

    class Counting(FakeAnswerer):
        def answer(self, finished: Any, now_s: float) -> Answer:  # noqa: ARG002
            return Answer(Terminal.SKIPPED, (), counts=(f"seen {finished.part_id}", "alerts"))

    from fakes import FakeAdapter  # noqa: PLC0415

    config = Config.model_validate({"mqtt": {"listener": {"time_window": 1}}})
    flow = make_flow(config, FakeAdapter(made=Counting()))
    for n in range(30):
        arrive(flow, "result", str(n))
    flow.expire(5.0, 5.0)
    events = told_of(vitals_of(flow))["farm_quality_events_total"]
    assert events[("alerts",)] == 30
    assert events[(OTHER,)] == 10
    assert len(events) == len(QUALITY_EVENTS) + 20 + 1


def test_kinds_of_one_label_are_one_series() -> None:
    """Prevents: a series that is told twice, for which Prometheus refuses all of a scrape."""
    flow = make_flow(Config())
    alike = tuple("x" * MAX_CHARS + end for end in ("a", "b"))
    many = tuple(f"kind-{n}" for n in range(30))
    vitals = vitals_of(flow)
    values = {name: getattr(vitals, name) for name in vitals.__slots__}
    messages = dict.fromkeys(((kind, "received") for kind in (*alike, *many)), 1)
    shot = dict(vitals.snapshot)
    shot["buffers"] = shot["buffers"] | {"parts_by_kind": dict.fromkeys((*alike, *many), 1)}
    made = Vitals(**values | {"kinds": (*alike, *many), "messages": messages, "snapshot": shot})
    found = [
        (name, labels)
        for name, labels, _ in samples(made, disk=None, keep_bytes=1, words=Vocabulary.new())
    ]
    assert len(found) == len(set(found))
    received = told_of(made)["farm_messages_received_total"]
    assert sum(received.values()) == 32
    assert received[OTHER,] == 12


def test_a_kind_that_the_adapter_did_not_declare_is_another(flow: Flow) -> None:
    """Prevents: a series for each topic, where an adapter makes kinds of them."""
    flow.correlator.tally["made/up/1", "received"] = 2
    flow.correlator.tally["made/up/2", "received"] = 3
    received = told_of(vitals_of(flow))["farm_messages_received_total"]
    assert received == {("result",): 0, ("trace",): 0, ("heads",): 0, (OTHER,): 5}


# ---- small parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "ending"),
    [
        ((0,), Ending.ASKED),
        ((1,), Ending.FAILED),
        ((8,), Ending.FAILED),
        ((10,), Ending.FAILED),
        ((77,), Ending.FAILED),
        ((-11,), Ending.SIGNAL),
        ((-9,), Ending.SIGNAL),
    ],
)
def test_how_a_worker_ended_is_one_of_a_few_words(how: Iterable[int], ending: Ending) -> None:
    """Prevents: sentences, with numbers in them, as values of a label."""
    assert ending_of(describe_end(*how)) is ending


def test_what_we_killed_and_what_the_kernel_killed_are_told_apart() -> None:
    """Prevents: an alarm for want of memory where a hung worker was replaced."""
    assert ending_of(describe_end(-9, by_us=True)) is Ending.KILLED
    assert ending_of(describe_end(-9, is_out_of_memory=True)) is Ending.MEMORY


def test_the_disk_is_measured_with_all_that_lies_below(tmp_path: Path) -> None:
    """Prevents: a journal of gigabytes that counts as its database alone."""
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "1").write_bytes(bytes(5000))
    (tmp_path / "journal.db").write_bytes(bytes(300))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = look(tmp_path)
    assert found.journal_bytes == pytest.approx(5300, abs=200)  # and the link's own
    assert 0 < found.free_bytes <= found.size_bytes
