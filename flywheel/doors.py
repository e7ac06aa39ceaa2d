"""The service's door: which scope each route takes, who may pass, how fast, and how large a body.

An ASGI middleware rather than a dependency of each route: a route that nobody thought of is open to
`admin` alone. Keys are known from a picture in memory, renewed about once a second.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector.feedback.api import GITHUB_PATH
from foundation.access import bearing, require_same_origin
from foundation.errors import FlywheelError, NotAuthorised, TooLarge
from foundation.settings import get_settings
from router.key_picture import KeyPicture
from router.limits import Limiter
from router.scopes import ADMIN, BUILD, FEEDBACK, METRICS, PROMOTE, READ, REVIEW

OPEN_PATHS: Final = ("/", "/healthz", "/readyz")
"""What needs no key; the admin view has a door of its own."""

PROCESSES: Final = "FLYWHEEL_SERVE_PROCESSES"
"""Variable by which `flywheel serve --workers N` tells its processes among how many they are."""

BODY_BYTES: Final = 8 << 20
"""Bytes of a body that is no batch: a form, an order."""

BOUND_THEMSELVES: Final = frozenset(
    {
        "/v1/ingest", "/v1/feedback", "/v1/feedback/ci/junit", GITHUB_PATH,
        "/otlp/v1/traces", "/otlp/v1/logs",
    }
)  # fmt: skip
"""Routes that read batches themselves, up to FLYWHEEL_MAX_BATCH_BYTES, and refuse more in their own
words and encoding."""

BODY_S: Final = 120.0
"""Seconds in which the body of a request must have come."""


@dataclass(frozen=True)
class Noun:
    """Which scopes the routes of one noun take: to read, to add, to change or take away."""

    read: str
    add: str
    change: str | None = None
    """None: as to add."""

    def scope_of(self, method: str) -> str:
        """Return the scope that a method takes."""
        if method in ("GET", "HEAD"):
            return self.read
        return self.add if method == "POST" else self.change or self.add


NOUNS: Final = {
    # What `ingest` opens besides: there the records say whether they are calls or feedback.
    "ingest": Noun(READ, FEEDBACK),
    "feedback": Noun(READ, FEEDBACK, BUILD),
    "dead-letters": Noun(READ, BUILD),
    "media": Noun(READ, ADMIN),
    "review": Noun(REVIEW, REVIEW),
    "datasets": Noun(READ, BUILD),
    "trainings": Noun(READ, BUILD),
    "recipes": Noun(READ, BUILD),
    "methods": Noun(READ, BUILD),
    "model-versions": Noun(READ, BUILD),
    "export-formats": Noun(READ, BUILD),
    "suites": Noun(READ, BUILD),
    "evaluations": Noun(READ, BUILD),
    "verdicts": Noun(READ, BUILD),
    "runs": Noun(READ, BUILD),
    "schedules": Noun(READ, PROMOTE),
    "experiments": Noun(READ, PROMOTE),
    "roles": Noun(READ, PROMOTE),
    "emergency": Noun(READ, PROMOTE),
    "usage": Noun(READ, ADMIN),
    "budgets": Noun(READ, ADMIN),
    "keys": Noun(ADMIN, ADMIN),
}
"""Routes under /v1 by the first part of their path."""

OTHERS: Final = {
    "/metrics": METRICS,
    "/openapi.json": READ,
    "/otlp/v1/traces": FEEDBACK,
    "/otlp/v1/logs": FEEDBACK,
}
"""The rest; spans are calls, their evaluations are feedback: see `ingest`."""


def scope_of(method: str, path: str) -> str | None:
    """Return the scope that a route takes; None for one that nobody has thought of."""
    parts = path.split("/", 3)
    if parts[1:2] == ["v1"] and len(parts) > 2:
        noun = NOUNS.get(parts[2])
        return None if noun is None else noun.scope_of(method)
    return OTHERS.get(path)


def is_open(path: str) -> bool:
    """Say whether a path has another door, or none.

    The admin view asks who one is, GitHub signs what it sends where that is set up.
    """
    is_admin = path == "/admin" or path.startswith("/admin/")
    is_signed = path == GITHUB_PATH and get_settings().github_secret is not None
    return path in OPEN_PATHS or is_admin or is_signed


class Door:
    """Lets requests in by their keys, one after another as fast as those allow.

    Args:
        app: what is behind it.
        answer: makes the answer to one of our errors.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Request, Exception], Response]) -> None:
        self._app, self._answer = app, answer
        self._keys, self._limiter = KeyPicture(), Limiter()
        self._limiter.n_processes = int(os.environ.get(PROCESSES, "1"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say why not; part of ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path: str = scope["path"]  # as it is routed; `request.url` is made with the Host header
        body = Body(receive, _limit(path))
        if is_open(path):
            return await self._app(scope, body.receive, send)
        headers, entered = Headers(scope=scope), time.time()
        caller = None
        try:
            wanted = scope_of(scope["method"], path) or ADMIN
            found = await self._keys.identify(headers, wanted)
            require_same_origin(scope["method"], headers)
            body.require_stated(headers)
            self._limiter.enter(found, 0, entered)
            caller = found
            with bearing(caller.bearer()):
                await self._app(scope, body.receive, send)
        except FlywheelError as error:
            if caller is not None:
                raise  # of the application's own, which answers its errors itself
            await self._refusal(Request(scope), error)(scope, receive, send)
        finally:
            if caller is not None:
                self._limiter.leave(caller, 0, 0, entered)
                await self._keys.write_uses()

    def _refusal(self, request: Request, error: FlywheelError) -> Response:
        answer = self._answer(request, error)
        if isinstance(error, NotAuthorised):
            answer.headers["WWW-Authenticate"] = 'Basic realm="flywheel"'
        return answer


def _limit(path: str) -> float:
    """Return the bytes that the body of a request may have."""
    return math.inf if path in BOUND_THEMSELVES else BODY_BYTES


class Body:
    """The body of one request, within bounds of size and time."""

    def __init__(self, receive: Receive, limit: float) -> None:
        self._receive, self._limit = receive, limit
        self._size = 0
        self._ends: float | None = None
        self._is_whole = False

    def require_stated(self, headers: Mapping[str, str]) -> None:
        """Check the length that a request states; raises TooLarge."""
        stated = headers.get("content-length", "")
        if stated.isdigit() and int(stated) > self._limit:
            raise TooLarge(
                "body of a request",
                f"{stated} bytes",
                f"at most {self._limit} bytes",
                "Send less at once.",
            )

    async def receive(self) -> Message:
        """Return the next part; part of ASGI.

        Raises:
            HTTPException: 413 for more than the limit, 408 for what does not come.
        """
        if self._is_whole:
            return await self._receive()  # waits for the caller to leave
        now = asyncio.get_running_loop().time()
        self._ends = self._ends or now + BODY_S
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"request body: no end after {BODY_S:g} s") from None
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body")
        if self._size > self._limit:
            raise HTTPException(413, f"request body: more than {self._limit} bytes")
        return message
