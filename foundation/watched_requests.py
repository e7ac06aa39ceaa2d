"""Every request of service and engine: an id, a span, a count, its time, and a line in the log.

An ASGI middleware, the outermost one. The gateway does the same by itself, on its own way.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Final

from foundation import log_ids, logs, tracing
from foundation.ids import new_id
from foundation.meters import ENGINE, SERVICE, Counter, Histogram

HEADER: Final = b"x-request-id"
_ID: Final = re.compile(rb"[\w.:-]{1,100}")

Message = dict[str, Any]

requests = Counter(
    "flywheel_http_requests",
    "service",
    "Requests answered, by area (ingest, api, admin, health, engine).",
    ("service", "area", "method", "code"),
    (SERVICE, ENGINE),
)
seconds = Histogram(
    "flywheel_http_request_seconds",
    "service",
    "From a request to the end of its answer; event streams, which live on, are left out.",
    ("service", "area"),
    (SERVICE, ENGINE),
)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class WatchedRequests:
    """The middleware.

    Args:
        app: what answers.
        service: name of the process.
        area_of: of a path, one of a few words.
    """

    def __init__(self, app: Any, service: str, area_of: Callable[[str], str]) -> None:
        self.app, self.service, self.area_of = app, service, area_of

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer; part of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, started = dict(scope["headers"]), time.perf_counter()
        given = headers.get(HEADER, b"")
        request_id = given if _ID.fullmatch(given) else str(new_id()).encode()
        method = scope["method"] if scope["method"] in _METHODS else "other"
        area = self.area_of(scope["path"])
        seen = {"status": 0, "is_stream": False}

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message.setdefault("headers", [])
                seen["status"] = message["status"]
                seen["is_stream"] = (b"content-type", b"text/event-stream") in [
                    (name.lower(), value.partition(b";")[0]) for name, value in sent
                ]
                message["headers"] = [*sent, (HEADER, request_id)]
            await send(message)

        parent = headers.get(b"traceparent", b"").decode("latin-1") or None
        with (
            log_ids.binding(request_id=request_id.decode()),
            tracing.span(f"{self.service} {area}", "server", parent) as span,
        ):
            try:
                await self.app(scope, receive, noted)
            except Exception:
                seen["status"] = seen["status"] or 500
                raise
            finally:
                took_s, status = time.perf_counter() - started, seen["status"]
                requests.inc(self.service, area, method, str(status))
                if not seen["is_stream"]:
                    seconds.observe(took_s, self.service, area)
                if tracing.is_on():
                    span.say(
                        http__request__method=method,
                        http__route=_route(scope),
                        http__response__status_code=status,
                    )
                    if status >= 500:
                        span.fail(str(status))
                logs.write_access(method, scope["path"], status, took_s * 1000)


def _route(scope: dict[str, Any]) -> str | None:
    """Return the template of the path that answered: without ids, which would be endless."""
    route = scope.get("route")
    return getattr(route, "path_format", None) or getattr(route, "path", None)
