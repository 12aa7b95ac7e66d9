"""What goes into a recording, and how it is told: selection, moments, counts, the account."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from journals import answered, ended, message, open_store, opened
from recordings import SOURCE, S, answer, hole, part, traffic, write

from farm.adapter import Publication
from farm.journal import records as r
from farm.journal.reader import JournalReader
from farm.recording import tally as tallies
from farm.recording.account import Account
from farm.recording.anonymous import Anonymiser
from farm.recording.effort import Effort
from farm.recording.moments import duration_s, moment_ns, told_duration, told_moment
from farm.recording.pseudonyms import Pseudonyms
from farm.recording.reader import RecordingReader
from farm.recording.record import Gap, Message, Note
from farm.recording.recorder import Recorder, kept_messages
from farm.recording.selection import Selection
from farm.recording.tally import Tally
from farm.recording.writer import RecordingWriter

ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"


def record(path, messages, chosen=None, anonymiser=None):
    with RecordingWriter(path, now_ns=0, is_anonymous=anonymiser is not None) as writer:
        recorder = Recorder(writer, traffic(), chosen or Selection(), anonymiser)
        for each in messages:
            recorder.take(each)
    with RecordingReader(path) as reader:
        return recorder, list(reader.records())


@pytest.mark.parametrize(
    ("tools", "source", "wanted"),
    [
        ((), "BOX-1/UNIT-1", True),
        (("BOX-1/UNIT-1",), "BOX-1/UNIT-1", True),
        (("UNIT-1",), "BOX-1/UNIT-1", True),
        (("UNIT-?",), "BOX-1/UNIT-1", True),
        (("BOX-1/*",), "BOX-1/UNIT-9", True),
        (("BOX-2/*", "UNIT-1"), "BOX-1/UNIT-1", True),
        (("BOX-2/*",), "BOX-1/UNIT-1", False),
        (("unit-1",), "BOX-1/UNIT-1", False),
        (("BOX-1",), "BOX-1/UNIT-1", False),
    ],
)
def test_tools_are_chosen_by_patterns(tools, source, wanted):
    """Prevents a recording of the wrong tool, or of none."""
    assert Selection(tools).has_tool(source) is wanted


def test_times_are_chosen_with_their_begin_and_without_their_end():
    """Prevents a message that two neighbouring recordings both have, or neither."""
    chosen = Selection((), 100, 200)
    assert [chosen.has_time(at) for at in (99, 100, 199, 200)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("30", 30), ("10m", 600), ("2 h", 7200), ("1d", 86_400),
     ("1.5h", 5400)],
)  # fmt: skip
def test_durations_are_read(text, seconds):
    """Prevents minutes that are taken for seconds."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "1w", "1e9h", "9999999d", "nan"])
def test_what_is_no_duration_is_told(text):
    """Prevents a recorder that never stops because of a slip."""
    with pytest.raises(ValueError, match="is no duration"):
        duration_s(text)


def test_moments_are_read():
    """Prevents a filter that is hours off."""
    now_ns = 10_000 * S
    assert moment_ns("1h", now_ns=now_ns) == 6400 * S
    wanted = datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert moment_ns("2026-03-01T08:00Z", now_ns=now_ns) == wanted.timestamp() * S
    assert moment_ns("2026-03-01T09:00+01:00", now_ns=now_ns) == wanted.timestamp() * S
    local = datetime(2026, 3, 1, 8).timestamp()  # noqa: DTZ001 - the zone of the machine is meant
    assert moment_ns("2026-03-01T08:00", now_ns=now_ns) == local * S
    midnight = datetime(2026, 3, 1).timestamp()  # noqa: DTZ001 - as above
    assert moment_ns("20260301", now_ns=now_ns) == midnight * S
    for text in ("yesterday", "2026", "30", "999999999d"):
        with pytest.raises(ValueError, match="is no"):
            moment_ns(text, now_ns=now_ns)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "250 ms"), (5, "5.0 s"), (600, "10 min 0 s"), (7300, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_told(seconds, words):
    """Prevents a span that nobody can read."""
    assert told_duration(seconds) == words
    assert told_moment(0) == "1970-01-01T00:00:00Z"
    assert told_moment(2**63 - 1).startswith("2262")


def test_only_what_is_wanted_is_recorded(tmp_path):
    """Prevents a filter that forgets the answers, or lets strangers in."""
    wanted = [*hole(1, source="B/U1", at_s=100)]
    late = hole(2, source="B/U1", at_s=500)
    other = hole(1, source="B/U2", at_s=100)
    stranger = Message(100 * S, "OPCPUBSUB/B/U1/Servos", b"{}")
    said = [answer(f"{ESTIMATE}.KeyPoints", b"{}", source=tool) for tool in ("B/U1", "B/U2")]
    chosen = Selection(("U1",), 0, 400 * S)
    recorder, found = record(
        tmp_path / "r", [*wanted, *late, *other, stranger, *said, Gap(1, 2, "x")], chosen
    )
    assert found == [*wanted, said[0], Gap(1, 2, "x")]
    assert recorder.tally.messages == 3
    assert recorder.tally.holes == 1
    assert not recorder.left_out


def test_what_cannot_be_made_anonymous_is_left_out_and_told(tmp_path):
    """Prevents a silent drop, and a name in an anonymous file."""
    made = Anonymiser(traffic(), Pseudonyms(b"k" * 32), shifts_times=True)
    messages = [*hole(440, at_s=1e9), part("trace", b'{"BOX-1"', at_s=1e9), Note(10**18, "begun")]
    recorder, found = record(tmp_path / "r", messages, anonymiser=made)
    assert recorder.left_out == {"it is no JSON": 1}
    assert len(found) == 4
    assert b"BOX-1" not in (tmp_path / "r").read_bytes()
    assert all(each.at_ns < 10**18 for each in found)


def test_holes_without_their_answer_are_known(tmp_path):
    """Prevents a recorder that stops before the last answers have come."""
    body = b'{"ResultId": "440"}'
    recorder, _ = record(tmp_path / "r", hole(440))
    assert recorder.unanswered == {(SOURCE, "440")}
    said = [answer(f"{ESTIMATE}.{name}", body) for name in ("KeyPoints", "DepthEstimation")]
    recorder, _ = record(tmp_path / "s", [*hole(440), said[1], said[1]])
    assert recorder.unanswered == {(SOURCE, "440")}  # the other half of its answer is missing
    recorder, _ = record(tmp_path / "t", [*hole(440), *said])
    assert not recorder.unanswered


@pytest.mark.parametrize(
    ("from_s", "to_s", "wanted"),
    [(50, 99, False), (50, 100, True), (50, 300, True), (150, 160, True), (199, 300, True),
     (200, 300, False)],
)  # fmt: skip
def test_a_gap_is_wanted_where_some_of_it_is(tmp_path, from_s, to_s, wanted):
    """Prevents a copy that looks complete, cut out of the time after an outage had begun."""
    gap = Gap(from_s * S, to_s * S, "lost")
    _, found = record(tmp_path / "r", [gap], Selection((), 100 * S, 200 * S))
    assert found == [gap] * wanted


def test_a_tally_counts_holes_once_and_forgets_the_oldest(monkeypatch):
    """Prevents a count that grows with repeats, and memory that grows with unpaired parts."""
    monkeypatch.setattr(tallies, "MAX_OPEN_HOLES", 2)
    monkeypatch.setattr(tallies, "MAX_TOOLS", 2)
    tally = Tally(traffic())
    for number in range(4):
        tally.add(hole(number, source=f"B/U{number}")[0])
    for number in reversed(range(4)):
        tally.add(hole(number, source=f"B/U{number}")[1])
    assert tally.holes == 2
    assert tally.tools == Counter({"(others)": 4, "B/U0": 2, "B/U1": 2})
    assert tally.kinds == {"result": 4, "trace": 4}
    tally.add(part("result", b"{}"))
    assert tally.without_id == 1


def test_an_account_tells_what_is_inside_and_where_it_ends(tmp_path):
    """Prevents a recording that somebody trusts and that is half gone."""
    path = tmp_path / "r"
    write(path, [Note(1, "begun"), *hole(440), Gap(200 * S, 260 * S, "what was sent is missing")])
    told = dict(Account(path, traffic()).rows())
    assert told["messages"] == "3: 1 result, 1 trace, 1 heads"
    assert told["holes"] == "1 complete, of 1 tools"
    assert told["gaps"] == "1, 60.0 s in all"
    assert "DAMAGED" not in told
    assert "torn end" not in told
    whole = path.read_bytes()
    path.write_bytes(whole + b"FBLK")
    assert "last 4 bytes" in dict(Account(path, traffic()).rows())["torn end"]
    path.write_bytes(whole + bytes(range(100)))
    account = Account(path, traffic())
    assert f"damaged at byte {len(whole)}" in dict(account.rows())["DAMAGED"]
    assert account.data()["messages"] == 3


def test_an_account_tells_of_the_pauses_of_a_recording_that_was_gone_on_with(tmp_path):
    """Prevents a replay that stands still for a night, and nobody knows why."""
    path = tmp_path / "r"
    begun = Note(1, "begun: mqtt")
    write(path, [begun, *hole(1, at_s=100), Note(1, "ended: stopped"), begun, *hole(2, at_s=700)])
    account = Account(path, traffic())
    assert dict(account.rows())["pauses"] == "1, 10 min 0 s in all: nothing was recorded"
    assert (account.pauses, account.data()["pause_ns"]) == (1, 599_800_000_000)


def test_a_journal_gives_its_messages_in_order_and_the_answers_to_them(tmp_path):
    """Prevents a recording of the journal that lacks a message, an answer or a refusal."""
    topic = f"OPCPUBSUB/{SOURCE}/{ESTIMATE}.KeyPoints"
    store = open_store(tmp_path)
    try:
        store.write([
            message(1, b"first", at_s=100.0), message(2, b"second", at_s=100.25, kind="trace"),
            opened(3, {"result": 1, "trace": 2}, at_s=101.0),
            answered(3, at_s=102.0, publications=(Publication(topic, b"answer"),)),
            ended(3), message(4, b"third", at_s=300.0),
            r.Rejected(5, 4, 300.0, SOURCE, "result", "no id", (Publication("e", b"error"),)),
        ])  # fmt: skip
    finally:
        store.close(is_clean=False)
    gone: Counter[str] = Counter()
    with JournalReader(tmp_path) as journal:
        everything = list(kept_messages(journal, Selection(), with_answers=True, gone=gone))
        early = list(
            kept_messages(journal, Selection((), 0, 200 * S), with_answers=True, gone=gone)
        )
        alone = list(kept_messages(journal, Selection(), with_answers=False, gone=gone))
    assert [each.payload for each in everything] == [
        b"first", b"second", b"third", b"answer", b"error",
    ]  # fmt: skip
    assert [each.is_answer for each in everything] == [False] * 3 + [True] * 2
    assert everything[1].at_ns == 100_250_000_000
    assert [each.payload for each in early] == [b"first", b"second", b"answer"]
    assert [each.payload for each in alone] == [b"first", b"second", b"third"]
    assert not gone


@pytest.mark.parametrize(
    ("shares", "levels"),
    [
        ([0.1, 0.5, 0.8], [6, 6, 6]),
        ([0.95, 0.8, 0.4], [1, 1, 1]),
        ([0.95, 0.95, 0.95], [1, 0, 0]),
        ([0.95, 0.95, 0.1, 0.1, 0.1], [1, 0, 1, 6, 6]),
    ],
)
def test_a_recorder_that_cannot_keep_up_compresses_less(shares, levels):
    """Prevents messages that a broker drops, since the recorder was slow to take them."""
    effort, found = Effort(), []
    for share in shares:
        for _ in range(4):  # noticed after a second of them
            effort.note(busy_s=share / 4, waited_s=(1 - share) / 4)
        found.append(effort.level)
    assert found == levels
