"""A peer with a valid key that misbehaves: refused, counted, told, and nobody else notices.

A real farm, real sockets, a real key. What is refused is shown beside what is let in: the honest
peer of the same key is served to the end of each test.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import psutil
import pytest
import zmq
from rig import Farm, Mosquitto, Site, Tool, assert_depths, eventually, run_farm, settle

from farm import wire
from farm.config import Config
from farm.doors.invite import Invite
from farm.models.registry import package_of
from farm.simulation.ports import free_ports
from farm.sockets import Credentials, Role, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rig import Hole, Sent

pytestmark = pytest.mark.integration

WAIT_S = 20.0
REPLY_MS = 5000
NEVER_SILENT = {"workers": {"heartbeat_timeout_s": 60.0}, "dispatch": {"job_timeout_s": 60.0}}


class Peer:
    """Whoever holds a key, and says whatever a test wants."""

    def __init__(self, invite: Invite) -> None:
        self.invite = invite
        self.credentials = Credentials(invite.pair, invite.farm_key)
        self.context: zmq.Context[Any] = zmq.Context()
        self.control = self.open(Role.CONTROL_CLIENT, invite.endpoint)
        self.worker_id = 0

    def open(self, role: Role, endpoint: str) -> zmq.Socket[bytes]:
        return open_socket(self.context, role, endpoint, self.credentials)

    def say(self, *frames: bytes) -> wire.Message:
        """A request of any frames, and the reply."""
        self.control.send_multipart([b"", *frames])
        assert self.control.poll(REPLY_MS), "no reply"
        return wire.decode([frame for frame in self.control.recv_multipart() if frame])

    def ask(self, message: wire.Message) -> wire.Message:
        return self.say(wire.encode(message))

    def hello(self, name: str = "peer") -> wire.Message:
        pid = zlib.crc32(name.encode())  # of each name another: one process is one worker
        return self.ask(wire.Hello(name, "elsewhere", pid))

    def join(self) -> None:
        """Become a worker, as far as the broker can see."""
        welcome = self.hello()
        assert isinstance(welcome, wire.Welcome), welcome
        self.worker_id = welcome.worker_id
        self.results = self.open(Role.RESULTS_SENDER, self._there(welcome.results_endpoint))
        self.jobs = self.open(Role.JOBS_RECEIVER, self._there(welcome.jobs_endpoint))

    def ready(self, model_hash: str = "") -> wire.Message:
        return self.ask(wire.Ready(self.worker_id, "rule", model_hash, 0.1, {}))

    def beats(self) -> bool:
        reply = self.ask(wire.Heartbeat(self.worker_id, "working", 1))
        return isinstance(reply, wire.Orders) and reply.known

    def take_job(self) -> wire.Job:
        """The next job that was sent to it."""
        assert self.jobs.poll(int(1000 * WAIT_S)), "no job"
        [job] = wire.decode_jobs(self.jobs.recv_multipart()).jobs
        return job

    def tell(self, *messages: wire.Message) -> None:
        self.results.send_multipart([wire.encode(message) for message in messages])

    def result(self, job: wire.Job, **change: Any) -> wire.Result:
        honest = wire.Result(
            worker_id=self.worker_id,
            job_id=job.job_id,
            status="failed",
            value=None,
            reason="an honest failure",
            provenance={},
            model_version="rule",
            model_hash="",
            read_s=0.001,
            infer_s=0.001,
            ticket=job.ticket,
        )
        return honest._replace(**change)

    def claim(self, job: wire.Job) -> wire.Claim:
        return wire.Claim(self.worker_id, [job.job_id], [job.ticket])

    def close(self) -> None:
        self.context.destroy(linger=0)

    def _there(self, endpoint: str) -> str:
        return endpoint.replace("tcp://*", "tcp://127.0.0.1")


class Plant:
    """A farm that listens to other machines, and holders of its keys."""

    def __init__(self, tmp_path: Path, start_farm: Callable[..., Farm], port: int) -> None:
        self._tmp_path, self._start_farm, self._port = tmp_path, start_farm, port
        self.state_dir = tmp_path / "s"
        self.listen = f"127.0.0.1:{free_ports(3)}"
        self._peers: list[Peer] = []
        self._invites: dict[str, Invite] = {}

    def start(self, *keys: str, workers: int = 0, **settings: Any) -> None:
        for name in keys:
            self._invites[name] = self._key(name)
        attach = {"listen": self.listen, **settings.pop("attach", {})}
        more = {**NEVER_SILENT, **settings, "attach": attach}
        self.farm = self._start_farm(
            self._port, workers=workers, state_dir=self.state_dir, more=more, wait=False
        )
        eventually(self._is_up, WAIT_S, self.farm.last_lines)

    def _is_up(self) -> bool:
        shot = self.farm.stats()
        ready = sum(row["state"] in ("idle", "busy") for row in shot.get("workers", ()))
        return bool(shot) and shot["mqtt"]["state"] == "connected" and ready >= self.farm.workers

    def peer(self, name: str = "line-7") -> Peer:
        made = Peer(self._invites[name])
        self._peers.append(made)
        return made

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.farm.stats()["counts"]
        return counts

    def comes_to(self, name: str, least: int = 1) -> None:
        eventually(
            lambda: self.farm.stats().get("counts", {}).get(name, 0) >= least,
            WAIT_S,
            lambda: f"{name} reaches {least}: {self.farm.stats().get('counts')}",
        )

    def close(self) -> None:
        for peer in self._peers:
            peer.close()

    def _key(self, name: str) -> Invite:
        path = self._tmp_path / f"{name}.key"
        config = self._tmp_path / "keys.yaml"
        config.write_text(f"attach: {{listen: '{self.listen}'}}\n")
        made = run_farm(
            *("keys", "new", name, "--config", config, "--state-dir", self.state_dir),
            *("--host", "127.0.0.1", "--out", path),
        )
        assert made.returncode == 0, made.stderr
        return Invite.load(path)


@pytest.fixture
def plant(tmp_path: Path, start_farm: Callable[..., Farm], mosquitto: Mosquitto) -> Iterator[Plant]:
    made = Plant(tmp_path, start_farm, mosquitto.port)
    yield made
    made.close()


def drilled(site: Site) -> Hole:
    hole = Tool("2025-03").drill()
    site.send_hole(hole)
    return hole


def reason_of(reply: wire.Message) -> str:
    assert isinstance(reply, wire.Refused), reply
    return reply.reason


# ---- what is said by somebody who has no right to it ---------------------------------------------


def test_a_claim_and_a_result_without_the_ticket_are_nobodys(plant: Plant, site: Site) -> None:
    # prevents: a stolen key that answers, or holds up, every hole of the farm by counting ids
    plant.start("line-7")
    peer = plant.peer()
    peer.join()
    assert isinstance(peer.ready(), wire.Orders)
    hole = drilled(site)
    job = peer.take_job()
    peer.tell(peer.claim(job)._replace(tickets=[job.ticket ^ 1]))
    plant.comes_to("forged", 1)
    assert plant.farm.stats()["jobs"]["active"] == 0
    peer.tell(peer.result(job, ticket=job.ticket ^ 1, reason="a lie"))
    plant.comes_to("forged", 2)
    assert not site.answers()
    # the other side: the very same with its ticket counts, and is the answer
    job = peer.take_job()  # sent again, since nobody had claimed it
    peer.tell(peer.claim(job))
    peer.tell(peer.result(job))
    site.wait_answered([hole], WAIT_S)
    assert all(b"a lie" not in heard.payload for heard in site.heard())
    assert plant.counts()["forged"] == 2


def test_a_result_that_comes_twice_counts_once(plant: Plant, site: Site) -> None:
    # prevents: a recorded result, sent again, that publishes a second answer
    plant.start("line-7")
    peer = plant.peer()
    peer.join()
    peer.ready()
    hole = drilled(site)
    job = peer.take_job()
    peer.tell(peer.claim(job))
    peer.tell(peer.result(job))
    site.wait_answered([hole], WAIT_S)
    for _ in range(3):
        peer.tell(peer.result(job, reason="a replay"))
    plant.comes_to("late_results", 3)
    settle(site, plant.farm)
    assert all(b"a replay" not in heard.payload for heard in site.heard())
    assert plant.farm.stats()["jobs"]["completed"] == 1


def test_nobody_speaks_for_another_key(plant: Plant, site: Site) -> None:
    plant.start("line-7", "line-8", workers=1)
    honest, other = plant.peer("line-7"), plant.peer("line-8")
    honest.join()
    other.join()
    other.worker_id, own = honest.worker_id, other.worker_id
    for message in (
        wire.Heartbeat(honest.worker_id, "working", 1),
        wire.Ready(honest.worker_id, "rule", "", 0.1, {}),
    ):
        assert "for another worker" in reason_of(other.ask(message))
    other.tell(wire.Claim(honest.worker_id, [1], [1]))
    other.tell(wire.Bye(honest.worker_id, "a lie"))
    plant.comes_to("forged", 4)
    assert honest.beats()
    other.worker_id = own
    assert other.beats()
    # and a worker of this machine is no far one's to speak for
    here = next(row["id"] for row in plant.farm.stats()["workers"] if not row["key"])
    other.tell(wire.Bye(here, "a lie"))
    plant.comes_to("forged", 5)
    hole = drilled(site)
    site.wait_answered([hole], WAIT_S)
    assert_depths(site, hole)


ORDERS = (
    *(wire.Drain(), wire.Pause(), wire.Resume(), wire.Scale(0), wire.Reload(), wire.Retry([1])),
    *(wire.Drop([1]), wire.DrainWorker("1"), wire.Configured(0), wire.StatsRequest()),
    *(wire.StoryRequest("a", "b"), wire.SupervisorReport([], [], {})),
)


def test_a_door_takes_no_orders(plant: Plant) -> None:
    plant.start("line-7")
    peer = plant.peer()
    for each in ORDERS:
        assert "workers give no orders" in reason_of(peer.ask(each))
    shot = plant.farm.stats()
    assert shot["counts"]["forged"] == len(ORDERS)
    assert shot["state"] != "DRAINING"
    assert not shot["intake"]["paused"]
    peer.join()
    assert peer.beats()


# ---- what is no message --------------------------------------------------------------------------


def head(kind: int, *fields: Any, protocol: Any = wire.PROTOCOL) -> bytes:
    packed: bytes = msgpack.packb([protocol, *fields])
    return bytes([kind]) + packed


MALFORMED = {
    "other protocol version": (head(16, "peer", "h", 1, protocol=wire.PROTOCOL + 1), "protocol"),
    "no protocol version": (head(16, "peer", "h", 1, protocol="5"), "protocol"),
    "nested a thousand deep": (b"\x10" + b"\x91" * 1000 + b"\xc0", "protocol"),
    "nested beyond msgpack": (b"\x10" + b"\x91" * 100_000, "not msgpack"),
    "a map that says it has four billion": (b"\x10\xdf\xff\xff\xff\xff", "not msgpack"),
    "a text that says it has four billion": (b"\x10\xdb\xff\xff\xff\xff", "not msgpack"),
    "empty maps by the million": (
        b"\x10\x91" + b"\xdd\x00\x0f\x42\x00" + b"\x80" * 900_000, "not msgpack",
    ),
    "a type of msgpack's own": (b"\x10\x91\xd6\xff\x00\x00\x00\x00", "not msgpack"),
    "a kind that is none": (head(250, 1), "unknown message kind"),
    "a jobs message": (head(1, []), "unknown message kind"),
    "too few fields": (head(16, "peer"), "fields instead of"),
    "a field of another type": (head(16, "peer", "h", "1", "", 0), "Hello.pid"),
    "a name of a megabyte": (head(16, "x" * 900_000, "h", 1, "", 0), "Hello.name"),
    "a time that is none": (head(19, 1, "v", "h", float("nan"), {}), "Ready.load_s"),
    "an answer nested a thousand deep": (
        bytes((0x13, 0x96, wire.PROTOCOL))
        + b"\x01\xa1v\xa1h\xcb"
        + (b"\x00" * 8 + b"\x81\xa1a" + b"\x91" * 1000 + b"\xc0"),
        "Ready.golden",
    ),
    "a state that is none": (head(20, 1, "\x1b[2J", 1), "no state that there is"),
    "nothing": (b"\x10", "not msgpack"),
}  # fmt: skip


def test_bombs_and_broken_messages_are_refused_and_counted(plant: Plant, site: Site) -> None:
    # prevents: 1003 bytes by which anybody with a key ended the broker (nested a thousand deep)
    plant.start("line-7", workers=1)
    broker = plant.farm.broker_pid()
    peer = plant.peer()
    peer.join()
    for n, (what, (frame, why)) in enumerate(MALFORMED.items(), start=1):
        assert why in reason_of(peer.say(frame)), what
        assert plant.counts()["bad_frames"] == n, what
    seen = plant.counts()["bad_frames"]
    for frame, _ in MALFORMED.values():
        peer.results.send(frame)
    plant.comes_to("bad_frames", seen + len(MALFORMED))
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    packed: bytes = msgpack.packb(
        [wire.PROTOCOL, peer.worker_id, 1, "ok", deep, "", {}, "", "", 0.0, 0.0, 0.0, 1]
    )
    peer.results.send(b"\x04" + packed)
    plant.comes_to("bad_frames", seen + len(MALFORMED) + 1)
    assert peer.beats()
    hole = drilled(site)
    site.wait_answered([hole], WAIT_S)
    assert plant.farm.broker_pid() == broker
    assert "\x1b" not in plant.farm.log


def test_messages_of_too_many_frames_are_refused_whole(plant: Plant, site: Site) -> None:
    plant.start("line-7", workers=1)
    peer = plant.peer()
    peer.join()
    beat = wire.encode(wire.Heartbeat(peer.worker_id, "working", 1))
    assert "2000 frames" in reason_of(peer.say(*[beat] * 2000))
    plant.comes_to("bad_frames", 1)
    late = wire.encode(wire.Claim(peer.worker_id, [1], [1]))
    before = plant.counts().get("late_claims", 0)
    peer.results.send_multipart([late] * 2000)
    plant.comes_to("bad_frames", 2)
    assert plant.counts().get("late_claims", 0) == before  # not one of them was looked at
    peer.results.send_multipart([late] * 1000)  # as many as a worker may have kept
    plant.comes_to("late_claims", before + 1000)
    assert peer.beats()


@pytest.mark.parametrize("where", ["control", "results"])
def test_an_oversize_frame_ends_its_connection_and_nothing_else(
    plant: Plant, site: Site, where: str
) -> None:
    # prevents: 64 MB, again and again, in the broker's memory, from whoever has a key
    plant.start("line-7", workers=1)
    peer, honest = plant.peer(), plant.peer()
    peer.join()
    honest.join()
    largest = wire.encode(wire.Heartbeat(peer.worker_id, "working", 1)).ljust(1_000_000, b"\0")
    assert "not msgpack" in reason_of(peer.say(largest))  # so much comes in, and is looked at
    admitted = plant.counts()["admitted"]
    socket = peer.control if where == "control" else peer.results
    socket.send_multipart([b"", b"x" * 2_000_000] if where == "control" else [b"x" * 2_000_000])
    plant.comes_to("admitted", admitted + 1)  # it was cut off, and came in again
    assert honest.beats()
    seen = plant.farm.stats()
    assert seen["counts"]["bad_frames"] == 1
    hole = drilled(site)
    site.wait_answered([hole], WAIT_S)


# ---- too much ------------------------------------------------------------------------------------


def test_ten_thousand_hellos_make_no_crowd(plant: Plant, site: Site) -> None:
    # prevents: a roster, a heap and a `farm stats` of ten thousand workers that are none
    plant.start(
        *("line-7", "line-8"),
        workers=1,
        attach={"max_workers_per_key": 3, "requests_hz": 100.0, "keep_out_s": 3600.0},
    )
    other = plant.peer("line-8")
    other.join()
    peer = plant.peer("line-7")
    for n in range(3):
        assert isinstance(peer.hello(f"w-{n}"), wire.Welcome)
    assert "attach.max_workers_per_key" in reason_of(peer.hello("one more"))
    plant.comes_to("workers_refused", 1)
    assert len(plant.farm.stats()["workers"]) == 1 + 1 + 3
    hello = wire.encode(wire.Hello("w", "elsewhere", 4711))
    sent = 0

    def is_kept_out() -> bool:
        nonlocal sent
        for _ in range(500):
            if sent < 10_000:
                with contextlib.suppress(zmq.Again):
                    peer.control.send_multipart([b"", hello], zmq.NOBLOCK)
                    sent += 1
            # read at once: libzmq 4.3.5 ends a process whose full socket is cut (!_io_error)
            while peer.control.poll(0):
                peer.control.recv_multipart()
        counts = plant.counts()
        return counts.get("rate_limited", 0) >= 1000 and counts.get("kept_out", 0) >= 1

    eventually(is_kept_out, WAIT_S, lambda: f"it is kept out: {plant.counts()}")
    peer.control.close(0)
    eventually(
        lambda: {row["key"] for row in plant.farm.stats()["workers"]} == {"", "line-8"},
        WAIT_S,
        "its workers are nobody's",
    )
    assert plant.farm.events("key_kept_out")[0]["key"] == "line-7"
    # it can't come back, and the others can
    peer.control = peer.open(Role.CONTROL_CLIENT, peer.invite.endpoint)
    plant.comes_to("turned_away", 1)
    eventually(other.beats, WAIT_S, "the other key is in again")
    hole = drilled(site)
    site.wait_answered([hole], WAIT_S)


def test_more_workers_than_may_be_are_told_so(plant: Plant) -> None:
    plant.start("line-7", "line-8", attach={"max_workers": 2})
    first, second = plant.peer("line-7"), plant.peer("line-8")
    first.join()
    second.join()
    reason = reason_of(first.hello("third"))
    assert "attach.max_workers" in reason
    assert "2 workers" in reason
    second.tell(wire.Bye(second.worker_id, "done"))
    eventually(
        lambda: isinstance(first.hello("third"), wire.Welcome), WAIT_S, "there is room again"
    )


# ---- another model -------------------------------------------------------------------------------


def test_a_worker_with_another_model_is_refused(plant: Plant) -> None:
    # prevents: answers of last year's model, or of a stranger's, under our name
    plant.start("line-7", model="")
    peer = plant.peer()
    peer.join()
    assert "another model" in reason_of(peer.ready("0123456789abcdef"))
    assert not plant.farm.stats()["workers"]
    assert plant.counts()["workers_fenced"] == 1
    # the other side: the farm's own model, by its hash
    peer.join()
    assert isinstance(peer.ready(our_hash()), wire.Orders)
    assert peer.beats()


def our_hash() -> str:
    """Of the model that a farm computes with by default."""
    package = package_of("", Config().mqtt.processing.model_id, {}, None)
    assert package is not None
    return package.short_hash(next(iter(package.manifest.sha256)))


# ---- what a screen would obey --------------------------------------------------------------------

HOSTILE = "\x1b[31m\x1b]0;owned\x07\r\n2026-01-01 [error] forged\u202eevil\u2066\x9b2J\x7f\0"
OBEYED = [*range(0x20), 0x7F]


def assert_harmless(raw: bytes) -> None:
    text = raw.decode("utf-8")
    obeyed = {c for c in text if c != "\n" and not c.isprintable()}
    assert not obeyed, obeyed
    assert "\n2026-01-01 [error] forged" not in text


@pytest.mark.parametrize("style", ["text", "json"])
def test_hostile_names_reach_no_screen_and_no_log(plant: Plant, site: Site, style: str) -> None:
    # prevents: a worker's name that sets the operator's terminal, or writes log lines of its own
    plant.start("line-7", log={"format": style})
    peer = plant.peer()
    welcome = peer.ask(wire.Hello(HOSTILE, HOSTILE, 1))
    assert isinstance(welcome, wire.Welcome)
    peer.worker_id = welcome.worker_id
    peer.results = peer.open(Role.RESULTS_SENDER, welcome.results_endpoint)
    peer.jobs = peer.open(Role.JOBS_RECEIVER, welcome.jobs_endpoint)
    reply = peer.ask(wire.Ready(peer.worker_id, HOSTILE, HOSTILE, 0.1, {}))
    assert isinstance(reply, wire.Orders)
    hole = drilled(site)
    job = peer.take_job()
    peer.tell(peer.claim(job))
    peer.tell(peer.result(job, reason=HOSTILE, model_version=HOSTILE, model_hash=HOSTILE))
    site.wait_answered([hole], WAIT_S)
    settle(site, plant.farm)
    place = ("--state-dir", plant.state_dir)
    toolbox_tool = "/".join(hole.key[0].split("/"))
    for command in (
        ("stats", "--once"), ("stats", "--json"), ("workers",), ("workers", "--json"),
        ("why", toolbox_tool, hole.key[1]), ("why", toolbox_tool, hole.key[1], "--json"),
        ("dead", "list"), ("dead", "list", "--json"), ("workers", "drain", HOSTILE.rstrip("\0")),
    ):  # fmt: skip
        done = run_farm(*command, *place)
        assert_harmless((done.stdout + done.stderr).encode())
        if command[0] in ("why", "dead"):
            assert "owned" in done.stdout  # it is shown, as an escape
    peer.tell(wire.Bye(peer.worker_id, HOSTILE))
    eventually(lambda: not plant.farm.stats()["workers"], WAIT_S, "it left")
    assert_harmless(plant.farm.log_file.read_bytes())
    assert os.listdir(plant.state_dir)  # noqa: PTH208
    assert all(p.name.isprintable() for p in plant.state_dir.rglob("*"))


# ---- over MQTT ----------------------------------------------------------------------------------

TOPIC_HOSTILE = "\u202eBOX\u2066"  # what an MQTT broker lets through; control characters it refuses
OVERSIZE = 20_000_000


def with_value(part: Sent, ending: str, value: str) -> Sent:
    """The part with another value in the field whose key ends so."""
    message = json.loads(part.payload)
    fields = message["Messages"]["Payload"]
    [key] = [key for key in fields if key.removesuffix(".MeasuredValue").endswith(ending)]
    fields[key]["Value"] = value
    return replace(part, payload=json.dumps(message).encode())


def test_hostile_ids_and_sizes_over_mqtt(
    make_mosquitto: Callable[..., Mosquitto],
    start_farm: Callable[..., Farm],
    make_site: Callable[..., Site],
) -> None:
    # prevents: an id that writes log lines, and a message that takes its own size in memory, twice
    mosquitto = make_mosquitto()
    site = make_site(mosquitto.port)
    farm = start_farm(mosquitto.port, workers=1, log={"format": "text"})
    broker = psutil.Process(farm.broker_pid())
    tool = Tool("2025-03")
    hostile = tool.drill()
    result = with_value(hostile.part("result"), ".ResultId", HOSTILE)
    site.send(result)
    machine = tool.drill()
    marked = with_value(machine.part("result"), ".SerialNumber", HOSTILE)
    site.send(marked, machine.part("trace"))
    foreign = hostile.part("result")
    levels = foreign.topic.split("/")
    site.send(replace(foreign, topic="/".join([levels[0], TOPIC_HOSTILE, *levels[2:]])))
    site.wait_answered([machine], WAIT_S)
    before = broker.memory_info().rss
    for _ in range(3):
        site.send(replace(foreign, payload=b"[" * OVERSIZE))
    honest = tool.drill()
    site.send_hole(honest)
    site.wait_answered([honest], WAIT_S)
    settle(site, farm)
    assert broker.memory_info().rss - before < OVERSIZE
    shot = farm.stats()
    assert shot["intake"]["oversize"] == 3
    assert shot["counts"]["rejected"] == 1 + 3
    assert shot["counts"]["foreign_topics"] == 1
    texts = [heard.payload.decode() for heard in site.heard()]
    assert any("can't be printed" in text for text in texts)
    assert any("at most 4000000" in text for text in texts)
    assert not any("owned" in text for text in texts)  # no answer repeats it
    assert_harmless(farm.log_file.read_bytes())
    assert all(heard.topic.isprintable() for heard in site.heard())
