"""The compute loop's work: raw parts in, results out. Knows no sockets.

A job in a batch that can't be read or computed costs only itself. But where a GPU is broken (after
an error CUDA computes nothing more in this process) every job would fail, each as if by its own
fault, and the worker, always ready, would draw all the load. So where jobs failed, one that was
computed before is tried: does it fail, too, it is the GPU.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farm import log, wire
from farm.adapter import Status
from farm.errors import DeviceError, ModelError, ReadError, WireError
from farm.log import Limited
from farm.models.model import Insufficient
from farm.worker.core_time import CoreTime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.adapter import Adapter
    from farm.models.model import Model

CUDA_ERROR: Final = "CUDA error"  # in PyTorch's words; to have no memory is another one


class _End(NamedTuple):
    """How the work on one job ended."""

    status: Status
    value: Any = None
    reason: str = ""


class Computer:
    """Holds the model and the adapter of one worker.

    Args:
        model: loaded.
        adapter: reads what it is given.
        device: the GPU that it computes on; "": none.
    """

    def __init__(self, model: Model, adapter: Adapter, *, device: str = "") -> None:
        self._model = model
        self._adapter = adapter
        self._device = device
        self._witness: Mapping[str, bytes] | None = None  # parts that were computed on the GPU
        self._core_time: CoreTime | None = None
        self._log = Limited()

    def check(self, parts: Mapping[str, bytes]) -> dict[str, Any]:
        """Answer the golden hole, which the broker judges before it sends the first job.

        Args:
            parts: of the hole, raw, by kind.

        Returns:
            Status, value and reason as a `wire.Result` has them; {} where there are no parts. A
            hole that can't be computed is failed here too, so that the broker can tell why.

        Raises:
            DeviceError: the GPU is broken.
        """
        if not parts:
            return {}
        [frame] = self.run([wire.Job(0, "golden hole", "", 1, parts)], 0)
        result = wire.decode([frame])
        assert isinstance(result, wire.Result)
        return {"status": result.status, "value": result.value, "reason": result.reason}

    def run(self, jobs: Sequence[wire.Job], worker_id: int) -> list[bytes]:
        """The results of all jobs, encoded for the wire, in order. Call it from one thread.

        Raises:
            DeviceError: the GPU is broken; nothing can be said of these jobs.
        """
        if self._core_time is None:
            self._core_time = CoreTime()
        begin = self._core_time.read()
        readable: list[wire.Job] = []
        inputs: list[Any] = []
        unreadable: dict[int, _End] = {}
        reads_s: dict[int, float] = {}
        for job in jobs:
            started_s = time.perf_counter()
            try:
                inputs.append(self._adapter.read(job.parts))
                readable.append(job)
            except ReadError as error:
                unreadable[job.job_id] = _End(Status.FAILED, reason=str(error))
            # an adapter of the user's may raise anything: this is the job's boundary
            except Exception as error:  # noqa: BLE001
                unreadable[job.job_id] = self._blame("adapter", job, error)
            reads_s[job.job_id] = time.perf_counter() - started_s
        started_s = time.perf_counter()
        found = self._infer(readable, inputs)
        if self._device:
            self._check_device(readable, found)
        answers = iter(found)
        infer_s = (time.perf_counter() - started_s) / max(len(inputs), 1)
        demand = self._core_time.demand_since(begin)
        ends = [unreadable.get(job.job_id) or next(answers) for job in jobs]
        if log.is_debug():
            self._note(jobs, ends, infer_s)
        return [
            self._result(job, worker_id, end, (reads_s[job.job_id], infer_s, demand))
            for job, end in zip(jobs, ends, strict=True)
        ]

    def _note(self, jobs: Sequence[wire.Job], ends: Sequence[_End], infer_s: float) -> None:
        for job, end in zip(jobs, ends, strict=True):
            log.get().debug(
                "hole_computed",
                source=job.source,
                id=job.part_id,
                status=end.status.value,
                infer_ms=round(1000 * infer_s, 2),
                batch=len(jobs),
            )

    def _infer(self, jobs: Sequence[wire.Job], inputs: Sequence[Any]) -> list[_End]:
        if not inputs:
            return []
        try:
            answers = self._answers(inputs)
        # a model may raise anything: this is the job's boundary
        except Exception as error:  # noqa: BLE001
            if len(jobs) == 1:
                return [self._blame("model", jobs[0], error)]
            # find the one that is to blame, and answer the others, in few calls
            half = len(jobs) // 2
            first = self._infer(jobs[:half], inputs[:half])
            return first + self._infer(jobs[half:], inputs[half:])
        return [
            _End(Status.INSUFFICIENT, reason=answer.reason)
            if isinstance(answer, Insufficient)
            else _End(Status.OK, answer)
            for answer in answers
        ]

    def _check_device(self, jobs: Sequence[wire.Job], ends: Sequence[_End]) -> None:
        """Whether those that failed did so by their own fault.

        Raises:
            DeviceError: it is the GPU's.
        """
        for job, end in zip(jobs, ends, strict=True):
            if end.status is Status.OK:  # one that is insufficient may never have got there
                self._witness = job.parts
                break
        reasons = [end.reason for end in ends if end.status is Status.FAILED]
        if not reasons:
            return
        if self._witness is None:  # nobody to ask but CUDA itself
            told = next((reason for reason in reasons if CUDA_ERROR in reason), "")
        else:
            told = self._fault_of(self._witness)
        if told:
            again = ", not even what it has computed before" if self._witness is not None else ""
            raise DeviceError(f"{self._device} computes nothing any more{again}: {told}")

    def _fault_of(self, parts: Mapping[str, bytes]) -> str:
        try:
            self._answers([self._adapter.read(parts)])
        # a model may raise anything, and whatever it is: a while ago it did not
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {error}"
        return ""

    def _answers(self, inputs: Sequence[Any]) -> list[Any]:
        answers = list(self._model.infer(inputs))
        if len(answers) != len(inputs):  # whose they are can't be known then
            raise ModelError(f"{len(answers)} answers to {len(inputs)} inputs")
        return answers

    def _blame(self, who: str, job: wire.Job, error: Exception) -> _End:
        self._log.warning(f"{who}_failed", source=job.source, id=job.part_id, exc_info=error)
        return _End(Status.FAILED, reason=f"The {who} failed: {type(error).__name__}: {error}")

    def _result(
        self, job: wire.Job, worker_id: int, end: _End, took: tuple[float, float, float]
    ) -> bytes:
        """The result on the wire; what can't be sent is left out, and said."""
        read_s, infer_s, demand = took
        result = wire.Result(
            worker_id=worker_id,
            job_id=job.job_id,
            status=end.status.value,
            value=end.value,
            reason=end.reason,
            provenance=self._describe(job),
            model_version=str(self._model.version)[: wire.MAX_NAME_CHARS],
            model_hash=str(self._model.content_hash)[: wire.MAX_NAME_CHARS],
            read_s=read_s,
            infer_s=infer_s,
            demand=demand,
            ticket=job.ticket,
        )
        try:
            return wire.encode(result)
        except WireError as error:
            reason = f"The model's answer can't be sent: {error}"
            result = result._replace(status=Status.FAILED.value, value=None, reason=reason)
        try:
            return wire.encode(result)
        except WireError as error:
            reason = f"What the adapter says of the parts can't be sent: {error}"
            return wire.encode(result._replace(provenance={}, reason=reason))

    def _describe(self, job: wire.Job) -> dict[str, Any]:
        try:
            return dict(self._adapter.describe(job.parts))
        # the contract forbids it, but the next job must not pay for it
        except Exception as error:  # noqa: BLE001
            self._blame("adapter", job, error)
            return {}
