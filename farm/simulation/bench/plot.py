"""A bench as an image: throughput over time, latency, stages, and what a hole and a process cost.

Owns the drawing with matplotlib, which is an extra and imported only when drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.drilling.plotting import require, write_png
from farm.simulation.bench.drive import TIMELINE_STEP_S
from farm.simulation.bench.meter import GENERATOR
from farm.simulation.bench.report import WORDS
from farm.simulation.bench.rounds import FARM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from farm.simulation.bench.figures import Summary
    from farm.simulation.bench.rounds import Round

_DPI: Final = 110
_COLOURS: Final = {
    FARM: "#1f5fa8",
    "pool": "#d1701c",
    "raw": "#3a8a4d",
    "plain": "#7a4a9a",
    "bare MQTT": "#8a8a8a",
}
_KIND_COLOURS: Final = {
    "workers": "#1f5fa8",
    "broker": "#d1701c",
    "main": "#e09a5e",
    "supervisor": "#8a6bb0",
    "nursery": "#c2588b",
    "mosquitto": "#b9b9b9",
    "amqtt": "#b9b9b9",
    GENERATOR: "#dedede",
}
_OTHER: Final = "#555555"
_SMOOTH_STEPS: Final = 4  # steps of the timeline that are shown as one: a second
_LEAST_MS: Final = 0.01  # where the axis of the stages begins: a millisecond's hundredth is nothing


def write_plot(found: Summary, rounds: Sequence[Round], path: Path, *, title: str) -> None:
    """Write a PNG file.

    Args:
        found: of the rounds.
        rounds: at least one.
        path: of the file.
        title: above all.

    Raises:
        FarmError: matplotlib is not installed, or it can't be written there.
    """
    write_png(bench_figure(found, rounds, title=title), path)


def bench_figure(found: Summary, rounds: Sequence[Round], *, title: str) -> Figure:
    """The page; see the module.

    Raises:
        FarmError: matplotlib is not installed.
    """
    require("matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and 0.3 s to import

    figure = Figure(figsize=(12, 8.4), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=10, wrap=True)
    rows = figure.add_gridspec(2, 1)
    top, bottom = rows[0, 0].subgridspec(1, 2), rows[1, 0].subgridspec(1, 3)
    _draw_rates(figure.add_subplot(top[0, 0]), found, rounds)
    _draw_latency(figure.add_subplot(top[0, 1]), rounds)
    _draw_stages(figure.add_subplot(bottom[0, 0]), found)
    cpu_ms = {name: figures.cpu_ms for name, figures in found.figures.items()}
    axes = figure.add_subplot(bottom[0, 1])
    _draw_parts(axes, cpu_ms, "CPU of a hole in ms")
    if found.forward_ms is not None:
        axes.axhline(found.forward_ms, color="black", lw=1, ls="--", label="the model alone")
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    megabytes = {
        name: {kind: size / 1e6 for kind, (_, size) in figures.memory.items()}
        for name, figures in found.figures.items()
    }
    _draw_parts(figure.add_subplot(bottom[0, 2]), megabytes, "memory (PSS) in MB")
    return figure


def _draw_rates(axes: Axes, found: Summary, rounds: Sequence[Round]) -> None:
    """Holes per second over time, second by second; of all rounds, one line each."""
    longest = 0
    for one in rounds:
        for name, measured in one.measured.items():
            rates = _smooth(measured.driven.timeline)
            longest = max(longest, len(rates))
            label = WORDS[name] if one is rounds[0] else None
            at_s = [TIMELINE_STEP_S * _SMOOTH_STEPS * (place + 1) for place in range(len(rates))]
            axes.plot(at_s, rates, color=_COLOURS.get(name, _OTHER), lw=1.3, label=label)
    if found.forward_hz is not None:
        axes.axhline(found.forward_hz, color="black", lw=1, ls="--", label=WORDS["forward"])
    warm_s = longest * TIMELINE_STEP_S * _SMOOTH_STEPS - _measured_s(rounds)
    if warm_s > 0:
        axes.axvspan(0, warm_s, color="#f0f0f0", lw=0, zorder=-2)
        axes.annotate(
            "warm-up", (0, 1), xycoords=("data", "axes fraction"), xytext=(4, -12),
            textcoords="offset points", fontsize=8, color=_OTHER,
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    _name(axes, "seconds of load", "holes answered per second")
    # above the axes, and for the ones beside them too
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=5)


def _measured_s(rounds: Sequence[Round]) -> float:
    from_s, to_s = rounds[0].measured[FARM].driven.span
    return to_s - from_s


def _smooth(rates: Sequence[float]) -> list[float]:
    """Means of whole seconds."""
    whole = len(rates) - len(rates) % _SMOOTH_STEPS
    return [
        sum(rates[at : at + _SMOOTH_STEPS]) / _SMOOTH_STEPS for at in range(0, whole, _SMOOTH_STEPS)
    ]


def _draw_latency(axes: Axes, rounds: Sequence[Round]) -> None:
    """The share of holes that are answered within a time, of all rounds together."""
    for name in rounds[0].measured:
        delays_ms = sorted(ms for one in rounds for ms in one.measured[name].driven.delays_ms)
        if not delays_ms:
            continue
        shares = [(place + 1) / len(delays_ms) for place in range(len(delays_ms))]
        axes.plot(delays_ms, shares, color=_COLOURS.get(name, _OTHER), lw=1.5)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.01)
    _plain_numbers(axes)
    _name(axes, "ms from the last message published to the depths received", "share of holes")


def _draw_stages(axes: Axes, found: Summary) -> None:
    """Each stage from its median to the longest but one in a thousand."""
    stages = [(stage, v) for stage, v in found.farm.stages_ms.items() if v["p50"] is not None]
    for place, (_, values) in enumerate(reversed(stages)):
        p50, p99, p999 = (max(values[key] or 0.0, _LEAST_MS) for key in ("p50", "p99", "p999"))
        axes.plot([p50, p999], [place, place], color=_COLOURS[FARM], lw=1.5, alpha=0.5)
        axes.plot([p50, p99], [place, place], color=_COLOURS[FARM], lw=5, alpha=0.6)
        axes.plot([p50], [place], "o", color=_COLOURS[FARM], ms=6)
    axes.set_xscale("log")
    axes.set_yticks(range(len(stages)), [stage for stage, _ in reversed(stages)])
    _plain_numbers(axes)
    _name(axes, "ms: p50 (dot), p99 (bar), p99.9 (line)", "")
    axes.set_title("stages of the farm", fontsize=9)


def _draw_parts(axes: Axes, parts: Mapping[str, Mapping[str, float]], what: str) -> None:
    """A bar for each contender, of what its kinds of process take."""
    named: set[str] = set()
    for place, kinds in enumerate(parts.values()):
        below = 0.0
        ordered = sorted(kinds.items(), key=lambda item: list(_KIND_COLOURS).index(item[0])
                         if item[0] in _KIND_COLOURS else 0)  # fmt: skip
        for kind, value in ordered:
            label = None if kind in named else kind
            named.add(kind)
            colour = _KIND_COLOURS.get(kind, _OTHER)
            axes.bar(place, value, bottom=below, color=colour, label=label, width=0.65)
            below += value
        told = f"{below:.0f}" if below >= 10 else f"{below:.2f}"
        axes.annotate(
            told, (place, below), xytext=(0, 2), textcoords="offset points", ha="center",
            fontsize=8,
        )  # fmt: skip
    axes.set_xticks(range(len(parts)), [WORDS[name].replace(", ", ",\n") for name in parts])
    axes.margins(y=0.1)
    _name(axes, "", "")
    axes.set_title(what, fontsize=9)


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _plain_numbers(axes: Axes) -> None:
    """On a logarithmic axis, and also between the decades where there are few of them."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter  # noqa: PLC0415 - an extra

    low, high = axes.get_xlim()
    if high < 30 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(StrMethodFormatter(""))
