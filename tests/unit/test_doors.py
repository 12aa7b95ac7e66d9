"""Who may come in from other machines, and who may not: keys, invites, tickets, real doors.

What a door lets in is shown beside what it keeps out: a door that is merely shut would pass else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from rig import eventually

from farm.broker.doors import Doors
from farm.config.attach import AttachConfig
from farm.control import ControlClient
from farm.doors import doorkeeper
from farm.doors.doorkeeper import Doorkeeper
from farm.doors.invite import Invite, host_of, is_endpoint
from farm.doors.keyring import Keyring, check_keys, is_key, new_pair, read_secret
from farm.doors.tickets import NAME, Tickets, load_tickets
from farm.errors import StateError
from farm.simulation.ports import free_ports
from farm.sockets import Credentials, Role, open_socket, receive
from farm.wire import StatsRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.doors.keyring import KeyPair

WAIT_S = 10.0


# ---- the keyring ---------------------------------------------------------------------------------


def test_a_new_key_comes_in_and_a_revoked_one_does_not(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    assert keyring.workers() == []
    pair = keyring.add("line-7")
    assert [(key.name, key.public) for key in keyring.workers()] == [("line-7", pair.public)]
    keyring.revoke("line-7")
    assert keyring.workers() == []
    assert keyring.add("line-7").public != pair.public  # the name is free again, the key is not


def test_the_workers_secret_is_not_kept(tmp_path: Path) -> None:
    # prevents: whoever reads the farm's disk being every worker
    pair = Keyring(tmp_path).add("line-7")
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert texts
    assert not any(pair.secret in text for text in texts)
    assert pair.secret not in repr(pair)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    keyring.farm_key()
    keyring.add("line-7")
    paths = [keyring.directory, *keyring.directory.rglob("*")]
    assert len(paths) == 4
    assert [stat.S_IMODE(p.stat().st_mode) & 0o077 for p in paths] == [0] * 4


def test_the_folders_of_a_first_key_are_private_whichever_is_first(tmp_path: Path) -> None:
    # prevents: keys/ open to all where a worker's key is made before the farm's
    Keyring(tmp_path / "s").add("line-7")
    folders = (tmp_path / "s", tmp_path / "s" / "keys", tmp_path / "s" / "keys" / "workers")
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    keyring = Keyring(tmp_path)
    keyring.farm_key()
    path = keyring.directory / "farm.key"
    path.chmod(mode)
    with pytest.raises(StateError, match="chmod 600"):
        keyring.farm_key()


def test_the_farms_key_stays_the_same(tmp_path: Path) -> None:
    # prevents: invites that a restart makes worthless
    assert Keyring(tmp_path).farm_key() == Keyring(tmp_path).farm_key()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "ä", "x" * 64, "a\n", "-x"])
def test_a_name_that_is_no_file_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    keyring = Keyring(tmp_path)
    with pytest.raises(StateError, match="can't name a key"):
        keyring.add(name)
    with pytest.raises(StateError, match="there is no key named"):
        keyring.revoke(name)
    assert not any(tmp_path.rglob("*.pub"))


def test_a_name_is_given_once(tmp_path: Path) -> None:
    # prevents: a second invite that shuts the first machine out without a word
    keyring = Keyring(tmp_path)
    pair = keyring.add("line-7")
    with pytest.raises(StateError, match="revoke it"):
        keyring.add("line-7")
    assert keyring.workers()[0].public == pair.public


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"public": 5}', '{"public": "short"}', "\x00"])
def test_a_damaged_key_is_told_of_and_shuts_nobody_else_out(tmp_path: Path, text: str) -> None:
    # prevents: one bad file, and no machine comes in any more, nor can one be revoked
    keyring = Keyring(tmp_path)
    keyring.add("line-7")
    keyring.add("line-8")
    (keyring.directory / "workers/line-7.pub").write_text(text)
    good, damaged = keyring.read()
    assert [key.name for key in good] == ["line-8"]
    assert "line-7.pub" in str(damaged["line-7"])
    keyring.revoke("line-7")
    assert keyring.read()[1] == {}


# ---- invites -------------------------------------------------------------------------------------


def invite() -> Invite:
    pair = new_pair()
    return Invite("tcp://farm.plant:7003", new_pair().public, "line-7", pair.public, pair.secret)


def test_an_invite_survives_both_its_forms(tmp_path: Path) -> None:
    made = invite()
    assert Invite.of_line(f"  {made.line()}\n") == made
    made.save(tmp_path / "line-7.key")
    assert Invite.load(tmp_path / "line-7.key") == made
    assert stat.S_IMODE((tmp_path / "line-7.key").stat().st_mode) == 0o600
    assert made.secret not in repr(made)


@given(st.integers(0, 250), st.text(max_size=3))
def test_a_line_that_was_cut_or_changed_is_no_other_invite(at: int, put: str) -> None:
    # prevents: a typing error that joins another farm, or a traceback
    made = invite()
    line = made.line()[:at] + put
    with contextlib.suppress(StateError):
        assert Invite.of_line(line) == made


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "ipc:///tmp/x"},
        {"endpoint": "tcp://host"},
        {"endpoint": "tcp://host:70000"},
        {"endpoint": "tcp://a b:1"},
        {"farm_key": "short"},
        {"secret": None},
        {"name": 7},
    ],
)
def test_a_key_file_with_something_else_in_it_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "line-7.key"
    invite().save(path)
    path.write_text(json.dumps(read_secret(path) | change))
    with pytest.raises(StateError):
        Invite.load(path)


@pytest.mark.parametrize(
    ("endpoint", "host"), [("tcp://10.0.0.1:7003", "10.0.0.1"), ("tcp://[::1]:7003", "[::1]")]
)
def test_hosts_of_both_internets(endpoint: str, host: str) -> None:
    assert is_endpoint(endpoint)
    assert host_of(endpoint) == host


# ---- tickets -------------------------------------------------------------------------------------


def test_a_ticket_is_the_same_for_the_next_broker_and_none_can_be_guessed(tmp_path: Path) -> None:
    ours, after = load_tickets(tmp_path), load_tickets(tmp_path)
    assert [ours.of(n) for n in range(5)] == [after.of(n) for n in range(5)]
    assert len({Tickets().of(1), Tickets().of(1), ours.of(1), ours.of(2)}) == 4
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_damaged_secret_of_tickets_is_told_of(tmp_path: Path) -> None:
    load_tickets(tmp_path)
    (tmp_path / NAME).write_text('{"secret": "xy"}')
    with pytest.raises(StateError, match="remove it"):
        load_tickets(tmp_path)


# ---- the doorkeeper's answers --------------------------------------------------------------------


def request(pair: KeyPair, **change: bytes) -> list[bytes]:
    frames = {
        "version": b"1.0",
        "id": b"7",
        "domain": b"farm",
        "address": b"10.0.0.1",
        "identity": b"",
        "mechanism": b"CURVE",
        "key": zmq.utils.z85.decode(pair.public.encode()),
    }
    return list((frames | change).values())


@pytest.fixture
def door(tmp_path: Path) -> tuple[Doorkeeper, Keyring, KeyPair]:
    keyring = Keyring(tmp_path)
    pair = keyring.add("line-7")
    return Doorkeeper(keyring, Counter()), keyring, pair


def test_a_known_key_comes_in_by_its_name(door: tuple[Doorkeeper, Keyring, KeyPair]) -> None:
    keeper, _, pair = door
    assert keeper.answer(request(pair)) == [b"1.0", b"7", b"200", b"", b"line-7", b""]


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"x" * 32},
        {"key": b""},
        {"mechanism": b"NULL"},
        {"mechanism": b"PLAIN"},
        {"domain": b"other"},
        {"version": b"2.0"},
        {"more": b"frame"},
    ],
)
def test_nobody_else_does(
    door: tuple[Doorkeeper, Keyring, KeyPair], change: dict[str, bytes]
) -> None:
    keeper, _, pair = door
    assert keeper.answer(request(pair, **change))[2] == b"400"


def test_a_request_that_is_none_gets_no_traceback(
    door: tuple[Doorkeeper, Keyring, KeyPair],
) -> None:
    keeper, _, _ = door
    assert keeper.answer([])[2] == keeper.answer([b"1.0"])[2] == b"400"


def test_revoking_is_noticed_once(
    door: tuple[Doorkeeper, Keyring, KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, keyring, pair = door
    other = keyring.add("line-8")
    assert not keeper.look()  # a new key shuts nobody out
    assert keeper.answer(request(other))[2] == b"200"
    keyring.revoke("line-7")
    assert keeper.look() == ["line-7"]
    assert keeper.answer(request(pair))[2] == b"400"
    assert keeper.answer(request(other))[2] == b"200"
    assert not keeper.look()
    monkeypatch.setattr(doorkeeper, "_SETTLED_NS", -1)
    keyring.revoke("line-8")
    keyring.add("line-8")
    assert keeper.look()  # another key under the same name
    assert keeper.answer(request(other))[2] == b"400"


def test_a_key_that_others_may_change_is_out(
    door: tuple[Doorkeeper, Keyring, KeyPair],
) -> None:
    keeper, keyring, pair = door
    os.utime(keyring.directory / "workers", ns=(1, 1))
    (keyring.directory / "workers/line-7.pub").chmod(0o666)
    assert keeper.look()
    assert keeper.answer(request(pair))[2] == b"400"


def test_nobody_is_out_since_the_keys_can_not_be_read_for_a_moment(
    door: tuple[Doorkeeper, Keyring, KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a broker without descriptors that takes all keys for revoked, and shuts its doors
    keeper, keyring, pair = door
    other = keyring.add("line-8")
    assert not keeper.look()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fail)
        assert not keeper.look()
        assert keeper.answer(request(pair))[2] == b"200"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", fail)
        assert not keeper.look()
        assert keeper.answer(request(other))[2] == b"200"
    keyring.revoke("line-7")
    assert keeper.look()
    assert keeper.answer(request(pair))[2] == b"400"


def test_a_door_that_can_not_be_opened_again_now_is_tried_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a broker that ends, since the address it listened at has gone with its cable
    sender = house.sender(house.credentials())
    sender.send(b"before")
    house.hears(("line-7", [b"before"]))
    other = house.keyring.add("line-8")

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        house.keyring.revoke("line-7")
        eventually(lambda: house.turn() or house.doors._shut, WAIT_S, "the doors are shut")
        house.turn()
        assert house.doors._shut
    house.sender(house.credentials(other)).send(b"after")
    house.hears(("line-7", [b"before"]), ("line-8", [b"after"]))


# ---- real doors ----------------------------------------------------------------------------------


class House:
    """A broker's sockets, with doors, and a loop that is turned by hand."""

    def __init__(self, tmp_path: Path, listen: str = "127.0.0.1") -> None:
        self.keyring = Keyring(tmp_path)
        self.pair = self.keyring.add("line-7")
        self.counts: Counter[str] = Counter()
        port = free_ports(3)
        self.doors = Doors(AttachConfig(listen=f"{listen}:{port}"), tmp_path, self.counts)
        self.context: zmq.Context[Any] = zmq.Context()
        self.local = f"ipc://{tmp_path}/results"
        self.jobs = open_socket(self.context, Role.JOBS_SENDER, f"ipc://{tmp_path}/jobs")
        self.results = open_socket(self.context, Role.RESULTS_RECEIVER, self.local)
        self.control = open_socket(self.context, Role.CONTROL_SERVER, f"ipc://{tmp_path}/control")
        self.doors.open(self.context, jobs=self.jobs, results=self.results, control=self.control)
        self.clients: zmq.Context[Any] = zmq.Context()
        self.heard: list[tuple[str, list[bytes]]] = []

    def credentials(self, pair: KeyPair | None = None, farm_key: str = "") -> Credentials:
        return Credentials(pair or self.pair, farm_key or self.keyring.farm_key().public)

    def sender(self, credentials: Credentials | None, endpoint: str = "") -> zmq.Socket[bytes]:
        return open_socket(
            self.clients,
            Role.RESULTS_SENDER,
            endpoint or self.doors.results_endpoint,
            credentials,
        )

    def turn(self) -> None:
        """As the broker's loop does it: libzmq closes connections where a socket is looked at."""
        for socket in (self.jobs, self.control):
            socket.poll(0, zmq.POLLOUT)
        self.doors.answer()
        self.doors.tend(time.monotonic())
        with contextlib.suppress(zmq.Again):
            self.heard.append(receive(self.results))

    def hears(self, *wanted: tuple[str, list[bytes]]) -> None:
        def all_is_heard() -> bool:
            self.turn()
            return len(self.heard) >= len(wanted)

        eventually(all_is_heard, WAIT_S, f"{wanted} arrives")
        assert self.heard == list(wanted)

    def close(self) -> None:
        self.doors.close()
        self.clients.destroy(linger=0)
        self.context.destroy(linger=0)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def test_a_worker_with_a_key_is_known_by_its_name(house: House) -> None:
    house.sender(house.credentials()).send_multipart([b"from", b"afar"])
    house.hears(("line-7", [b"from", b"afar"]))


def test_this_machine_needs_no_key(house: House) -> None:
    house.sender(None, house.local).send(b"from here")
    house.hears(("", [b"from here"]))


@pytest.mark.parametrize("who", ["no key", "unknown key", "wrong farm key"])
def test_strangers_are_not_heard(house: House, who: str) -> None:
    stranger = {
        "no key": None,
        "unknown key": house.credentials(new_pair()),
        "wrong farm key": house.credentials(farm_key=new_pair().public),
    }[who]
    house.sender(stranger).send(b"from a stranger")
    # By the time a guest has come in after him, the stranger would have been heard.
    if who == "unknown key":
        eventually(lambda: house.turn() or house.counts["turned_away"], WAIT_S, "he is turned away")
    house.sender(house.credentials()).send(b"from a guest")
    house.hears(("line-7", [b"from a guest"]))


def test_a_revoked_key_is_cut_off_in_the_middle_of_a_connection(house: House) -> None:
    # prevents: an open connection that outlives its key
    house.keyring.add("line-8")
    sender = house.sender(house.credentials())
    sender.send(b"before")
    house.hears(("line-7", [b"before"]))
    house.keyring.revoke("line-7")
    eventually(lambda: house.turn() or house.counts["turned_away"], WAIT_S, "he is turned away")
    with contextlib.suppress(zmq.Again):  # there is nobody to send to any more
        sender.send(b"after", zmq.NOBLOCK)
    house.sender(None, house.local).send(b"from here")
    house.hears(("line-7", [b"before"]), ("", [b"from here"]))


def test_nobody_is_sent_a_job_who_was_cut_off(house: House) -> None:
    # prevents: a hole's messages that a revoked worker still reads
    receiver = open_socket(
        house.clients, Role.JOBS_RECEIVER, house.doors.jobs_endpoint, house.credentials()
    )
    eventually(lambda: house.turn() or house.jobs.poll(0, zmq.POLLOUT), WAIT_S, "he is connected")
    house.jobs.send(b"a job")
    assert receiver.poll(int(WAIT_S * 1000))
    assert receiver.recv() == b"a job"
    house.keyring.add("line-8")
    house.keyring.revoke("line-7")
    eventually(lambda: house.turn() or house.counts["turned_away"], WAIT_S, "he is turned away")
    assert not house.jobs.poll(0, zmq.POLLOUT)  # there is nobody to send to


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("unknown key", "does not know this worker's key"),
        ("wrong farm key", "another key than the invite says"),
        ("nobody there", "nobody listens there"),
    ],
)
def test_the_worker_is_told_why_the_door_stays_shut(house: House, who: str, why: str) -> None:
    endpoint, credentials = house.doors.control_endpoint, house.credentials()
    if who == "unknown key":
        credentials = house.credentials(new_pair())
    elif who == "wrong farm key":
        credentials = house.credentials(farm_key=new_pair().public)
    else:
        endpoint = f"tcp://127.0.0.1:{free_ports(1)}"
    client = ControlClient(house.clients, endpoint, timeout_s=60, credentials=credentials)
    client.send(StatsRequest())
    eventually(lambda: house.turn() or why in client.why_silent(), WAIT_S, "he is told")
    client.close()


def test_a_farm_that_listens_without_keys_refuses_to_start(tmp_path: Path) -> None:
    # prevents: a port on the plant's network that nobody can come in by, or everybody
    with pytest.raises(StateError, match="farm keys new"):
        check_keys(tmp_path)
    Keyring(tmp_path).add("line-7")
    check_keys(tmp_path)


@pytest.mark.parametrize(
    "listen", ["0.0.0.0", ":7003", "host:0", "host:65534", "tcp://a:1", "a b:1"]
)
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        AttachConfig(listen=listen)


def test_keys_look_like_keys() -> None:
    assert is_key(new_pair().public)
    assert not any(map(is_key, ["", "x" * 39, "x" * 41, "x" * 39 + '"', None, 5]))
