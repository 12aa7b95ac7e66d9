"""What all rounds say together: medians, ratios, and whether every hole was answered once.

Pure arithmetic on `Round`s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from farm.simulation.bench.meter import GENERATOR
from farm.simulation.bench.rounds import AGAINST, FARM
from farm.simulation.mqttd import Engine
from farm.simulation.report import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from farm.simulation.bench.forward import Forward
    from farm.simulation.bench.meter import Measured
    from farm.simulation.bench.rounds import Round

ERRORS_OFF: Final = 0.02
"""How far a share of errors may be from what is expected, beyond chance."""

QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
FORWARD: Final = "forward"  # the model alone, among the ratios
_NOT_OURS: Final = frozenset({GENERATOR, *(engine.value for engine in Engine)})
_STAGE_FIGURES: Final = ("mean_s", "p50_s", "p99_s", "p999_s", "max_s")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one contender: medians over its rounds, sums of what is counted.

    Attributes:
        name: of the contender.
        rates_hz: holes per second, of each round.
        rate_hz: their median.
        latency_ms: by `QUANTILES`, from the last message published to the depths received.
        stages_ms: its own account, by stage in its order: mean, p50, p99, p999, max.
        cpu_ms: CPU time of a hole, by kind of process.
        memory: processes and PSS in bytes, by kind.
        ready_s: from its start until it took holes.
        peak_backlog: the highest of any round.
        holes: published in all.
        answered: of them.
        unanswered: of them.
        repeated: of them, answered more than once.
        examples: some keys of these two.
        errors: answers that are reasons, by reason.
        strangers: answers to nobody's holes.
        unacknowledged: publications that the MQTT broker did not take.
        max_late_ms: how far an open loop fell behind its schedule.
        bytes_per_hole: on average.
        replaced_ms: of each killed worker.
        foreign_cores: how many cores were busy with something else, at worst.
        expected_errors: share of the holes for which there should be a reason and no depths; None
            where nothing tells.
    """

    name: str
    rates_hz: list[float]
    rate_hz: float
    latency_ms: dict[str, float | None]
    stages_ms: dict[str, dict[str, float | None]]
    cpu_ms: dict[str, float]
    memory: dict[str, tuple[int, int]]
    ready_s: float
    peak_backlog: int
    holes: int
    answered: int
    unanswered: int
    repeated: int
    examples: list[str]
    errors: dict[str, int]
    strangers: int
    unacknowledged: int
    max_late_ms: float
    bytes_per_hole: int
    replaced_ms: list[float]
    foreign_cores: float
    expected_errors: float | None = None

    @property
    def complete(self) -> bool:
        """Every hole was answered, and once."""
        bad = self.unanswered or self.repeated or self.unacknowledged
        return self.holes > 0 and not bad

    @property
    def good(self) -> bool:
        """It is complete, with as many errors as there should be."""
        return self.complete and not self.errs_oddly

    @property
    def error_share(self) -> float:
        """Of the answered holes, those with a reason for an answer."""
        return sum(self.errors.values()) / max(self.answered, 1)

    @property
    def errs_oddly(self) -> bool:
        """As many errors as chance does not explain; all of them, where nothing else is known."""
        expected = self.expected_errors
        if expected is None:
            return self.error_share >= 1.0
        count = max(self.answered, 1)
        chance = 3 * math.sqrt(expected * (1 - expected) / count) + 1 / count
        return abs(self.error_share - expected) > ERRORS_OFF + chance

    @property
    def own_cpu_ms(self) -> float:
        """CPU time of a hole in its own processes: not the MQTT broker's, nor the generator's."""
        return sum(ms for kind, ms in self.cpu_ms.items() if kind not in _NOT_OURS)

    @property
    def own_bytes(self) -> int:
        """PSS of its own processes."""
        return sum(size for kind, (_, size) in self.memory.items() if kind not in _NOT_OURS)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of a whole bench.

    Attributes:
        figures: by contender, the farm first.
        ratios: the farm's throughput by that of each other one, as medians of the rounds.
        cpu_ratios: the CPU time of a hole of each other one by the farm's, likewise, the MQTT
            broker and the generator included: the ratios as they were if only CPU time were scarce
            and nothing else kept the cores busy.
        forward_hz: of the model alone; None where it was not measured.
        forward_batch: the batch that was best for it.
        forward_ms: its CPU time of a hole.
        trials_hz: its holes per second in short trials, by batch.
        outside_ms: CPU time of a hole in the farm's own processes that is not the model's; None
            where that is not known.
    """

    figures: dict[str, Figures]
    ratios: dict[str, float]
    cpu_ratios: dict[str, float]
    forward_hz: float | None = None
    forward_batch: int = 0
    forward_ms: float | None = None
    trials_hz: dict[int, float] = field(default_factory=dict)
    outside_ms: float | None = None

    @property
    def farm(self) -> Figures:
        """The farm's own."""
        return self.figures[FARM]


def summarise(rounds: Sequence[Round], *, is_null: bool) -> Summary:
    """Sum up at least one round.

    Args:
        rounds: all with the same contenders.
        is_null: the model does nothing: its CPU time is none.
    """
    names = rounds[0].measured
    figures = {name: _figures([one.measured[name] for one in rounds]) for name in names}
    forwards = [one.forward for one in rounds if one.forward is not None]
    expected = _expected_errors(figures, forwards, is_null=is_null)
    for name, share in expected.items():
        figures[name] = replace(figures[name], expected_errors=share)
    forward_ms = median(one.cpu_ms_per_hole for one in forwards) if forwards else None
    known_ms = 0.0 if is_null else forward_ms
    return Summary(
        figures=figures,
        ratios=_ratios([_rates_hz(one) for one in rounds]),
        cpu_ratios=_ratios([_holes_per_cpu_s(one) for one in rounds]),
        forward_hz=median(one.rate_hz for one in forwards) if forwards else None,
        forward_batch=forwards[-1].batch if forwards else 0,
        forward_ms=forward_ms,
        trials_hz=forwards[-1].trials_hz if forwards else {},
        outside_ms=None if known_ms is None else figures[FARM].own_cpu_ms - known_ms,
    )


def _expected_errors(
    figures: dict[str, Figures], forwards: Sequence[Forward], *, is_null: bool
) -> dict[str, float]:
    """By contender with the model: what it alone refuses, else what the others refuse."""
    others = [name for name in figures if name in AGAINST]
    known = [one.refused for one in forwards if one.refused is not None]
    if known or is_null:
        return dict.fromkeys([FARM, *others], known[-1] if known else 0.0)
    return {FARM: median(figures[name].error_share for name in others)} if others else {}


def _rates_hz(one: Round) -> dict[str, float]:
    rates_hz = {name: measured.rate_hz for name, measured in one.measured.items()}
    return rates_hz | ({FORWARD: one.forward.rate_hz} if one.forward else {})


def _holes_per_cpu_s(one: Round) -> dict[str, float]:
    costs_ms = {
        name: sum(measured.cpu_ms_per_hole().values()) for name, measured in one.measured.items()
    }
    costs_ms |= {FORWARD: one.forward.cpu_ms_per_hole} if one.forward else {}
    return {name: 1000 / cost_ms for name, cost_ms in costs_ms.items() if cost_ms > 0}


def _ratios(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The farm by each other one: in the same round first, then the median.

    Machines change their pace, so values of different rounds must not be divided.
    """
    found: dict[str, list[float]] = {}
    for rates in rounds:
        for name, rate in rates.items():
            if name != FARM and rate > 0 and FARM in rates:
                found.setdefault(name, []).append(rates[FARM] / rate)
    return {name: median(values) for name, values in found.items()}


def _figures(all_of: Sequence[Measured]) -> Figures:
    driven = [one.driven for one in all_of]
    replacing = [one.replacing for one in all_of if one.replacing is not None]
    loads = [*driven, *(one.driven for one in replacing)]
    rates_hz = [one.rate_hz for one in all_of]
    return Figures(
        name=all_of[0].name,
        rates_hz=rates_hz,
        rate_hz=median(rates_hz),
        latency_ms=_latency(all_of),
        stages_ms=_stages(all_of),
        cpu_ms=_by_key([one.cpu_ms_per_hole() for one in all_of], median),
        memory={
            kind: (count, round(median(one.memory.get(kind, (0, 0))[1] for one in all_of)))
            for kind, (count, _) in all_of[-1].memory.items()
        },
        ready_s=median(one.ready_s for one in all_of),
        peak_backlog=max(one.peak_backlog for one in all_of),
        holes=sum(one.holes for one in loads),
        answered=sum(one.answered for one in loads),
        unanswered=sum(one.unanswered for one in loads),
        repeated=sum(one.repeated for one in loads),
        examples=[key for one in loads for key in one.examples],
        errors={k: round(n) for k, n in _by_key([one.errors for one in loads], sum).items()},
        strangers=sum(one.strangers for one in loads),
        unacknowledged=sum(one.messages - one.acknowledged for one in loads),
        max_late_ms=max(one.max_late_ms for one in driven),
        bytes_per_hole=driven[0].bytes_per_hole,
        replaced_ms=[1000 * each for one in replacing for each in one.times_s],
        foreign_cores=max(one.foreign_cores for one in all_of),
    )


def _latency(all_of: Sequence[Measured]) -> dict[str, float | None]:
    ordered = [sorted(one.driven.delays_ms) for one in all_of if one.driven.delays_ms]
    return {
        name: median(percentile(each, share) for each in ordered) if ordered else None
        for name, share in QUANTILES.items()
    }


def _stages(all_of: Sequence[Measured]) -> dict[str, dict[str, float | None]]:
    """Whatever stages the snapshots tell of, in the order of the last one."""
    snapshots = [one.snapshot.get("latency", {}) for one in all_of]
    return {
        stage: {
            name.removesuffix("_s"): _median_ms([s.get(stage, {}).get(name) for s in snapshots])
            for name in _STAGE_FIGURES
        }
        for stage in snapshots[-1]
    }


def _median_ms(values_s: Iterable[float | None]) -> float | None:
    known_s = [value_s for value_s in values_s if value_s is not None]
    return 1000 * median(known_s) if known_s else None


def _by_key(
    dicts: Sequence[dict[str, Any]], together: Callable[[list[float]], float]
) -> dict[str, float]:
    """One value for each key of any of them, from its values in those that have it."""
    keys = dict.fromkeys(key for one in dicts for key in one)
    return {key: together([one[key] for one in dicts if key in one]) for key in keys}
