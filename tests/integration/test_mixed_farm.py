"""A farm of workers with and without a GPU. The GPU is played: no test here needs one.

`odd_models:LikeAGpu` takes the same time for a batch of any size where its worker was told a GPU,
and for each hole elsewhere. What is real is all the rest: launching, dealing, gathering, blaming.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import (
    ODD_MODELS,
    Farm,
    Mosquitto,
    Site,
    Tool,
    assert_one_answer_each,
    eventually,
    run_farm,
    settle,
)

from farm.journal.store import DATABASE_NAME, DIRECTORY_NAME
from farm.slot import read_slot

if TYPE_CHECKING:
    from collections.abc import Callable

HOLES = 300
LEAST_HELD = 40  # when it is killed
GPU = "gpu0"


def mixed(start_farm: Callable[..., Farm], port: int, environment: dict[str, str]) -> Farm:
    """Two plain workers and one that is told the GPU 0."""
    farm = start_farm(
        port,
        workers=2,
        wait=False,
        model="odd_models:LikeAGpu",
        environment=ODD_MODELS | environment,
        more={"workers": {"gpus": [0]}},
    )
    farm.wait_ready(3)
    return farm


def rows(farm: Farm) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in farm.stats().get("workers", ())}


def test_who_has_a_gpu_takes_the_larger_share_and_its_end_blames_what_it_computed(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    tmp_path: Path,
) -> None:
    """A GPU that gets no more than its turn; a hole lost with a batch, or answered twice; holes
    blamed that only waited behind the batch that ended its worker; a GPU that is not given again.
    """
    mosquitto = make_mosquitto(durable=False)  # the disk must not be what is waited for
    site = make_site(mosquitto.port)
    stall = tmp_path / "stall"
    farm = mixed(start_farm, mosquitto.port, {"STALLS_WHILE": str(stall)})
    first = rows(farm)
    assert first[GPU]["device"] == "cuda:0"
    assert {first[name]["device"] for name in ("1", "2")} == {""}
    assert farm.stats()["workers_expected"] == 3
    told = {name: environment_of(row["pid"]) for name, row in first.items()}
    assert told[GPU]["CUDA_VISIBLE_DEVICES"]

    tools = [Tool() for _ in range(5)]
    holes = [tool.drill() for _ in range(HOLES // 5) for tool in tools]
    for hole in holes:
        site.send_hole(hole)
    site.wait_answered(holes, 60)
    done = {name: row["jobs_done"] for name, row in rows(farm).items()}
    assert sum(done.values()) >= HOLES
    assert done[GPU] > done["1"] + done["2"], done

    stall.touch()
    more = [tool.drill() for _ in range(HOLES // 5) for tool in tools]
    for hole in more:
        site.send_hole(hole)
    eventually(lambda: rows(farm)[GPU]["jobs_held"] >= LEAST_HELD, 30, farm.last_lines)
    gpu = rows(farm)[GPU]
    # It changes no more: one batch is under way, and what it holds beside that waits.
    computing = read_slot(farm.state_dir / "slots" / str(gpu["id"]), gpu["id"])
    assert computing
    stall.unlink()
    os.kill(gpu["pid"], signal.SIGKILL)
    site.wait_answered(more, 60)
    settle(site, farm)
    assert_one_answer_each(site, [*holes, *more])
    assert blamed(farm) == dict.fromkeys(computing, 1)
    eventually(lambda: rows(farm).get(GPU, gpu)["pid"] != gpu["pid"], 30, farm.last_lines)
    farm.wait_ready(3)
    again = rows(farm)[GPU]
    assert again["device"] == "cuda:0"
    assert environment_of(again["pid"]) == told[GPU]
    shown = run_farm("workers", "--state-dir", str(farm.state_dir)).stdout
    assert "cuda:0" in shown


def test_a_gpu_that_breaks_costs_no_hole_its_answer(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    tmp_path: Path,
) -> None:
    """Hundreds of holes answered with the words of a broken GPU, one after the other."""
    mosquitto = make_mosquitto(durable=False)
    site = make_site(mosquitto.port)
    breaks = tmp_path / "breaks"
    farm = mixed(start_farm, mosquitto.port, {"BREAKS_IF": str(breaks)})
    first = rows(farm)[GPU]
    tools = [Tool() for _ in range(5)]
    before = [tool.drill() for _ in range(HOLES // 20) for tool in tools]
    for hole in before:
        site.send_hole(hole)
    site.wait_answered(before, 60)
    breaks.touch()
    holes = [tool.drill() for _ in range(HOLES // 10) for tool in tools]
    for hole in holes:
        site.send_hole(hole)
    site.wait_answered(holes, 60)
    settle(site, farm)
    assert_one_answer_each(site, [*before, *holes])
    assert not breaks.exists()
    eventually(lambda: rows(farm).get(GPU, first)["pid"] != first["pid"], 30, farm.last_lines)
    ends = farm.stats()["holes"]
    assert ends["published"] == ends["arrived"] == len(before) + len(holes), ends
    assert set(blamed(farm).values()) == {1}
    assert "gpu_failed" in farm.log


def environment_of(pid: int) -> dict[str, str]:
    """What a process was started with of CUDA's variables."""
    lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = [line.decode().partition("=") for line in lines]
    return {name: value for name, _, value in pairs if name.startswith("CUDA_")}


def blamed(farm: Farm) -> dict[int, int]:
    """Which holes have cost how many workers, as the journal has it."""
    path = farm.state_dir / DIRECTORY_NAME / DATABASE_NAME
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as found:
        return dict(found.execute("SELECT id, deaths FROM hole WHERE deaths > 0"))
