"""The `Viewer`: what there is to see of a join, for the page (docs/page.md).

Owns the contract between the page and one kind of traffic. An adapter that has a method
`viewer()` gives one; without it the page shows the answer as a table. No drawing is done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from farm import log
from farm.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.adapter import Adapter

MAX_FIELDS = 40
MAX_FIELD_CHARS = 400
MAX_SAMPLES = 20_000  # of one series: a screen has a tenth of the columns


@dataclass(frozen=True, slots=True)
class Column:
    """A number that each join may have, as lists and trends show it.

    `quality` is a known key: the page filters by it.
    """

    key: str
    name: str
    unit: str = ""
    decimals: int = 2
    note: str = ""  # what it is, in a sentence, to hover


@dataclass(frozen=True, slots=True)
class Series:
    """One course to be drawn; as many values as the view has places."""

    name: str
    unit: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place that the answer names, with the stretch of one standard deviation to either side."""

    name: str
    at: float
    label: str  # in words and units, as "entry 5.02 ± 0.04 mm"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the axis with a name: a layer, a step."""

    name: str
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One axis to draw the series over, as position in mm; `at` never falls."""

    name: str
    unit: str
    at: Sequence[float]
    marks: Sequence[Mark] = ()
    layers: Sequence[Stretch] = ()
    steps: Sequence[Stretch] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """What to show of one join: its series over one axis or another, and a table of fields."""

    views: Sequence[View] = ()
    series: Sequence[Series] = ()
    fields: Sequence[tuple[str, str]] = ()


class Viewer(Protocol):
    """One kind of traffic, for the page's process. What it raises costs the picture, no more.

    Attributes:
        columns: what `figures` gives, in order of importance.
        levels: what `measure` gives, for the trend of a source.
    """

    columns: Sequence[Column]
    levels: Sequence[Column]

    def figures(self, value: Any) -> Mapping[str, float]:
        """The numbers of an answer by key; what it does not have is left out.

        Asked for each join, so it must be quick.
        """
        ...

    def picture(self, parts: Mapping[str, bytes], value: Any) -> Picture:
        """What to draw.

        Args:
            parts: the raw messages by kind, those that came.
            value: the model's answer; None where there is none.

        Raises:
            ReadError: they can't be read.
        """
        ...

    def measure(self, parts: Mapping[str, bytes], value: Any) -> Mapping[str, float]:
        """Numbers that need the raw messages, as a torque level; by the keys of `levels`.

        Raises:
            ReadError: they can't be read.
        """
        ...


class PlainViewer:
    """For traffic of which nothing is known: the fields of an answer as a table."""

    columns: Sequence[Column] = ()
    levels: Sequence[Column] = ()

    def figures(self, value: Any) -> Mapping[str, float]:  # noqa: ARG002 - the contract
        """None."""
        return {}

    def picture(self, parts: Mapping[str, bytes], value: Any) -> Picture:  # noqa: ARG002
        """The fields of the answer."""
        return Picture(fields=fields_of(value))

    def measure(self, parts: Mapping[str, bytes], value: Any) -> Mapping[str, float]:  # noqa: ARG002
        """None."""
        return {}


class GuardedViewer:
    """Another's viewer, of which anything may come: what it raises is logged and left out."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._limited = log.Limited()
        self.columns = tuple(viewer.columns)
        self.levels = tuple(viewer.levels)

    def figures(self, value: Any) -> Mapping[str, float]:
        """As the contract says; {} where it fails."""
        if value is None:
            return {}
        try:
            found = self._viewer.figures(value)
            return {c.key: float(found[c.key]) for c in self.columns if c.key in found}
        except Exception as error:  # noqa: BLE001 - a user's code
            self._limited.warning("viewer_failed", method="figures", reason=repr(error))
            return {}

    def picture(self, parts: Mapping[str, bytes], value: Any) -> Picture:
        """As the contract says.

        Raises:
            ReadError: it fails; the sentence says how.
        """
        try:
            found = self._viewer.picture(parts, value)
            _check(found)
        except ReadError:
            raise
        except Exception as error:
            self._limited.warning("viewer_failed", method="picture", reason=repr(error))
            raise ReadError(f"the viewer of this traffic failed: {error!r}") from error
        return found

    def measure(self, parts: Mapping[str, bytes], value: Any) -> Mapping[str, float]:
        """As the contract says; {} where it fails."""
        try:
            found = self._viewer.measure(parts, value)
            return {c.key: float(found[c.key]) for c in self.levels if c.key in found}
        except ReadError:
            return {}
        except Exception as error:  # noqa: BLE001 - a user's code
            self._limited.warning("viewer_failed", method="measure", reason=repr(error))
            return {}


def viewer_of(adapter: Adapter) -> GuardedViewer:
    """The viewer of an adapter, guarded; the plain one where it has none or can't make it."""
    make = getattr(adapter, "viewer", None)
    if make is None:
        return GuardedViewer(PlainViewer())
    try:
        return GuardedViewer(cast("Viewer", make()))
    except Exception as error:  # noqa: BLE001 - a user's code
        log.get().warning("viewer_failed", method="viewer", reason=repr(error))
        return GuardedViewer(PlainViewer())


def fields_of(value: Any) -> list[tuple[str, str]]:
    """An answer as rows of a table."""
    if value is None:
        return []
    named = value.items() if isinstance(value, dict) else [("value", value)]
    return [(str(name), str(each)[:MAX_FIELD_CHARS]) for name, each in named][:MAX_FIELDS]


def _check(picture: Picture) -> None:
    """A picture that can't be drawn is refused here, where the cause can still be told."""
    lengths = {len(view.at) for view in picture.views} | {len(s.values) for s in picture.series}
    if len(lengths) > 1:
        raise ValueError(f"views and series differ in length: {sorted(lengths)}")
    if lengths and max(lengths) > MAX_SAMPLES:
        raise ValueError(f"{max(lengths)} samples are more than {MAX_SAMPLES}: leave some out")
