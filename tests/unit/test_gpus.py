"""Which GPUs are found, and who gets one. The driver's files are played, as proc(5) has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from farm import gpus
from farm.config import Config
from farm.config.load import load_config
from farm.errors import ConfigError, StateError
from farm.gpus import Gpu, assigned, cuda_of, found, gpu_settings, on_ray, plan, visible

if TYPE_CHECKING:
    from pathlib import Path

TWO = (Gpu(0, "GPU-aa11", "NVIDIA A2"), Gpu(1, "GPU-bb22", "NVIDIA A2"))


class Machine:
    """A driver's folder and the device nodes."""

    def __init__(self, home: Path) -> None:
        self.driver, self.devices = home / "nvidia", home / "dev"
        self.devices.mkdir()

    def add(self, bus: str, uuid: str, minor: int, *, has_node: bool = True) -> None:
        folder = self.driver / "gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t NVIDIA A2\nIRQ:   \t\t 32\nGPU UUID: \t {uuid}\n"
            f"Bus Location: \t {bus}\nDevice Minor: \t {minor}\n"
        )
        if has_node:
            (self.devices / f"nvidia{minor}").touch()

    def found(self) -> tuple[Gpu, ...]:
        return found(self.driver, self.devices)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_drivers_files_are_read_in_the_order_of_the_bus(machine: Machine) -> None:
    """Another GPU than `nvidia-smi` calls by this number."""
    machine.add("0000:5e:00.0", "GPU-bb22", 0)
    machine.add("0000:3b:00.0", "GPU-aa11", 1)
    for name in ("nvidiactl", "nvidia-uvm", "null"):
        (machine.devices / name).touch()
    assert machine.found() == TWO


def test_a_container_has_those_whose_nodes_it_was_given(machine: Machine) -> None:
    """Workers on GPUs that others were given: the driver's folder is the whole machine's."""
    machine.add("0000:3b:00.0", "GPU-aa11", 0, has_node=False)
    machine.add("0000:5e:00.0", "GPU-bb22", 1)
    assert machine.found() == (Gpu(0, "GPU-bb22", "NVIDIA A2"),)


def test_nodes_alone_will_do_and_nothing_is_none(machine: Machine) -> None:
    """A machine without the driver's folder, or without a driver, on which the start fails."""
    assert machine.found() == ()
    machine.add("0000:3b:00.0", "GPU-aa11", 0, has_node=False)
    assert machine.found() == ()
    for name in ("nvidia7", "nvidia8"):
        (machine.devices / name).touch()
    assert machine.found() == (Gpu(0), Gpu(1))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1", (TWO[1],)),
        ("1,0", (TWO[1], TWO[0])),
        ("GPU-bb", (TWO[1],)),  # CUDA takes the beginning of one, too
        ("0, 7, 1", (TWO[0],)),  # and goes no farther than what it does not know
        ("MIG-9f0c", (Gpu(0, "MIG-9f0c"),)),
    ],
)
def test_what_is_hidden_is_not_seen(told: str, expected: tuple[Gpu, ...]) -> None:
    """A worker on a GPU that the operator has kept for something else."""
    assert visible(TWO, {gpus.VISIBLE: told}) == expected


def test_without_the_variable_all_are_seen() -> None:
    """Nothing on a machine that nobody has restricted."""
    assert visible(TWO, {}) == TWO


def settings(**model: Any) -> dict[str, Any]:
    return {"model_settings": model} if model else {}


def planned(
    here: tuple[Gpu, ...], config: dict[str, Any], environ: dict[str, str] | None = None
) -> dict[str, str]:
    """The device of each worker with one, by name."""
    made = plan(Config.model_validate(config), environ or {}, here=here)
    return {name: gpu.device for name, gpu in made.workers.items()}


BOTH = {"gpu0": "cuda:0", "gpu1": "cuda:1"}


@pytest.mark.parametrize(
    ("here", "config", "expected"),
    [
        ((), {}, {}),
        ((), settings(device="cuda"), {}),  # its workers will say so
        (TWO, settings(device="cuda"), BOTH),
        (TWO, {}, BOTH),  # the depth network takes one by itself
        (TWO, settings(device="cpu"), {}),
        (TWO, settings(runtime="int8"), {}),  # which runs on the CPU
        (TWO, {"model": "rule"}, {}),
        (TWO, {"model": "mine.models:Own"}, {}),  # nobody knows what it can
        (TWO, {"model": "mine.models:Own", **settings(device="cuda")}, BOTH),
        (TWO, {"model": "rule", "workers": {"gpus": 1}}, {"gpu0": "cuda:0"}),
        (TWO, {"workers": {"gpus": "none"}}, {}),
        (TWO, {"workers": {"gpus": [1]}}, {"gpu1": "cuda:1"}),
        (TWO, {"workers": {"gpus": "GPU-bb22"}}, {"gpu1": "cuda:1"}),
        (
            TWO,
            {"workers": {"gpus": [0], "per_gpu": 3}},
            {"gpu0": "cuda:0", "gpu0-2": "cuda:0", "gpu0-3": "cuda:0"},
        ),
        ((), {"workers": {"gpus": [0]}}, {"gpu0": "cuda:0"}),  # WSL shows none: believed
        ((), {"workers": {"gpus": 2}}, BOTH),
        (TWO, {"workers": {"gpus": ["MIG-x", "MIG-y"]}}, BOTH),
        (TWO, {"workers": {"gpus": ["0", "GPU-aa"]}}, {"gpu0": "cuda:0"}),
    ],
)
def test_who_gets_one(
    here: tuple[Gpu, ...],
    config: dict[str, Any],
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU that nobody uses; workers with one that the model can't use, or nobody wanted."""
    monkeypatch.setattr(gpus, "torch_cuda", lambda: "12.8")
    assert planned(here, config) == expected


def test_a_torch_without_cuda_gets_none_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that call themselves cuda:0 and compute on the CPU, 256 holes at a time."""
    monkeypatch.setattr(gpus, "torch_cuda", lambda: "")
    assert planned(TWO, {}) == {}


@pytest.mark.parametrize(
    ("config", "environ", "words"),
    [
        ({"workers": {"gpus": 3}}, {}, "3, but this machine shows 2"),
        ({"workers": {"gpus": [2]}}, {}, "no GPU 2 among 2: 0 (NVIDIA A2)"),
        ({"workers": {"gpus": [0]}}, {gpus.VISIBLE: "1"}, "no GPU 0 among 1: 1 (NVIDIA A2)"),
        ({"workers": {"gpus": 1}}, {gpus.VISIBLE: ""}, "hides all GPUs"),
        ({"workers": {"max": 4}, **settings(device="cuda")}, {}, "leave them out"),
        ({"workers": {"gpus": ["1", "MIG-x"]}}, {}, "name all of them in one way"),
        (
            {"workers": {"gpus": ["MIG-x", 0]}},
            {},
            "[MIG-x, 0] names GPUs in two ways",
        ),
        (
            {
                "workers": {"launch": "ray", "gpus": [1]},
                "attach": {"listen": "127.0.0.1:7003"},
                "ray": {"key_file": "/k"},
            },
            {},
            "say ray.num_gpus",
        ),
    ],
)
def test_what_can_not_be_had_is_refused_before_anything_starts(
    config: dict[str, Any], environ: dict[str, str], words: str
) -> None:
    """A farm that comes up with fewer GPUs than it was told, and says nothing."""
    with pytest.raises(StateError) as refused:
        plan(Config.model_validate(config), environ, here=TWO)
    assert words in str(refused.value)


def test_where_no_driver_can_be_asked_a_uuid_beside_an_index_is_refused() -> None:
    """Two GPUs by one name, of which one gets no worker and nobody hears of it."""
    with pytest.raises(StateError, match="in one way"):
        plan(Config.model_validate({"workers": {"gpus": ["GPU-z", 0]}}), {}, here=())


def test_a_model_for_gpus_alone_has_no_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten workers on the CPU that can't load the model; or that share a GPU with its worker."""
    monkeypatch.setattr(gpus, "torch_cuda", lambda: "12.8")
    only = plan(Config.model_validate(settings(device="cuda")), {}, here=TWO)
    assert (only.is_only, only.hides) == (True, True)
    beside = plan(Config(), {}, here=TWO)
    assert (beside.is_only, beside.hides) == (False, True)
    nothing = plan(Config(), {}, here=())
    assert (nothing.is_only, nothing.hides) == (False, False)  # as if there were no such thing
    assert plan(Config.model_validate({"workers": {"gpus": "none"}}), {}, here=TWO).hides


@pytest.mark.parametrize(
    ("told", "written"),
    [
        ("auto", "auto"),
        ("None", "none"),
        (2, "2"),
        ("2", "2"),
        ([0, 2], "[0, 2]"),
        ("[0,2]", "[0, 2]"),
        ("0, 2", "[0, 2]"),
        (["GPU-8f2a", 1], "[GPU-8f2a, 1]"),
    ],
)
def test_what_may_be_written(told: Any, written: str) -> None:
    """A list of the file that means something else in the environment."""
    assert Config.model_validate({"workers": {"gpus": told}}).workers.gpus == written


@pytest.mark.parametrize("told", ["", "0", 0, -1, 65, [], [0, 0], "all", "[0", "cuda:0", True, 1.5])
def test_what_may_not(told: Any, tmp_path: Path) -> None:
    """A word that is taken for something, and starts workers on other GPUs than was meant."""
    path = tmp_path / "farm.yaml"
    path.write_text(f"workers:\n  gpus: {told!r}\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path, {}, {})
    assert "workers.gpus" in str(refused.value)


@pytest.mark.parametrize(("gpus_told", "device"), [("none", "cuda"), ("2", "cpu")])
def test_a_contradiction_is_refused(gpus_told: str, device: str, tmp_path: Path) -> None:
    """A farm without any worker, or workers with a GPU that they don't use."""
    path = tmp_path / "farm.yaml"
    path.write_text(f"workers: {{gpus: {gpus_told}}}\nmodel_settings: {{device: {device}}}\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path, {}, {})
    assert "model_settings.device" in str(refused.value)


def test_a_worker_with_a_gpu_does_not_fall_back() -> None:
    """A driver that broke, and a worker that computes large batches on one core, unseen."""
    assert gpu_settings(Config()) == {"device": "cuda"}
    own = Config.model_validate({"model": "mine.models:Own", "model_settings": {"a": 1}})
    assert gpu_settings(own) == {"a": 1}  # it may refuse what it does not know


def test_a_worker_is_told_its_gpu_by_uuid_where_there_is_one() -> None:
    """Another GPU after one was taken out, or where CUDA counts the fastest first."""
    assert TWO[1].environment == {gpus.VISIBLE: "GPU-bb22", gpus.ORDER: gpus.BY_BUS}
    assert Gpu(1).environment[gpus.VISIBLE] == "1"


def test_the_option_of_a_worker_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of Ray on another GPU than Ray has given it; one without any that says it has."""
    monkeypatch.setattr(gpus, "found", lambda: TWO)
    assert assigned("1", {}) == TWO[1]
    assert assigned("GPU-aa", {}) == TWO[0]
    assert assigned("auto", {gpus.VISIBLE: "1"}) == TWO[1]
    for name, environ in (("2", {}), ("first", {}), ("auto", {gpus.VISIBLE: ""})):
        with pytest.raises(StateError, match="--gpu"):
            assigned(name, environ)
    for here in (TWO, ()):  # one that was hidden from it is not its own
        monkeypatch.setattr(gpus, "found", lambda here=here: here)
        with pytest.raises(StateError, match="hides all"):
            assigned("0", {gpus.VISIBLE: ""})
    assert assigned("0", {}) == Gpu(0)  # WSL shows none: believed


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("cuda: Optional[str] = None\n", ""),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "12.8"),
        ("cuda = '11.8'\n", "11.8"),
        ("hip: Optional[str] = '6.0'\n", ""),
    ],
)
def test_what_torch_was_built_with_is_read_off_its_file(
    text: str, version: str, tmp_path: Path
) -> None:
    """Seconds of an import at every start, in a process that must not have CUDA in it."""
    path = tmp_path / "version.py"
    path.write_text(f"__version__ = '2.9.0'\ndebug = False\n{text}")
    assert cuda_of(path) == version
    assert cuda_of(tmp_path / "missing.py") == ""


@pytest.mark.parametrize(
    ("config", "num_gpus"),
    [
        ({}, 0.0),
        (settings(device="cuda"), 1.0),
        ({"workers": {"per_gpu": 4}, **settings(device="cuda")}, 0.25),
        ({"ray": {"num_gpus": 0.5}}, 0.5),
        ({"ray": {"num_gpus": 2}, "workers": {"per_gpu": 4}, **settings(device="cuda")}, 2.0),
        ({"ray": {"resources": {"GPU": 0.5}}}, 0.5),  # as it was said before there was a key
    ],
)
def test_what_ray_is_asked_for(config: dict[str, Any], num_gpus: float) -> None:
    """Workers on nodes without a GPU; one that has a GPU alone where four were to share it."""
    assert on_ray(Config.model_validate(config)) == num_gpus


def test_on_ray_no_worker_of_this_machine_gets_one() -> None:
    """A GPU of the head's machine that is given away twice, by Ray and by us."""
    config = {
        "workers": {"launch": "ray"},
        "attach": {"listen": "127.0.0.1:7003"},
        "ray": {"key_file": "/k"},
        **settings(device="cuda"),
    }
    assert planned(TWO, config) == {}
