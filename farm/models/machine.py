"""What the depth network's runtimes were found to do on this machine, measured once and remembered.

Owns the measuring process, the file that keeps what it found, and the lock by which ten workers
that start together measure once. The decision is `farm.models.calibration`'s.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from farm import log
from farm.errors import ModelError
from farm.models.calibration import CANDIDATES, REFERENCE, Choice, Trial, choose
from farm.models.ort import has_onnxruntime
from farm.models.package import INT8, ONNX, Package
from farm.models.runtime import EXACT, THREAD_VARIABLES, threads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

REVISION: Final = 1
"""Of how it is measured, and of the file: what an older one kept is measured anew."""

_TRIAL: Final = "farm.training.trial"
_TRIAL_TIMEOUT_S: Final = 45.0  # half a minute is PyTorch from a slow disk; a worker has 60 s
_RETRY_S: Final = 3600.0  # after which a trial that failed is made again
_PACKAGES: Final = ("numpy", "onnxruntime", "torch")
_GPU_DEVICES: Final = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
_FILES: Final = {"onnx": ONNX, "int8": INT8}
_LOCK_NAME: Final = "calibration.lock"
_MAX_BYTES: Final = 100_000


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured on a machine.

    Attributes:
        key: what it depends on; another value of any of them, and it is measured anew.
        trials: one for each candidate; empty if the trial failed.
        problem: why it failed.
        made_s: when, in seconds since 1970.
    """

    key: dict[str, str]
    trials: tuple[Trial, ...]
    problem: str = ""
    made_s: float = 0.0

    @property
    def choice(self) -> Choice:
        """The runtime to take."""
        try:
            return choose(self.trials)
        except ValueError:  # the trial failed
            return Choice(EXACT, {EXACT: f"taken: {self.problem or 'nothing was measured'}"})


_FINDINGS = TypeAdapter(Findings)
_TRIALS = TypeAdapter(tuple[Trial, ...])


def runtime_here(package: Package, device: str) -> str:
    """The runtime to take on this machine where the configuration says `auto`.

    Args:
        package: a depth network.
        device: one of `farm.models.runtime.DEVICES`.
    """
    names = candidates(package)
    if names == [EXACT] or device == "cuda" or (device == "auto" and has_gpu()):
        return EXACT  # nothing to choose from: the others run on the CPU alone
    try:
        findings, is_new = remembered(package)
    except OSError as error:
        taken = "onnx" if "onnx" in names else EXACT
        log.get().warning(
            "runtime_not_calibrated",
            runtime=taken,
            cause=f"there is no folder to remember it in: {error}",
            cure="set XDG_CACHE_HOME to a writable folder, or pin model_settings.runtime",
        )
        return taken
    choice = findings.choice
    if is_new:
        log.get().info("runtime_chosen", runtime=choice.runtime, **told(findings))
    return choice.runtime


def told(findings: Findings) -> dict[str, str]:
    """Each candidate in words: its ms a hole by batch size, and why it is taken or is not."""
    reasons = findings.choice.reasons
    paces = {trial.name: trial.hole_ms for trial in findings.trials}
    return {name: _in_words(paces.get(name, {}), why) for name, why in reasons.items()}


def _in_words(hole_ms: Mapping[int, float], why: str) -> str:
    measured = ", ".join(f"{ms:.2f} ms at {b}" for b, ms in hole_ms.items())
    return f"{measured}: {why}" if measured else why


def candidates(package: Package) -> list[str]:
    """The runtimes that are worth a trial: those whose files and library are there."""
    files = package.manifest.sha256
    return [
        name
        for name in CANDIDATES
        if name not in _FILES or (has_onnxruntime() and _FILES[name] in files)
    ]


def has_gpu() -> bool:
    """Whether PyTorch has a GPU here. Asked without PyTorch where it can have none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # as a worker beside those with a GPU has it
        return False
    if not any(path.exists() for path in _GPU_DEVICES):
        return False
    import torch  # noqa: PLC0415 - seconds

    return torch.cuda.is_available()


def remembered(package: Package, *, anew: bool = False) -> tuple[Findings, bool]:
    """What is known of this machine, measured now if nothing is; and whether it was measured now.

    One process measures, others that come meanwhile wait for what it finds.

    Args:
        package: a depth network.
        anew: measure whatever is known.

    Raises:
        OSError: there is no folder that can keep it. Where only the file can't be written, the log
            says so.
    """
    key = machine_key(package)
    names = candidates(package)
    folder = cache_folder()
    path = folder / f"runtime-{_digest(key)}.json"
    if not anew and (findings := _read(path, key, names)):
        return findings, False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder / _LOCK_NAME):
        if not anew and (findings := _read(path, key, names)):
            return findings, False
        findings = measured(package, key)
        try:
            _write(path, findings)
        except OSError as error:
            log.get().warning(
                "runtime_not_remembered",
                cause=f"{path} can't be written: {error}",
                effect="every process that needs it measures again",
                cure="make room there, or pin model_settings.runtime",
            )
    return findings, True


def measured(package: Package, key: Mapping[str, str]) -> Findings:
    """Try the candidates now, in a process of its own."""
    trials: tuple[Trial, ...] = ()
    problem = ""
    try:
        trials = _try(package, candidates(package))
    except ModelError as error:
        problem = str(error)
        log.get().warning("runtime_trial_failed", cause=problem, runtime=EXACT)
    return Findings(dict(key), trials, problem, time.time())


def _try(package: Package, names: list[str]) -> tuple[Trial, ...]:
    # It ends with us, and by itself a little after we gave it up.
    bounds = [str(os.getpid()), str(math.ceil(_TRIAL_TIMEOUT_S) + 1)]
    folder = str(package.folder.absolute())
    command = [sys.executable, "-P", "-m", _TRIAL, *bounds, folder, *names]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads()))
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=_TRIAL_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelError(f"the trial took more than {_TRIAL_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise ModelError(f"the trial can't be started: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ModelError(f"the trial ended with {done.returncode}: {lines[-1][:300]}")
    try:
        found = _TRIALS.validate_json(done.stdout.splitlines()[-1])
        choose(found)
    except (ValidationError, ValueError, IndexError) as error:
        raise ModelError(f"the trial found nothing usable: {str(error)[:300]}") from error
    return found


# ---- what it depends on ------------------------------------------------------------------------


def machine_key(package: Package) -> dict[str, str]:
    """All that a runtime's pace and arithmetic depend on."""
    return {
        "revision": str(REVISION),
        "files": _digest({n: h for n, h in package.manifest.sha256.items() if n != "CARD.md"}),
        "cpu": _cpu(),
        "threads": str(threads()),
        "python": platform.python_version(),
    } | {name: _version(name) for name in _PACKAGES}


def _cpu() -> str:
    """The processor's model and what it can do, as the kernel tells: a digest of the latter."""
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    found: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            found.setdefault(name.strip(), value.strip())
    model = found.get("model name") or platform.machine()
    return f"{model} ({_digest(found)})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _digest(told: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode()).hexdigest()[:16]


# ---- where it is kept --------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where it is kept: $CACHE_DIRECTORY (of systemd), $XDG_CACHE_HOME/farm, or ~/.cache/farm.

    Raises:
        OSError: none of them is known.
    """
    given = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    if given.startswith("/"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):  # the specification: relative ones are to be ignored
        return Path(base) / "farm"
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        raise FileNotFoundError("neither XDG_CACHE_HOME nor HOME names a folder")
    return Path(home) / ".cache" / "farm"


def _read(path: Path, key: Mapping[str, str], names: Collection[str]) -> Findings | None:
    """What a file keeps; None where there is none, or it is damaged, not ours, of another key, of
    runtimes that are not among the names, or worn.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe keeps nobody here
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid():
                return None
            findings = _FINDINGS.validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return None
    if findings.key != key or not {trial.name for trial in findings.trials} <= set(names):
        return None
    is_worn = not 0 <= time.time() - findings.made_s < _RETRY_S
    return None if findings.problem and is_worn else findings


def _write(path: Path, findings: Findings) -> None:
    """Whole or not at all, for this user alone."""
    payload = json.dumps(asdict(findings), indent=1).encode()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it however this process ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def as_json(findings: Findings) -> dict[str, Any]:
    """For `farm models bench --json`."""
    choice = findings.choice
    return {
        "runtime": choice.runtime,
        "reference": REFERENCE,
        "reasons": dict(choice.reasons),
        **asdict(findings),
    }
