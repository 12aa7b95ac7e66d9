"""Draws what `py-spy record --format raw` wrote: who took how much of a process's time.

    farm bench --model null --in-flight 256 --no-limits &
    py-spy record --pid BROKER --gil --function --rate 300 --format raw --output broker.raw
    python docs/profiles/flame.py broker.raw broker.png "The broker, 2,400 holes/s"

Each box is a function, as wide as its share of the samples; what it calls stands below it. With
`--gil` a sample counts where the interpreter's lock is held: that is what threads share.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

LEAST_SHARE = 0.004  # narrower boxes are left out
LABEL_SHARE = 0.018  # and narrower ones than this have no name
CHARACTERS = 185  # of a label, over the whole width
SKIPPED = ("click/", "threading.py", "runpy", "farm/cli/", "farm/__main__.py", "paho/")
COLOURS = {
    "farm/journal/": "#c9a227",
    "farm/broker/lane": "#5b8fd6",
    "farm/broker/mqtt": "#5b8fd6",
    "farm/broker/packets": "#5b8fd6",
    "farm/broker/exchange": "#5b8fd6",
    "farm/broker/": "#e07a5f",
    "farm/drilling/": "#81b29a",
    "farm/": "#f2b8a0",
    "zmq/": "#9d8ec7",
    "": "#c8c8c8",
}
LEGEND = {
    "broker's decisions": "#e07a5f", "MQTT": "#5b8fd6", "journal": "#c9a227",
    "messages of drilling units": "#81b29a", "ZeroMQ": "#9d8ec7", "libraries": "#c8c8c8",
}  # fmt: skip


@dataclass
class Box:
    """A function called from one place.

    Attributes:
        samples: in it and in what it calls.
        calls: what it calls, by name.
    """

    samples: int = 0
    calls: dict[str, Box] = field(default_factory=dict)


def read(path: Path) -> Box:
    """The tree of calls; frames that only lead to others are left out."""
    top = Box()
    for line in path.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [f for f in stack.split(";") if not any(skipped in f for skipped in SKIPPED)]
        box = top
        box.samples += int(count)
        for name in frames:
            box = box.calls.setdefault(name, Box())
            box.samples += int(count)
    return top


def colour(name: str) -> str:
    """By the part of the house that a function belongs to."""
    return next(shade for part, shade in COLOURS.items() if part in name)


def shortened(name: str, characters: int) -> str:
    """A function's name, without its class where there is no room for both."""
    function = name.partition(" (")[0]
    if len(function) > characters:
        function = function.rpartition(".")[2]
    return function[:characters]


def draw(top: Box, title: str, path: Path) -> None:
    """The picture of a tree."""
    figure, axes = plt.subplots(figsize=(13, 6.5))
    deepest = 0
    todo = [(top, 0.0, 0)]
    while todo:
        box, left, depth = todo.pop()
        for name, call in sorted(box.calls.items(), key=lambda item: -item[1].samples):
            share = call.samples / top.samples
            if share >= LEAST_SHARE:
                deepest = max(deepest, depth)
                axes.barh(
                    depth, share, left=left, height=1.0, align="edge",
                    color=colour(name), edgecolor="white", linewidth=0.6,
                )  # fmt: skip
                if share >= LABEL_SHARE:
                    label = shortened(name, int(share * CHARACTERS))
                    axes.text(left + 0.002, depth + 0.5, label, fontsize=7, va="center")
                todo.append((call, left, depth + 1))
            left += share
    axes.set(xlim=(0, 1), ylim=(deepest + 1, 0), yticks=[], xlabel="share of samples", title=title)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=shade) for shade in LEGEND.values()]
    axes.legend(handles, LEGEND, loc="lower right", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def by_function(top: Box) -> Counter[str]:
    """Samples in each function itself."""
    found: Counter[str] = Counter()
    todo = list(top.calls.items())
    while todo:
        name, box = todo.pop()
        found[name] += box.samples - sum(call.samples for call in box.calls.values())
        todo.extend(box.calls.items())
    return found


def main(raw: str, png: str, title: str) -> None:
    """Draw a recording, and tell the functions that take most."""
    top = read(Path(raw))
    draw(top, title, Path(png))
    for name, samples in by_function(top).most_common(12):
        sys.stdout.write(f"{samples / top.samples:6.1%}  {name}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
