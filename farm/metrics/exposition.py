"""The `Exposition`: vitals as the text that Prometheus reads.

The counting is the broker's; here nothing is kept but which words of strangers were seen. Made on a
thread of the HTTP server, once for each new vitals.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from farm import __version__
from farm.metrics.catalogue import CATALOGUE, FAMILIES, Type
from farm.metrics.samples import Vocabulary, samples
from farm.printable import printable
from farm.telemetry.histogram import LIMITS_S, Cumulative

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator

    from farm.metrics.disk import DiskUse
    from farm.metrics.hatch import Hatch
    from farm.metrics.samples import Sample
    from farm.metrics.vitals import Vitals

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ASK_TIMEOUT_S: Final = 3.0  # a loop that is well answers in 0.05 s; Prometheus waits for 10
CODES: Final = (200, 400, 401, 404, 405, 408, 431, 500, 503)  # what the server may answer
_LIMITS: Final = tuple(f"{limit_s:g}" for limit_s in LIMITS_S)


class Exposition(Collector):
    """See the module.

    Args:
        hatch: where the vitals are asked for.
        farm: its name.
        partition: its number among others; "" where it is alone.
        keep_bytes: what the journal may keep.
        disk: the use of the journal's disk, as far as it is known.
        requests: what the server has answered, by HTTP status.
    """

    def __init__(
        self,
        hatch: Hatch,
        *,
        farm: str,
        partition: str,
        keep_bytes: int,
        disk: Callable[[], DiskUse | None],
        requests: Counter[int],
    ) -> None:
        self._hatch = hatch
        self._identity = (__version__, printable(farm), partition)
        self._keep_bytes = keep_bytes
        self._disk = disk
        self._requests = requests
        self._words = Vocabulary.new()
        self._lock = threading.Lock()
        self._vitals: Vitals | None = None
        self._rendered: tuple[Vitals, bytes] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text now. Where the loop does not answer, it says little more than that."""
        vitals = self._hatch.ask(ASK_TIMEOUT_S)
        with self._lock:
            if vitals is not None and self._rendered is not None and self._rendered[0] is vitals:
                return self._rendered[1]
            self._vitals = vitals
            text: bytes = generate_latest(self._registry)
            if vitals is not None:
                self._rendered = (vitals, text)
            return text

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: what there is depends on the vitals."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        made: dict[str, Metric] = {}
        for name, labels, value in self._samples():
            metric = made.get(name)
            if metric is None:
                metric = made[name] = _empty(name)
            _add(metric, labels, value)
        yield from (made[family.name] for family in CATALOGUE if family.name in made)

    def _samples(self) -> Iterator[Sample]:
        hatch, vitals = self._hatch, self._vitals
        yield "farm_build_info", self._identity, 1
        age_s = hatch.tick_age_s
        if age_s is not None:
            yield "farm_loop_tick_age_seconds", (), age_s
        requests = self._requests.copy()
        for code in sorted({*CODES, *requests}):
            yield "farm_metrics_requests_total", (str(code),), requests[code]
        if vitals is None:
            return
        yield "farm_loop_longest_turn_seconds", (), hatch.longest_turn_s
        yield "farm_snapshots_total", (), hatch.made
        yield "farm_snapshot_seconds_total", (), hatch.made_in_s
        disk, keep_bytes = self._disk(), self._keep_bytes
        yield from samples(vitals, disk=disk, keep_bytes=keep_bytes, words=self._words)


def _empty(name: str) -> Metric:
    family = FAMILIES[name]
    kinds = {
        Type.COUNTER: CounterMetricFamily,
        Type.GAUGE: GaugeMetricFamily,
        Type.HISTOGRAM: HistogramMetricFamily,
    }
    made: Metric = kinds[family.type](name, family.help, labels=family.labels)
    return made


def _add(metric: Metric, labels: tuple[str, ...], value: float | Cumulative) -> None:
    if isinstance(value, Cumulative):
        assert isinstance(metric, HistogramMetricFamily)
        buckets = [*zip(_LIMITS, value.up_to, strict=True), ("+Inf", value.total)]
        metric.add_metric(labels, buckets, sum_value=value.sum_s)
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
        metric.add_metric(labels, value)
