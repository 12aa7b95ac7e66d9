"""A page of its own over the journal of a farm that has stopped, for tests in a browser."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from rig import clean_environment, eventually, farm_command

from farm.adapter import Publication
from farm.journal import records as r
from farm.journal.store import Store
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def served(port: int) -> str:
    """The page's address, once it is served."""

    def is_there() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(is_there, 20, "the page is served")
    return f"http://127.0.0.1:{port}"


def history(state_dir: Path, count: int, *, first: int = 0) -> None:
    """The journal of a farm that has stopped, with many holes that share two messages.

    Args:
        state_dir: where; what is there already stays.
        count: of holes.
        first: number of the first one.
    """
    store = Store(state_dir, durability="process", segment_bytes=64_000_000)
    payloads = {"result": b"{}", "trace": b"{}"} if not first else {}
    for number, (kind, payload) in enumerate(payloads.items(), 1):
        store.write([r.Message(number, 1e9, kind, "B/T", "1", f"x/{kind}", payload, 0)])
    batch: list[r.Record] = []
    for number in range(first, first + count):
        hole_id, at_s = 10 + number, 1.7e9 + number
        value = {"keypoints_mm": [1.0, 5.0, 9.0 + number / count], "quality": number % 100 / 100}
        batch += [
            r.Opened(hole_id, f"BOX-{number % 7}/UNIT-{number % 21}", str(number),
                     {"result": 1, "trace": 2}, at_s, at_s, at_s + 0.1),
            r.Answered(hole_id, at_s, "published", "ok", "", value, {}, "m", "h",
                       (Publication("t", b"{}"),), []),
            r.Ended(hole_id, at_s, "published"),
        ]  # fmt: skip
    store.write(batch)
    store.close(is_clean=True)


@contextlib.contextmanager
def dashboard(state_dir: Path, *, token: str = "", port: int = 0, **page: Any) -> Iterator[str]:
    """The address of a page that runs; it must end in good order.

    Args:
        state_dir: of the farm.
        token: to be shown; "": none is.
        port: where; 0: any.
        page: more of the section `page:`.
    """
    if token:
        token_file = state_dir / "token"
        token_file.write_text(f"{token}\n")
        page["token_file"] = str(token_file)
    (state_dir / "farm.yaml").write_text(json.dumps({"page": page}))
    listen = f"127.0.0.1:{port or free_port()}"
    command = farm_command("dashboard", "--state-dir", state_dir, "--listen", listen)
    process = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert b"http://127.0.0.1" in process.stderr.readline()
        yield served(int(listen.rpartition(":")[2]))
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
