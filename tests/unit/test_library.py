"""The model's files as they are lent to other machines, and how they arrive there."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from farm import wire
from farm.broker.doors import Doors
from farm.broker.library import PIECE_BYTES, Library
from farm.config import Config
from farm.config.attach import AttachConfig
from farm.doors.keyring import Keyring
from farm.errors import ModelError
from farm.models.depthnet import BUILT_IN
from farm.models.package import MANIFEST, Manifest, Package, open_package, write_package
from farm.simulation.ports import free_ports
from farm.sockets import Credentials, Role, open_socket, receive
from farm.worker import fetching
from farm.worker.fetching import cache_directory, model_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = bytes(range(256)) * (PIECE_BYTES // 256 + 10)  # two pieces


@pytest.fixture
def package(tmp_path: Path) -> Package:
    files = {"weights.safetensors": BIG, "CARD.md": b"a card"}
    return write_package(
        tmp_path / "package", files, Manifest("site-7", {"kind": "depthnet"}, {}, made="today")
    )


# ---- lending -------------------------------------------------------------------------------------


def whole(library: Library, name: str) -> bytes:
    payload = b""
    while isinstance(piece := library.piece(name, len(payload)), wire.Piece) and piece.payload:
        payload += piece.payload
    return payload


def test_files_are_lent_in_pieces(package: Package) -> None:
    library = Library(package)
    assert whole(library, "weights.safetensors") == BIG
    assert whole(library, MANIFEST) == (package.folder / MANIFEST).read_bytes()
    told = library.catalogue()
    assert told["sha256"] == {
        "weights.safetensors": hashlib.sha256(BIG).hexdigest(),
        "CARD.md": hashlib.sha256(b"a card").hexdigest(),
    }


@pytest.mark.parametrize(
    "name", ["../package/CARD.md", "/etc/passwd", "", "manifest.json.part", "x\x00y", "no such"]
)
def test_nothing_else_is_lent(package: Package, name: str) -> None:
    # prevents: a worker with a key that reads the farm's disk
    (package.folder / "secret").write_text("s")
    library = Library(package)
    assert isinstance(library.piece("CARD.md", 0), wire.Piece)
    for asked in (name, "secret"):
        reply = library.piece(asked, 0)
        assert isinstance(reply, wire.Refused)
        assert "has no file" in reply.reason


def test_a_piece_from_before_the_beginning_is_refused(package: Package) -> None:
    assert isinstance(Library(package).piece("CARD.md", -1), wire.Refused)
    assert Library(package).piece("CARD.md", 10**9) == wire.Piece(b"")


def test_a_file_that_is_gone_is_told_of(package: Package) -> None:
    (package.folder / "CARD.md").unlink()
    reply = Library(package).piece("CARD.md", 0)
    assert isinstance(reply, wire.Refused)
    assert "can't read CARD.md" in reply.reason


def test_other_files_make_another_library(package: Package, tmp_path: Path) -> None:
    # prevents: new weights under an old name that never reach other machines
    other = write_package(tmp_path / "other", {"CARD.md": b"x"}, package.manifest)
    digests = [Library(each).digest for each in (package, other, None)]
    assert len(set(digests)) == 3
    assert Library(package).digest == digests[0]


def test_another_model_is_not_wanted(package: Package) -> None:
    # prevents: a machine that answers with the weights of last year
    library = Library(package)
    assert library.fault(package.short_hash("weights.safetensors")) == ""
    assert "another model (0123)" in library.fault("0123")
    assert Library(None).fault("0123") == ""  # a class of the user's: its golden hole must do


def test_the_configuration_names_the_package(package: Package, tmp_path: Path) -> None:
    built_in = open_package(BUILT_IN).manifest
    assert Library.of(Config()).catalogue()["sha256"] == built_in.sha256
    own = Config(model_settings={"weights": str(package.folder)})
    assert Library.of(own).catalogue()["name"] == "site-7"
    assert Library.of(Config(model="rule")).catalogue() == {}
    gone = Config(model_settings={"weights": str(tmp_path / "gone")})
    assert Library.of(gone).catalogue() == {}


# ---- fetching ------------------------------------------------------------------------------------


class Farm:
    """A farm that lends, on a thread, behind a real door."""

    def __init__(self, tmp_path: Path, library: Library) -> None:
        self.library = library
        keyring = Keyring(tmp_path)
        self.credentials = Credentials(keyring.add("line-7"), keyring.farm_key().public)
        self.doors = Doors(AttachConfig(listen=f"127.0.0.1:{free_ports(3)}"), tmp_path, Counter())
        self.endpoint = self.doors.control_endpoint
        self.deaf = 0  # so many requests are not answered
        self.asked: list[str] = []
        self._tmp_path = tmp_path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        context: zmq.Context[Any] = zmq.Context()
        open_ = [
            open_socket(context, role, f"ipc://{self._tmp_path}/{role.name}")
            for role in (Role.JOBS_SENDER, Role.RESULTS_RECEIVER, Role.CONTROL_SERVER)
        ]
        jobs, results, control = open_
        asked = self.doors.open(context, jobs=jobs, results=results, control=control)
        poller = zmq.Poller()
        poller.register(asked, zmq.POLLIN)
        poller.register(control, zmq.POLLIN)
        while not self._ending.is_set():
            ready = dict(poller.poll(20))
            if asked in ready:
                self.doors.answer()
            if control in ready:
                _, [identity, *frames] = receive(control)
                request = wire.decode([frame for frame in frames if frame])
                assert isinstance(request, wire.Fetch)
                self.asked.append(request.name)
                if self.deaf:
                    self.deaf -= 1
                    continue
                reply = self.library.piece(request.name, request.offset)
                control.send_multipart([identity, b"", wire.encode(reply)])
        self.doors.close()
        context.destroy(linger=0)


@pytest.fixture
def farm(package: Package, tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path, Library(package))
    yield made
    made.close()


def fetch(farm: Farm, cache: Path, **change: Any) -> Package:
    catalogue = farm.library.catalogue() | change
    return model_here(catalogue, farm.endpoint, farm.credentials, cache)


def test_a_model_is_fetched_once(farm: Farm, package: Package, tmp_path: Path) -> None:
    found = fetch(farm, tmp_path / "cache")
    assert found.manifest == package.manifest
    assert found.read("weights.safetensors") == BIG
    asked = list(farm.asked)
    assert asked[-2:] == [MANIFEST, MANIFEST]  # last: until then there is no package
    assert fetch(farm, tmp_path / "cache").folder == found.folder
    assert farm.asked == asked
    assert not list(found.folder.glob("*.part"))


def test_what_is_here_already_is_not_fetched(farm: Farm, tmp_path: Path) -> None:
    farm.library = Library(open_package(BUILT_IN))
    assert fetch(farm, tmp_path / "cache").folder == BUILT_IN
    assert farm.asked == []


def test_a_copy_that_was_damaged_is_fetched_again(farm: Farm, tmp_path: Path) -> None:
    # prevents: a half-written file of a worker that was killed, taken for a model for ever
    found = fetch(farm, tmp_path / "cache")
    (found.folder / "weights.safetensors").write_bytes(BIG[:100])
    assert fetch(farm, tmp_path / "cache").read("weights.safetensors") == BIG


def test_a_piece_that_is_lost_is_asked_for_again(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TRY_S", 0.2)
    farm.deaf = 2
    assert fetch(farm, tmp_path / "cache").read("weights.safetensors") == BIG


def test_a_file_that_is_not_what_was_told_is_no_model(farm: Farm, tmp_path: Path) -> None:
    # prevents: weights that were changed on the way, or by the one who lends them
    told = farm.library.catalogue()["sha256"] | {"CARD.md": "0" * 64}
    with pytest.raises(ModelError, match=r"CARD\.md came otherwise"):
        fetch(farm, tmp_path / "cache", sha256=told)
    assert not list((tmp_path / "cache").rglob("CARD.md*"))


@pytest.mark.parametrize(
    "sha256",
    [
        {"../x": "0" * 64},
        {"/etc/x": "0" * 64},
        {"": "0" * 64},
        {"a/b": "0" * 64},
        {"x": "short"},
        {"x": 5},
        [],
        None,
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(
    farm: Farm, tmp_path: Path, sha256: Any
) -> None:
    # prevents: a farm, or who pretends to be one, that writes all over a worker's disk
    with pytest.raises(ModelError, match="can't be"):
        fetch(farm, tmp_path / "cache", sha256=sha256)
    assert farm.asked == []


def test_a_worker_that_is_told_to_leave_does_not_wait_for_a_model(
    farm: Farm, tmp_path: Path
) -> None:
    farm.deaf = 10**6
    told = farm.library.catalogue()
    with pytest.raises(ModelError, match="told to leave"):
        model_here(told, farm.endpoint, farm.credentials, tmp_path / "cache", lambda: True)


def test_a_file_that_was_changed_there_since_is_refused_here(
    farm: Farm, package: Package, tmp_path: Path
) -> None:
    (package.folder / "CARD.md").write_text("another card")
    with pytest.raises(ModelError, match=r"CARD\.md came otherwise"):
        fetch(farm, tmp_path / "cache")


def test_a_farm_that_lends_nothing_says_so(farm: Farm, package: Package, tmp_path: Path) -> None:
    told = farm.library.catalogue()
    farm.library = Library(None)
    with pytest.raises(ModelError, match="no files to lend"):
        model_here(told, farm.endpoint, farm.credentials, tmp_path / "cache")


def test_where_fetched_models_are_kept() -> None:
    assert str(cache_directory({"XDG_CACHE_HOME": "/c"})) == "/c/farm/models"
    assert str(cache_directory({"XDG_CACHE_HOME": "c"})).endswith("/.cache/farm/models")
