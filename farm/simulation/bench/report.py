"""Words for a bench: tables for people and an object for machines. Prints nothing itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from farm.simulation.bench.figures import FORWARD
from farm.simulation.bench.rounds import BARE_MQTT, FARM
from farm.simulation.summary import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from farm.simulation.bench.figures import Figures, Summary
    from farm.simulation.bench.rounds import Orders, Round

LATE_MS: Final = 50.0  # from here on the generator itself bent the load
FOREIGN_CORES: Final = 0.15  # from here on the machine was not ours alone
REASONS_SHOWN: Final = 3
EXAMPLES_SHOWN: Final = 5
QUANTILES_SHOWN: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9"}
_STAGE_COLUMNS: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max", "mean": "mean"}
WORDS: Final = {
    FARM: "farm",
    "pool": "pool, dicts",
    "plain": "one process",
    "raw": "pool, bytes",
    BARE_MQTT: "bare MQTT",
    FORWARD: "model alone",
}


def title(orders: Orders, cores: int) -> str:
    """What was measured, in one line."""
    load = orders.load
    shape = f"{load.rate_hz:g} holes/s" if load.rate_hz else f"{load.in_flight} holes in flight"
    times = f", {orders.repeat} rounds" if orders.repeat > 1 else ""
    what = f"holes of {load.holes_dir}" if load.holes_dir else f"traces of {orders.trace_kb:g} kB"
    return (
        f"{shape} for {load.duration_s:g} s{times}; {_model_words(orders)}, {orders.workers}"
        f" workers, {load.tools} tools, {what}{'' if load.heads else ' without Heads'}, durability"
        f" {orders.settings['journal']['durability']}, {cores} cores"
    )


def _model_words(orders: Orders) -> str:
    if orders.is_null:
        return "a model that does nothing"
    settings = orders.settings.get("model_settings", {})
    if cost_ms := settings.get("cost_ms"):
        return f"a model that takes {cost_ms:g} ms of CPU time a hole"
    name = orders.settings.get("model") or "the built-in model"
    runtime = settings.get("runtime", "")
    return f"{name} ({runtime})" if runtime else str(name)


def render(found: Summary) -> RenderableType:
    """Everything, for a terminal of any width."""
    blocks: list[RenderableType] = [_rates(found)]
    if found.farm.stages_ms:
        blocks.append(_stages(found.farm))
    blocks.append(_costs(found))
    blocks.append(_account(found))
    spaced = [part for block in blocks for part in (block, Text())]
    return Group(*spaced[:-1])


def as_json(found: Summary, orders: Orders, rounds: Sequence[Round], cores: int) -> dict[str, Any]:
    """Everything, for machines."""
    load = asdict(orders.load)
    del load["first_id"], load["patience_s"]
    return {
        "settings": {
            **load,
            "trace_kb": orders.trace_kb,
            "workers": orders.workers,
            "engine": orders.engine,
            "durable_mqtt": orders.durable_mqtt,
            "repeat": orders.repeat,
            "cores": cores,
            "farm": dict(orders.settings),
        },
        "good": all(figures.good for figures in found.figures.values()),
        "farm": _figures_json(found.farm),
        "beside": {
            name: _figures_json(figures) for name, figures in found.figures.items() if name != FARM
        },
        "forward": {
            "rate_hz": found.forward_hz,
            "batch": found.forward_batch,
            "cpu_ms_per_hole": found.forward_ms,
            "trials_hz": found.trials_hz,
        }
        if found.forward_hz is not None
        else None,
        "ratios": found.ratios,
        "cpu_ratios": found.cpu_ratios,
        "cpu_ms_outside_forward": found.outside_ms,
        "rounds": [
            {name: round(measured.rate_hz, 1) for name, measured in one.measured.items()}
            | ({FORWARD: round(one.forward.rate_hz, 1)} if one.forward else {})
            for one in rounds
        ],
    }


def problems(found: Summary) -> Iterator[str]:
    """Sentences about every contender that did not answer each hole once, or errs oddly."""
    for figures in found.figures.values():
        if figures.errs_oddly:
            yield f"{WORDS[figures.name]}: {_odd_errors(figures)}"
        if figures.complete:
            continue
        shown = ", ".join(figures.examples[:EXAMPLES_SHOWN])
        lost = f"{figures.unanswered} of {figures.holes} holes without an answer"
        twice = f"{figures.repeated} answered twice"
        untaken = f"{figures.unacknowledged} messages that the MQTT broker did not take"
        yield f"{WORDS[figures.name]}: {lost}, {twice}, {untaken}" + (f": {shown}" if shown else "")


def _odd_errors(figures: Figures) -> str:
    """More or fewer errors than there should be, or nothing else: its other figures say little."""
    told = f"{figures.error_share:.1%} of the answers are errors"
    if figures.expected_errors is not None:
        told += f" where {figures.expected_errors:.1%} are expected"
    return f"{told}: {_errors(figures)}"


def _figures_json(figures: Figures) -> dict[str, Any]:
    told = asdict(figures)
    told["memory"] = {
        kind: {"processes": count, "pss_bytes": size}
        for kind, (count, size) in figures.memory.items()
    }
    own = {"own_cpu_ms": figures.own_cpu_ms, "own_bytes": figures.own_bytes}
    return {**told, **own, "good": figures.good}


def _rates(found: Summary) -> Table:
    table = _table("", "holes/s", "farm ÷", *QUANTILES_SHOWN.values(), "CPU/hole", "PSS")
    for name, figures in found.figures.items():
        table.add_row(
            WORDS[name],
            f"{figures.rate_hz:,.0f}",
            _ratio(found.ratios.get(name)),
            *(milliseconds(figures.latency_ms[key]) for key in QUANTILES_SHOWN),
            f"{figures.own_cpu_ms:.2f} ms",
            _megabytes(figures.own_bytes),
        )
    if found.forward_hz is not None:
        table.add_row(
            WORDS[FORWARD],
            f"{found.forward_hz:,.0f}",
            _ratio(found.ratios.get(FORWARD)),
            *[""] * len(QUANTILES_SHOWN),
            f"{found.forward_ms:.2f} ms",
        )
    return table


def _stages(farm: Figures) -> Table:
    table = _table("stage", *_STAGE_COLUMNS.values())
    for stage, values in farm.stages_ms.items():
        table.add_row(stage, *(milliseconds(values[key]) for key in _STAGE_COLUMNS))
    return table


def _costs(found: Summary) -> Table:
    """CPU and memory by kind of process; the workers' CPU is parted where the model's is known."""
    table = _table("process", "number", "CPU a hole", "PSS")
    farm = found.farm
    for kind, cpu_ms in farm.cpu_ms.items():
        count, size = farm.memory.get(kind, (1, 0))
        table.add_row(kind, f"{count}", f"{cpu_ms:.3f} ms", _megabytes(size) if size else "")
        if kind == "workers" and found.forward_ms is not None:
            table.add_row("  the model", "", f"{found.forward_ms:.3f} ms")
            table.add_row("  the rest", "", f"{cpu_ms - found.forward_ms:.3f} ms")
    if found.outside_ms is not None:
        table.add_row("farm without the model", "", f"{found.outside_ms:.3f} ms")
    return table


def _account(found: Summary) -> Table:
    farm = found.farm
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = [
        ("holes in", f"{farm.holes}, {farm.bytes_per_hole / 1000:.0f} kB each"),
        ("answered", f"{farm.answered}"),
        ("unanswered", f"{farm.unanswered}"),
        ("answered twice", f"{farm.repeated}"),
        ("errors", _errors(farm)),
        ("peak backlog", f"{farm.peak_backlog} holes"),
        ("ready", f"{farm.ready_s:.1f} s after its start"),
    ]
    if len(farm.rates_hz) > 1:
        told = ", ".join(f"{rate_hz:,.0f}" for rate_hz in farm.rates_hz)
        rows.insert(0, ("holes/s", f"{told} in the rounds"))
    if found.trials_hz:
        told = ", ".join(f"{hz:,.0f} in batches of {n}" for n, hz in found.trials_hz.items())
        rows.append(("model alone", f"{told} (holes/s, short trials)"))
    if farm.replaced_ms:
        ordered = sorted(farm.replaced_ms)
        middle = milliseconds(ordered[len(ordered) // 2])
        rows.append(("replaced", f"{middle} after a kill -9, at most {milliseconds(ordered[-1])}"))
    if farm.strangers:
        rows.append(("strangers", f"{farm.strangers} answers to holes that nobody published"))
    if farm.max_late_ms > LATE_MS:
        late = f"the generator fell up to {farm.max_late_ms:.0f} ms behind its schedule"
        rows.append(("note", late))
    if found.cpu_ratios:
        told = ", ".join(f"{WORDS[name]} {ratio:.2f}" for name, ratio in found.cpu_ratios.items())
        rows.append(("by CPU time", f"farm ÷ {told}"))
    busy = max(figures.foreign_cores for figures in found.figures.values())
    if busy > FOREIGN_CORES:
        others = f"something else kept up to {busy:.1f} cores busy: throughput is too low for it"
        rows.append(("note", others))
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _errors(farm: Figures) -> str:
    if not farm.errors:
        return "0"
    common = sorted(farm.errors.items(), key=lambda item: -item[1])[:REASONS_SHOWN]
    told = "; ".join(f"{count} x {reason}" for reason, count in common)
    return f"{sum(farm.errors.values())}: {told}"
