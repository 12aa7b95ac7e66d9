"""A fake of an OpenTelemetry collector: it takes OTLP over HTTP, on loopback, and remembers it."""

from __future__ import annotations

import gzip
import http.server
import threading
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from farm.simulation.ports import free_port


class Collector:
    """See the module.

    Args:
        status: what it answers.
    """

    def __init__(self, status: int = 200) -> None:
        requests: list[tuple[str, dict[str, str], bytes]] = []
        self.requests = requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append((self.path, dict(self.headers), body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def heard(self) -> list[ExportTraceServiceRequest]:
        """The requests, taken apart."""
        return [
            ExportTraceServiceRequest.FromString(
                gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
            )
            for _, headers, body in list(self.requests)
        ]

    def spans(self) -> list[Any]:
        """All spans of these."""
        return [
            span
            for request in self.heard()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
