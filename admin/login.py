"""Signing in and out, and the page of who is signed in."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from admin.access import codes, sessions
from admin.access.sessions import COOKIE, LONGEST
from admin.rendering import Reading, link_to, render
from admin.tables import User
from admin.writing import ByViewer, see
from foundation.access import require_same_origin
from foundation.database import session_scope

routes = APIRouter()


@dataclass(frozen=True)
class SignInPage:
    """Where one signs in."""

    next: str


@dataclass(frozen=True)
class MePage:
    """Who is signed in."""


@routes.get("/login", name="sign_in")
def show(request: Request, next: str = "") -> HTMLResponse:
    """Show the form."""
    return render(request, "login/index.html", SignInPage(_ours(request, next)))


@routes.post("/login/code", name="sign_in.code")
def by_code(
    request: Request, code: Annotated[str, Form()], next: Annotated[str, Form()] = ""
) -> Response:
    """Sign in with a one-time code."""
    require_same_origin(request.method, request.headers)
    with session_scope() as session:
        user = codes.redeem(session, code)
        return _signed_in(request, sessions.open_session(session, user, "code"), user, next)


@routes.get("/me", name="me")
def show_me(request: Request, session: Reading) -> HTMLResponse:
    """Show who is signed in."""
    return render(request, "login/me.html", MePage())


@routes.post("/sign-out", name="sign_out")
def sign_out(request: Request, by: ByViewer) -> Response:
    """End the session."""
    with by.changing("session.end", "users", by.name) as change:
        if by.person.token_hash:
            sessions.close(change.session, by.person.token_hash)
    answer = see(link_to(request, "sign_in"))
    answer.delete_cookie(COOKIE, path=request.scope.get("root_path", "") or "/")
    return answer


def _signed_in(request: Request, token: str, user: User, next: str) -> Response:
    answer = see(_ours(request, next) or link_to(request, "overview"))
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(LONGEST.total_seconds()),
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # strict would ask who follows a link in a mail to sign in again
    )
    return answer


def _ours(request: Request, address: str) -> str:
    """Return where to go on, if it is a path of this application; else nothing."""
    root = request.scope.get("root_path", "") + "/"
    is_ours = address.startswith(root) and not address.startswith("//") and "\\" not in address
    return address if is_ours else ""
