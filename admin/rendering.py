"""From a page's dataclass to HTML: templates, links that survive a root path, headers.

Autoescape is on and never switched off, because every prompt shown is hostile text; the content
policy is the second wall behind it.
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from sqlalchemy import Connection, event, text
from sqlmodel import Session
from starlette.datastructures import MutableHeaders
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import banner, formats, texts
from admin.access.people import Person
from foundation import chat
from foundation.database import session_scope
from foundation.settings import get_settings

FOLDER = Path(__file__).resolve().parent
STATIC = FOLDER / "static"

STATEMENT_TIMEOUT_MS = 15_000
"""A view that looks at too much is stopped, so that a curious filter cannot hold the database."""

SAFE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer; assets, addressed by their hash, replace `Cache-Control` by their own."""

N_ROLE_COLOURS = 8

FILTERS = (
    "age ahead compact dollars duration evidence leaves milliseconds model_name moment number "
    "percent plain points pretty shorten size tone words"
).split()
"""Functions of `admin.formats` that templates use as filters."""


def reading_session(request: Request) -> Iterator[Session]:
    """Yield a session in a read-only transaction: PostgreSQL holds that GET changes nothing.

    It begins with the page's first query. A page that had a connection before it has a thread would
    wait for the threads of those that wait for a connection: of many pages at once none went on.
    """
    with session_scope() as session:
        event.listen(session, "after_begin", _only_read)
        request.state.reading = session
        try:
            yield session
        finally:
            request.state.reading = None


def _only_read(_: Any, __: Any, connection: Connection) -> None:
    connection.execute(text("SET TRANSACTION READ ONLY"))
    connection.execute(_LIMITS, {"timeout": str(STATEMENT_TIMEOUT_MS)})


def stopped_for(request: Request) -> Sequence[banner.Stopped]:
    """Return what the banner of a page says, read with the page; nothing where it reads nothing."""
    session: Session | None = getattr(request.state, "reading", None)
    if not hasattr(request.state, "stopped"):
        request.state.stopped = () if session is None else banner.stopped_roles(session)
    stopped: Sequence[banner.Stopped] = request.state.stopped
    return stopped


# Compiling a page's query takes PostgreSQL longer (half a second) than running it.
_LIMITS = text(
    "SELECT set_config('statement_timeout', :timeout, true), set_config('jit', 'off', true)"
)

Reading = Annotated[Session, Depends(reading_session, scope="function")]


def render(request: Request, template: str, page: Any, status: int = 200) -> HTMLResponse:
    """Return `template` filled with `page`, the dataclass of what it shows."""
    filling = {
        "page": page,
        "person": getattr(request.state, "person", None),
        "stopped": stopped_for(request),
    }
    return _templates().TemplateResponse(request, template, filling, status_code=status)


def wants_rows(request: Request) -> bool:
    """Whether htmx asks for more rows of a list rather than for a page."""
    return request.headers.get("HX-Request-Type") == "partial"


def link_to(
    request: Request, name: str, /, query: dict[str, Any] | None = None, **path: Any
) -> str:
    """Return the path of the route `name` under whatever root path the application is mounted.

    Entries of `query` that are None or empty are left out.
    """
    made = request.app.url_path_for(name, **{key: str(value) for key, value in path.items()})
    root: str = request.scope.get("root_path", "")
    return with_query(f"{root}{made}", query or {})


def with_query(address: str, query: Mapping[str, Any]) -> str:
    """Return an address with a query; entries that are None or empty are left out."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{address}?{urlencode(given)}" if given else address


@pass_context
def _link(context: Context, name: str, /, query: dict[str, Any] | None = None, **path: Any) -> str:
    return link_to(context["request"], name, query, **path)


@pass_context
def _asset(context: Context, path: str) -> str:
    return link_to(context["request"], "asset", {"v": _hash_of(path)}, path=path)


@pass_context
def _may(context: Context, role: str) -> bool:
    """Whether who looks may do what needs `role`: a button that would be refused is not shown."""
    person: Person | None = context["person"]
    return person is not None and person.may(role)


@lru_cache
def _hash_of(path: str) -> str:
    return hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]


def role_colour(role: str | None) -> str:
    """Return the class of a role's colour: configured roles have one each, others share by name."""
    if role is None:
        return "hue-none"
    roles = get_settings().roles
    place = roles.index(role) if role in roles else zlib.crc32(role.encode())
    return f"hue-{place % N_ROLE_COLOURS}"


@lru_cache(maxsize=1)
def _templates() -> Jinja2Templates:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=formats.reveal,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(formats, name)
    environment.filters |= {
        "role_colour": role_colour,
        "with_query": with_query,
        "text_of": chat.text_of,
        "joined": chat.joined,
        "shown_text": texts.shown,
        "shown_message": texts.message,
        "shown_messages": texts.conversation,
        "shown_answer": texts.answer,
    }
    environment.globals |= {
        "link": _link,
        "asset": _asset,
        "may": _may,
        "missing": formats.MISSING,
        "shown_stops": banner.names,
    }
    return Jinja2Templates(env=environment)


class SafeHeaders:
    """ASGI middleware that adds `SAFE_HEADERS` where the answer has not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, with the headers added to the start of its answer."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_safely)
