"""Holes as spans: what is told, of which holes, and what happens when nobody takes it."""

import threading
from collections import Counter

import pytest
from otlp_collector import Collector

from farm.adapter import Finished, Status, Terminal
from farm.config.telemetry import TelemetryConfig
from farm.simulation.ports import free_port
from farm.telemetry.otlp import Otlp, OtlpExporter, url_of
from farm.telemetry.spans import EndedHole, HoleSpans, tree_of

UTC_S = 1_700_000_000.0
LIFE = [
    [0.0, "first part", ""],
    [0.1, "paired", ""],
    [0.2, "dispatched", ""],
    [0.3, "bounced", ""],
    [0.4, "dispatched", "attempt 2"],
    [0.5, "claimed", "worker 3"],
    [0.9, "computed", "worker 3, 3.90 ms"],
    [1.0, "answered", "published"],
]


def hole(events=None, *, terminal="published", lives=None, reason=""):
    story = lives or [[UTC_S, 0, LIFE if events is None else events]]
    return EndedHole(
        hole_id=7,
        source="BOX-1/UNIT-1",
        part_id="440",
        terminal=terminal,
        reason=reason,
        model_version="rule-2",
        story=story,
        answered_at_s=UTC_S + 1.0,
        ended_at_s=UTC_S + 1.5,
    )


def told(tree):
    return [
        (span.name, round(span.start_s - UTC_S, 3), round(span.end_s - UTC_S, 3), span.failure)
        for span in (tree, *tree.children)
    ]


def test_a_hole_is_one_trace_without_a_gap():
    # prevents: time that nobody is to blame for, since no span covers it
    assert told(tree_of(hole())) == [
        ("hole", 0.0, 1.5, ""),
        ("pair", 0.0, 0.1, ""),
        ("wait", 0.1, 0.2, ""),
        ("compute", 0.2, 0.3, "bounced"),
        ("wait", 0.3, 0.4, ""),
        ("compute", 0.4, 0.9, ""),
        ("answer", 0.9, 1.0, ""),
        ("publish", 1.0, 1.5, ""),
    ]


def test_who_did_it_stands_with_the_attempt():
    # prevents: a slow worker that can't be told from the others
    attempt = tree_of(hole()).children[4]
    assert [name for _, name in attempt.events] == [
        "claimed worker 3",
        "computed worker 3, 3.90 ms",
    ]


def test_a_hole_that_was_given_up_is_an_error_with_its_reason():
    # prevents: dead letters that look like fast answers
    events = [[0.0, "first part", ""], [30.0, "given up", ""], [30.1, "answered", "dead"]]
    tree = tree_of(hole(events, terminal="dead", reason="no trace arrived"))
    assert tree.failure == "no trace arrived"
    assert told(tree)[1:3] == [("pair", 0.0, 30.0, "given up"), ("answer", 30.0, 30.1, "")]


def test_a_worker_that_died_is_an_attempt_that_failed():
    # prevents: the time with a worker that hung counted as waiting
    events = [*LIFE[:3], [5.0, "worker lost", "worker 2"], *([t + 5, w, d] for t, w, d in LIFE[4:])]
    names = told(tree_of(hole(events)))
    assert names[3] == ("compute", 0.2, 5.0, "worker lost worker 2")


def test_a_hole_of_two_lives_is_one_trace():
    # prevents: a crash of the broker after which holes seem to have come from nowhere
    second = [[0.0, "recovered", ""], *([t, w, d] for t, w, d in LIFE[2:])]
    tree = tree_of(hole(lives=[[UTC_S, 0, LIFE[:3]], [UTC_S + 10.0, 0, second]]))
    assert tree.start_s == UTC_S
    assert ("compute", 0.2, 10.0, "recovered") in told(tree)


@pytest.mark.parametrize("cut", range(len(LIFE)))
def test_a_story_with_holes_in_it_makes_no_trouble(cut):
    # prevents: a broker that ends because the middle of a long story was left out
    for events in (LIFE[cut:], LIFE[:cut], LIFE[:2] + LIFE[cut:]):
        tree = tree_of(hole(events))
        assert all(span.end_s >= span.start_s for span in (tree, *tree.children))


# Which holes


class Taker:
    def __init__(self, room=1000):
        self.holes, self.room = [], room

    def put(self, one):
        if len(self.holes) >= self.room:
            return False
        self.holes.append(one)
        return True


def spans_for(taker, *, ratio=1.0, most=10, pick=lambda: 0.5):
    counts = Counter()
    made = HoleSpans(
        taker.put, sample_ratio=ratio, most=most, counts=counts, at=lambda s: UTC_S + s, pick=pick
    )
    return made, counts


def answer(spans, hole_id, terminal=Terminal.PUBLISHED):
    finished = Finished("BOX-1/UNIT-1", "440", Status.OK, None, "", {}, "rule-2", "f00d")
    spans.answered(hole_id, finished, terminal, [[UTC_S, 0, LIFE]], 1.0)


def test_a_hole_is_told_when_it_has_ended():
    # prevents: traces of answers that nobody has got yet
    taker = Taker()
    spans, _ = spans_for(taker)
    answer(spans, 7)
    assert taker.holes == []
    spans.ended(7, Terminal.PUBLISHED, 1.5)
    spans.ended(8, Terminal.PUBLISHED, 1.5)  # answered in a former life
    assert taker.holes == [hole()]


@pytest.mark.parametrize(
    ("picked", "terminal", "is_told"),
    [
        (0.09, Terminal.PUBLISHED, True),
        (0.1, Terminal.PUBLISHED, False),
        (0.99, Terminal.DEAD, True),
        (0.99, Terminal.SHED, True),
        (0.99, Terminal.INSUFFICIENT, False),
    ],
)
def test_a_share_of_the_holes_is_told_and_all_that_went_wrong(picked, terminal, is_told):
    # prevents: a collector that drowns, or that lacks just the holes one looks for
    taker = Taker()
    spans, _ = spans_for(taker, ratio=0.1, pick=lambda: picked)
    answer(spans, 7, terminal)
    spans.ended(7, terminal, 1.5)
    assert len(taker.holes) == is_told


def test_memory_is_bounded_and_what_does_not_fit_is_counted():
    # prevents: an outage of MQTT, in which no hole ends, that fills the memory
    taker = Taker(room=2)
    spans, counts = spans_for(taker, most=3)
    for hole_id in range(5):
        answer(spans, hole_id)
    assert counts["traces_dropped"] == 2
    for hole_id in range(5):
        spans.ended(hole_id, Terminal.PUBLISHED, 2.0)
    assert len(taker.holes) == 2
    assert counts["traces_dropped"] == 3


# The thread


class Slow:
    """A collector that takes nothing until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.begun = threading.Event()
        self.holes = []

    def send(self, holes):
        self.begun.set()
        self.go.wait(20)
        self.holes += holes
        return ""


def test_nobody_waits_for_a_collector_that_hangs():
    # prevents: a slow collector that holds up holes
    slow = Slow()
    exporter = OtlpExporter(lambda: slow, most=5, interval_s=0.01)
    exporter.start()
    assert exporter.put(hole())
    assert slow.begun.wait(10)
    assert [exporter.put(hole()) for _ in range(7)] == [True] * 5 + [False] * 2
    slow.go.set()
    exporter.close(10)
    assert len(slow.holes) == 6


def test_a_sender_that_breaks_ends_the_telling_and_nothing_else(capsys):
    # prevents: a missing library that ends the broker process, or a queue that fills in silence
    def broken():
        raise ImportError("no opentelemetry")

    exporter = OtlpExporter(broken, most=5, interval_s=0.01)
    exporter.start()
    exporter._thread.join(10)
    assert not exporter._thread.is_alive()
    assert not exporter.put(hole())
    exporter.close(1)
    assert "no opentelemetry" in capsys.readouterr().out


# The wire


@pytest.fixture
def make_collector():
    made = []

    def make(**options):
        made.append(Collector(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_collector_gets_the_tree_and_no_terminal_sequence(make_collector, monkeypatch):
    # prevents: spans without parents, times in other units, and a stranger's text taken as it is
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame")
    collector = make_collector()
    sender = Otlp(TelemetryConfig(otlp_endpoint=collector.endpoint), "plant")
    bad = hole(terminal="dead", reason="\x1b[31mred")
    bad.source = "BOX\x1b]0;/UNIT"
    assert sender.send([hole(), bad]) == ""
    assert [path for path, _, _ in collector.requests] == ["/v1/traces"]
    assert collector.requests[0][1]["authorization"] == "Bearer sesame"
    [request] = collector.heard()
    [resource] = request.resource_spans
    names = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert (names["service.name"], names["service.instance.id"]) == ("farm", "plant")
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert len(spans) == 2 * 8
    root, *children = spans[:8]
    assert (root.name, root.parent_span_id) == ("hole", b"")
    assert {child.parent_span_id for child in children} == {root.span_id}
    assert {span.trace_id for span in spans[:8]} == {root.trace_id} != {spans[8].trace_id}
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (
        int(UTC_S * 1e9),
        int((UTC_S + 1.5) * 1e9),
    )
    about = {a.key: a.value.string_value for a in root.attributes}
    assert about == {
        "farm.hole": "0-7",
        "farm.source": "BOX-1/UNIT-1",
        "farm.id": "440",
        "farm.terminal": "published",
        "farm.model": "rule-2",
    }
    assert spans[8].status.message == r"\x1b[31mred"
    about = {a.key: a.value.string_value for a in spans[8].attributes}
    assert about["farm.source"] == r"BOX\x1b]0;/UNIT"


def test_no_password_of_netrc_goes_to_a_collector(make_collector, monkeypatch, tmp_path):
    # prevents: a password that was meant for another program, sent to whoever collects traces
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    collector = make_collector()
    assert Otlp(TelemetryConfig(otlp_endpoint=collector.endpoint), "plant").send([hole()]) == ""
    [(_, headers, _)] = collector.requests
    assert "authorization" not in {name.lower() for name in headers}


@pytest.mark.parametrize("is_there", [True, False])
def test_a_collector_that_refuses_or_is_away_is_a_sentence(make_collector, is_there):
    # prevents: an exception in the thread, or a stderr full of another library's words
    endpoint = (
        make_collector(status=400).endpoint if is_there else f"http://127.0.0.1:{free_port()}"
    )
    config = TelemetryConfig(otlp_endpoint=endpoint, export_timeout_s=0.2)
    assert (
        Otlp(config, "plant")
        .send([hole()])
        .startswith(f"the collector at {endpoint}/v1/traces does not take them")
    )


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a:4318", "http://a:4318/v1/traces"),
        ("http://a:4318/", "http://a:4318/v1/traces"),
        ("https://a/otlp/x", "https://a/otlp/x"),
    ],
)
def test_the_usual_path_is_added(endpoint, url):
    # prevents: 404 of every collector that is named as its documentation names it
    assert url_of(TelemetryConfig(otlp_endpoint=endpoint).otlp_endpoint) == url


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:4318", "grpc://a:4317", "http://u:p@a:4318", "http://", "http://a:0", "http://a:x"],
)
def test_what_is_no_place_is_refused(endpoint):
    # prevents: traces that go nowhere without a word, and a password in `farm config show`
    with pytest.raises(ValueError, match=r"must"):
        TelemetryConfig(otlp_endpoint=endpoint)
