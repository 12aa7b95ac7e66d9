"""The compute loop's work: raw parts in, results out. Knows no sockets.

A job in a batch that can't be read or computed costs only itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from farm import wire
from farm.adapter import Adapter, Status
from farm.errors import FarmError, ReadError, WireError
from farm.log import Limited
from farm.models.model import Insufficient, Model


class Computer:
    """Holds the model and the adapter of one worker."""

    def __init__(self, model: Model, adapter: Adapter) -> None:
        self._model = model
        self._adapter = adapter
        self._log = Limited()

    def run(self, jobs: Sequence[wire.Job], worker_id: int) -> list[bytes]:
        """The results of all jobs, encoded for the wire, in order."""
        inputs: list[Any] = []
        ends: list[tuple[Status, Any, str]] = []
        reads_s: list[float] = []
        for job in jobs:
            started_s = time.perf_counter()
            try:
                inputs.append(self._adapter.read(job.parts))
                ends.append((Status.OK, None, ""))
            except ReadError as error:
                ends.append((Status.FAILED, None, str(error)))
            # an adapter of the user's may raise anything: this is the job's boundary
            except Exception as error:  # noqa: BLE001
                ends.append((Status.FAILED, None, self._blame("adapter", job, error)))
            reads_s.append(time.perf_counter() - started_s)
        started_s = time.perf_counter()
        answers = iter(self._infer([j for j, e in zip(jobs, ends, strict=True) if e[0] is Status.OK], inputs))
        infer_s = (time.perf_counter() - started_s) / max(len(inputs), 1)
        return [
            self._encode(job, worker_id, next(answers) if end[0] is Status.OK else end, read_s, infer_s)
            for job, end, read_s in zip(jobs, ends, reads_s, strict=True)
        ]

    def _infer(self, jobs: Sequence[wire.Job], inputs: Sequence[Any]) -> list[tuple[Status, Any, str]]:
        if not inputs:
            return []
        try:
            answers = list(self._model.infer(inputs))
            if len(answers) != len(inputs):
                raise FarmError(f"{len(answers)} answers for {len(inputs)} inputs")
        # a model may raise anything: this is the job's boundary
        except Exception as error:  # noqa: BLE001
            if len(jobs) > 1:  # find the one that is to blame, and answer the others
                return [
                    self._infer([job], [one])[0] for job, one in zip(jobs, inputs, strict=True)
                ]
            return [(Status.FAILED, None, self._blame("model", jobs[0], error))]
        return [
            (Status.INSUFFICIENT, None, answer.reason)
            if isinstance(answer, Insufficient)
            else (Status.OK, answer, "")
            for answer in answers
        ]

    def _blame(self, who: str, job: wire.Job, error: Exception) -> str:
        self._log.warning(f"{who}_failed", source=job.source, id=job.part_id, exc_info=error)
        return f"The {who} failed: {type(error).__name__}: {error}"

    def _encode(
        self,
        job: wire.Job,
        worker_id: int,
        end: tuple[Status, Any, str],
        read_s: float,
        infer_s: float,
    ) -> bytes:
        status, value, reason = end
        provenance = dict(self._adapter.describe(job.parts))
        version = self._model.version
        try:
            return wire.encode(
                wire.Result(
                    worker_id, job.job_id, status.value, value, reason, provenance, version,
                    read_s, infer_s,
                )
            )
        except WireError as error:
            reason = f"The model's answer can't be sent: {error}"
            return wire.encode(
                wire.Result(
                    worker_id, job.job_id, Status.FAILED.value, None, reason, provenance, version,
                    read_s, infer_s,
                )
            )
