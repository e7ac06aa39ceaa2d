"""What stands before every page: who asks is known, or is sent to sign in.

An ASGI middleware rather than a dependency of each route, so that a page that forgets to ask is
closed and not open. The key of the service opens it too, for scripts.
"""

import hmac
from typing import Final
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from admin.access.people import ADMIN, Person
from admin.access.sessions import COOKIE, person_of
from foundation.access import given_key
from foundation.database import session_scope
from foundation.settings import get_settings

OPEN: Final = ("/static/", "/login")
"""Paths that anybody may ask for."""


class Door:
    """Lets in who is signed in, as `request.state.person`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, or lead to where one signs in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        person = await run_in_threadpool(person_at, request)
        request.state.person = person
        if person is None and not _path(scope).startswith(OPEN):
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
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _sign_in_first(request: Request) -> Response:
    root = request.scope.get("root_path", "")
    if request.method not in ("GET", "HEAD"):
        back = ""  # what was sent is gone; its page is where to go on
    else:
        back = f"{request.url.path}?{request.url.query}".rstrip("?")
    address = f"{root}/login" + (f"?{urlencode({'next': back})}" if back else "")
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": f"{root}/login"})
    return RedirectResponse(address, status_code=303)
