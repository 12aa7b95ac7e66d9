"""Carries the spans of holes to an OpenTelemetry collector: OTLP over HTTP, on a thread of its own.

Nobody waits for it: the queue is bounded, what does not fit is dropped and counted, and what the
collector does not take is lost. OpenTelemetry is an extra and imported only where it is wanted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from farm import __version__, log
from farm.journal.ids import told
from farm.printable import printable
from farm.telemetry.spans import EndedHole, HoleSpans, Span, tree_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from farm.config.telemetry import TelemetryConfig

PATH: Final = "/v1/traces"
MOST_AT_ONCE: Final = 100  # holes in one request; about 100 kB
MAX_CHARS: Final = 300  # of a text that a stranger may have written
CLOSE_TIMEOUT_S: Final = 2.0


class Sender(Protocol):
    """What makes a request of spans."""

    def send(self, holes: Sequence[EndedHole]) -> str:
        """Tell of these holes; "" or why that failed."""
        ...


class OtlpExporter:
    """The queue and its thread.

    Args:
        sender: makes the requests.
        most: holes that may wait.
        interval_s: so long they are gathered.
    """

    def __init__(self, sender: Callable[[], Sender], *, most: int, interval_s: float) -> None:
        self._make_sender = sender
        self._most = most
        self._interval_s = interval_s
        self._queue: deque[EndedHole] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._limited = log.Limited()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, hole: EndedHole) -> bool:
        """Have a hole told; False: no room. For the loop's thread: it never waits."""
        if len(self._queue) >= self._most:
            return False
        self._queue.append(hole)
        if len(self._queue) >= MOST_AT_ONCE:
            self._wake.set()
        return True

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what is left, if the collector takes it in this time."""
        self._is_closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            sender = self._make_sender()
            while not self._is_closing:
                self._wake.wait(self._interval_s)
                self._wake.clear()
                self._send(sender)
            self._send(sender)
        # a thread that dies in silence would leave a farm that seems to tell
        except Exception:  # noqa: BLE001
            log.get().exception("traces_end", effect="no more traces are told; all else goes on")
            self._queue.clear()
            self._most = 0  # what comes from now on is counted as dropped

    def _send(self, sender: Sender) -> None:
        while self._queue:
            count = min(len(self._queue), MOST_AT_ONCE)
            holes = [self._queue.popleft() for _ in range(count)]
            if fault := sender.send(holes):
                self._limited.warning(
                    "traces_not_exported",
                    reason=fault,
                    holes=len(holes),
                    effect="they are lost; their stories are in the journal (`farm why`)",
                    cure="see telemetry.otlp_endpoint and the log of the collector",
                )
                return  # not at once again: there is another interval


class Otlp:
    """Makes OTLP requests with OpenTelemetry's own exporter. For one thread."""

    def __init__(self, config: TelemetryConfig, instance: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra, and large
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

        quiet = logging.getLogger("opentelemetry")  # what it complains of, we say ourselves
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        names = {
            "service.name": "farm",
            "service.version": __version__,
            "service.instance.id": instance,
        }
        self._resource = Resource(names)
        self._ids = RandomIdGenerator()
        self._url = url_of(config.otlp_endpoint)
        self._exporter = OTLPSpanExporter(
            endpoint=self._url, timeout=config.export_timeout_s, session=_session()
        )

    def send(self, holes: Sequence[EndedHole]) -> str:
        """Tell of these holes; "" or why that failed."""
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        spans = [span for hole in holes for span in self._spans(hole)]
        try:
            if self._exporter.export(spans) is SpanExportResult.SUCCESS:
                return ""
        except OSError as error:
            return f"the collector at {self._url} does not take them: {error}"
        return f"the collector at {self._url} does not take them"

    def _spans(self, hole: EndedHole) -> Iterator[Any]:
        from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

        trace_id, flags = self._ids.generate_trace_id(), TraceFlags(TraceFlags.SAMPLED)

        def context() -> Any:
            return SpanContext(
                trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=flags
            )

        tree = tree_of(hole)
        tree.attributes = _attributes(hole)
        root = context()
        yield self._span(tree, root, None)
        for child in tree.children:
            yield self._span(child, context(), root)

    def _span(self, span: Span, context: Any, parent: Any) -> Any:
        from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        is_bad = bool(span.failure)
        status = Status(StatusCode.ERROR, _text(span.failure)) if is_bad else Status()
        return ReadableSpan(
            name=span.name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            events=[Event(_text(name), timestamp=_ns(at_s)) for at_s, name in span.events],
            status=status,
            start_time=_ns(span.start_s),
            end_time=_ns(max(span.end_s, span.start_s)),
        )


def _session() -> Any:
    """A session of `requests` that sends what was configured and no password out of ~/.netrc."""
    import requests  # noqa: PLC0415 - comes with the extra

    class Session(requests.Session):
        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            """On the way to another place: no password of ours, and none of ~/.netrc."""
            if self.should_strip_auth(response.request.url, prepared_request.url):
                prepared_request.headers.pop("Authorization", None)

    session = Session()
    session.auth = lambda request: request  # else ~/.netrc is asked
    return session


def spans_to(
    config: TelemetryConfig, *, instance: str, counts: Counter[str], at: Callable[[float], float]
) -> tuple[HoleSpans, OtlpExporter] | None:
    """What chooses holes and what carries them away; None where nobody is to be told."""
    if not config.otlp_endpoint:
        return None
    exporter = OtlpExporter(
        lambda: Otlp(config, instance),
        most=config.max_queued_holes,
        interval_s=config.export_interval_s,
    )
    spans = HoleSpans(
        exporter.put,
        sample_ratio=config.sample_ratio,
        most=config.max_queued_holes,
        counts=counts,
        at=at,
    )
    return spans, exporter


def url_of(endpoint: str) -> str:
    """Where traces go: the configured place itself if it has a path, else the usual path there."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH


def _attributes(hole: EndedHole) -> dict[str, str | int]:
    return {
        "farm.hole": told(hole.hole_id),
        "farm.source": _text(hole.source),
        "farm.id": _text(hole.part_id),
        "farm.terminal": hole.terminal,
        "farm.model": _text(hole.model_version),
    }


def _text(text: str) -> str:
    return printable(text, MAX_CHARS)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
