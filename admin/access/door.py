"""What stands before every page: who asks is known, or is sent to sign in.

An ASGI middleware rather than a dependency of each route, so that a page that forgets to ask is
closed and not open. The key of the service opens it too, for scripts.
"""

import hmac
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode, urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from admin.access.people import ADMIN, Person
from admin.access.sessions import COOKIE, person_of
from foundation.access import SAFE_METHODS, given_key
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.settings import get_settings

STATIC: Final = "/static/"
LOGIN: Final = "/login"
"""Paths that anybody may ask for begin so; everything else is closed."""


class Door:
    """Lets in who is signed in, as `request.state.person`.

    Where that cannot be looked up, `failed` makes the answer.
    """

    def __init__(self, app: ASGIApp, failed: Callable[[Request, Exception], Response]) -> None:
        self.app, self.failed = app, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, or lead to where one signs in."""
        path = _path(scope)
        if scope["type"] != "http" or path.startswith(STATIC):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            person = await run_in_threadpool(person_at, request)
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            request.state.person = None  # nobody knows, so nobody comes in
            await self.failed(request, error)(scope, receive, send)
            return
        request.state.person = person
        if person is None and path != LOGIN and not path.startswith(f"{LOGIN}/"):
            await _sign_in_first(request)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def person_at(request: Request) -> Person | None:
    """Return who sent a request, by the key of the service or the cookie of a session."""
    settings = get_settings()
    key = settings.api_key
    if key is not None:
        given = given_key(request.headers)
        if given and hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
            return Person(settings.admin_user, ADMIN, "key")
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    with session_scope() as session:
        return person_of(session, token)


def _path(scope: Scope) -> str:
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))


def _sign_in_first(request: Request) -> Response:
    """Lead to the login page, and back from there; what a form sent is gone, and it says so."""
    root = request.scope.get("root_path", "")
    is_htmx = "hx-request" in request.headers
    if request.method not in SAFE_METHODS or is_htmx:
        back = _page_before(request)
    else:
        back = _address(request.scope["path"], request.scope["query_string"].decode("latin-1"))
    asked = {"next": back, "lost": "true" if request.method not in SAFE_METHODS else ""}
    query = urlencode({name: value for name, value in asked.items() if value})
    address = f"{root}{LOGIN}" + (f"?{query}" if query else "")
    if is_htmx:
        return Response(status_code=401, headers={"HX-Redirect": address})
    return RedirectResponse(address, status_code=303)


def _page_before(request: Request) -> str:
    """Return the page that a form or a part was asked from, if it was one of ours."""
    said = request.headers.get("hx-current-url") or request.headers.get("referer", "")
    try:
        page = urlsplit(said)
    except ValueError:
        return ""
    is_ours = page.netloc == request.headers.get("host", "")
    return _address(page.path, page.query) if is_ours else ""


def _address(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
