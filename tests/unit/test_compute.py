"""The compute loop's work: a job that can't be computed costs only itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fakes import FakeAdapter

from farm import wire
from farm.errors import DeviceError
from farm.models.model import Insufficient, depth_answer
from farm.worker.compute import Computer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FakeModel:
    """Answers with what a function makes of each input's trace."""

    version: Any = "fake-1"
    content_hash: Any = "abc0"

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self._answer = answer
        self.batches: list[int] = []

    def warm_up(self) -> None:
        """Nothing to warm."""

    def infer(self, inputs: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(len(inputs))
        return [self._answer(one["trace"]) for one in inputs]


def job(job_id: int, text: str = "") -> wire.Job:
    return wire.Job(job_id, "box/tool", str(job_id), 1, {"trace": f"{job_id}:{text}".encode()})


class FakeGpu(FakeModel):
    """One that computes nothing any more once a function says so of an input, as CUDA does."""

    def __init__(
        self, breaks: Callable[[str], bool], error: str = "CUDA error: bad access"
    ) -> None:
        super().__init__(explode_on_bad)
        self._breaks = breaks
        self._error = error
        self.is_broken = False

    def infer(self, inputs: Sequence[Any]) -> Sequence[Any]:
        self.is_broken |= any(self._breaks(one["trace"]) for one in inputs)
        if self.is_broken:
            self.batches.append(len(inputs))
            raise RuntimeError(self._error)
        return super().infer(inputs)


def run(model: Any, *jobs: wire.Job) -> list[wire.Result]:
    results = [wire.decode([frame]) for frame in Computer(model, FakeAdapter()).run(jobs, 50)]
    assert all(isinstance(result, wire.Result) for result in results)
    return results  # type: ignore[return-value]


def test_a_batch_is_computed_at_once_and_answered_in_order() -> None:
    model = FakeModel(str.upper)
    results = run(model, job(1, "a"), job(2, "b"))
    assert model.batches == [2]
    assert [(r.job_id, r.status, r.value, r.reason) for r in results] == [
        (1, "ok", "1:A", ""),
        (2, "ok", "2:B", ""),
    ]
    assert {(r.worker_id, r.model_version, r.model_hash) for r in results} == {
        (50, "fake-1", "abc0")
    }
    assert results[0].provenance == {"kinds": ["trace"]}
    assert all(r.read_s >= 0 and r.infer_s >= 0 for r in results)


def test_an_unreadable_job_costs_only_itself() -> None:
    model = FakeModel(str.upper)
    results = run(model, job(1, "unreadable"), job(2, "b"), job(3, "explodes"))
    assert [(r.job_id, r.status) for r in results] == [(1, "failed"), (2, "ok"), (3, "failed")]
    assert results[0].reason == "The trace message is unreadable"
    assert results[2].reason == "The adapter failed: RuntimeError: the reader broke"
    assert results[1].value == "2:B"


def test_nothing_readable_does_not_reach_the_model() -> None:
    model = FakeModel(str.upper)
    run(model, job(1, "unreadable"))
    assert model.batches == []


def test_a_reason_why_there_is_no_answer_is_no_failure() -> None:
    [result] = run(FakeModel(lambda _: Insufficient("Not enough steps")), job(1))
    assert (result.status, result.value, result.reason) == (
        "insufficient",
        None,
        "Not enough steps",
    )


def explode_on_bad(text: str) -> str:
    if text.endswith("bad"):
        raise ZeroDivisionError("bad hole")
    return text


def test_a_hole_that_breaks_the_model_does_not_cost_the_others_of_its_batch() -> None:
    results = run(FakeModel(explode_on_bad), job(1), job(2, "bad"), job(3))
    assert [r.status for r in results] == ["ok", "failed", "ok"]
    assert results[1].reason == "The model failed: ZeroDivisionError: bad hole"


def test_answers_of_the_wrong_number_are_never_given_to_the_wrong_hole() -> None:
    class Forgetful(FakeModel):
        def infer(self, inputs: Sequence[Any]) -> Sequence[Any]:
            return [one["trace"] for one in inputs if not one["trace"].endswith("bad")]

    results = run(Forgetful(str), job(1), job(2, "bad"), job(3))
    assert [(r.status, r.value) for r in results] == [
        ("ok", "1:"),
        ("failed", None),
        ("ok", "3:"),
    ]
    assert "0 answers to 1 inputs" in results[1].reason


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {1, 2}}, Insufficient(5)])  # type: ignore[arg-type]
def test_an_answer_that_can_not_be_sent_is_a_failed_hole_not_a_dead_worker(value: Any) -> None:
    [result] = run(FakeModel(lambda _: value), job(1))
    assert result.status == "failed"
    assert result.reason.startswith("The model's answer can't be sent: ")
    assert result.provenance == {"kinds": ["trace"]}


@pytest.mark.parametrize("text", ["undescribed", "unsendable"])
def test_a_description_that_breaks_costs_the_description_and_not_the_worker(text: str) -> None:
    [result] = run(FakeModel(str.upper), job(1, text))
    assert result.provenance == {}
    assert result.status == ("ok" if text == "undescribed" else "failed")


def test_a_model_version_or_hash_that_is_a_number_is_sent_as_text() -> None:
    model = FakeModel(str.upper)
    model.version, model.content_hash = 3, 17
    [result] = run(model, job(1))
    assert (result.model_version, result.model_hash) == ("3", "17")


def test_a_hole_without_value_says_whose_verdict_it_is_too() -> None:
    # prevents: a refusal that can't be traced to the weights that refused
    [refusal] = run(FakeModel(lambda _: Insufficient("Not enough steps")), job(1))
    [failure] = run(FakeModel(explode_on_bad), job(1, "bad"))
    [unsendable] = run(FakeModel(lambda _: object()), job(1))
    assert {r.model_hash for r in (refusal, failure, unsendable)} == {"abc0"}


def test_the_confidence_of_a_model_reaches_the_wire() -> None:
    # prevents: a worker that sends on the keypoints alone
    answer = depth_answer([2.0, 10.0], sigma_mm=[0.06, 0.1], quality=0.98, tip_mm=[1.9, 9.8])
    [result] = run(FakeModel(lambda _: answer), job(1))
    assert (result.status, result.value) == ("ok", answer)


# ---- the golden hole -----------------------------------------------------------------------------


def check(answer: Callable[[str], Any], text: str) -> dict[str, Any]:
    parts = {"trace": f"7:{text}".encode()}
    return Computer(FakeModel(answer), FakeAdapter()).check(parts)


def test_the_golden_hole_is_answered_as_any_other() -> None:
    assert check(str.upper, "a") == {"status": "ok", "value": "7:A", "reason": ""}
    refusal = {"status": "insufficient", "value": None, "reason": "Not enough steps"}
    assert check(lambda _: Insufficient("Not enough steps"), "a") == refusal


def test_without_a_golden_hole_nothing_is_answered() -> None:
    assert Computer(FakeModel(str.upper), FakeAdapter()).check({}) == {}


def out_of_memory(_text: str) -> str:
    raise MemoryError("no 4 GB left")


@pytest.mark.parametrize(
    ("answer", "text", "reason"),
    [
        (explode_on_bad, "bad", "The model failed: ZeroDivisionError: bad hole"),
        (out_of_memory, "", "The model failed: MemoryError: no 4 GB left"),
        (str.upper, "unreadable", "The trace message is unreadable"),
        (str.upper, "explodes", "The adapter failed: RuntimeError: the reader broke"),
        (lambda _: {1: 2}, "", "The model's answer can't be sent: "),
    ],
)
def test_a_golden_hole_that_can_not_be_computed_is_told_and_does_not_end_the_worker(
    answer: Callable[[str], Any], text: str, reason: str
) -> None:
    # prevents: a worker that dies of it without a word, again and again; the broker decides
    told = check(answer, text)
    assert (told["status"], told["value"]) == ("failed", None)
    assert told["reason"].startswith(reason)


def test_one_bad_hole_among_256_costs_few_calls_of_the_model() -> None:
    """256 single calls of a GPU for one hole that raises: ten seconds, and perhaps the worker."""
    model = FakeModel(explode_on_bad)
    results = run(model, *(job(n, "bad" if n == 77 else "") for n in range(256)))
    assert [r.job_id for r in results if r.status == "failed"] == [77]
    assert [r.job_id for r in results] == list(range(256))
    # all of them, then two halves for each time that 256 can be halved
    assert len(model.batches) == 1 + 2 * 8


def breaks_on_poison(text: str) -> bool:
    return text.endswith("poison")


@pytest.mark.parametrize(
    "jobs",
    [
        [job(2, "poison")],
        [job(2, "poison"), job(3)],
        [job(2, "bad"), job(3), job(4, "poison"), job(5)],
    ],
)
def test_a_broken_gpu_ends_its_worker_instead_of_failing_every_hole(jobs: list[wire.Job]) -> None:
    """A GPU that answers FAILED to all that comes, and being the fastest draws the whole load."""
    computer = Computer(FakeGpu(breaks_on_poison, "it is gone"), FakeAdapter(), device="cuda:0")
    computer.run([job(1)], 50)
    with pytest.raises(DeviceError, match=r"^cuda:0 computes nothing any more, not.*: it is gone$"):
        computer.run(jobs, 50)


def test_a_gpu_that_was_broken_from_the_first_hole_on_is_known_by_what_cuda_says() -> None:
    """The same where nothing was computed before; and a process that ends for want of memory."""
    computer = Computer(FakeGpu(breaks_on_poison), FakeAdapter(), device="cuda:0")
    with pytest.raises(DeviceError, match=r"^cuda:0 computes nothing any more: The model failed: "):
        computer.run([job(1, "poison")], 50)
    computer = Computer(FakeGpu(breaks_on_poison, "CUDA out of memory"), FakeAdapter(), device="c")
    assert len(computer.run([job(1, "poison")], 50)) == 1


def test_holes_that_fail_by_their_own_fault_do_not_end_a_worker_with_a_gpu() -> None:
    """A batch of holes that the model can't do that ends process after process."""
    model = FakeGpu(breaks_on_poison)
    computer = Computer(model, FakeAdapter(), device="cuda:0")
    assert len(computer.run([job(1, "bad"), job(2, "bad")], 50)) == 2
    computer.run([job(3)], 50)
    before = len(model.batches)
    results = [wire.decode([f]) for f in computer.run([job(4, "bad"), job(5, "bad")], 50)]
    assert [r.status for r in results] == ["failed", "failed"]  # type: ignore[union-attr]
    assert len(model.batches) == before + 3 + 1  # both, each, and the one that it has computed


def test_without_a_gpu_no_hole_is_computed_again() -> None:
    """A farm without a GPU that pays for those with one."""
    model = FakeGpu(breaks_on_poison)
    assert [r.status for r in run(model, job(1), job(2, "poison"))] == ["failed", "failed"]
    assert model.batches == [2, 1, 1]
