"""Signing in and out: by password, by a one-time code, through a provider; and one's own page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session

from admin.access import passwords, sessions, signing, users
from admin.access.attempts import TooManyAttempts, count, forgive
from admin.access.passwords import TooBusy
from admin.access.people import ROLES
from admin.access.sessions import COOKIE, HANDLE_CHARACTERS, LONGEST
from admin.access.signing import NotSignedIn, Visitor
from admin.rendering import Reading, link_to, render
from admin.tables import User, UserSession
from admin.writing import By, ByViewer, person_of, see
from foundation.access import require_same_origin
from foundation.database import session_scope
from foundation.errors import Conflict, FlywheelError, Forbidden, NotFound
from foundation.settings import get_settings

routes = APIRouter()

_BUSY_S: Final = 5
_PASSWORD = Form(max_length=10_000)
"""More than any password that can be: what is longer is turned away before it is looked at."""


@dataclass(frozen=True)
class SignInPage:
    """Where one signs in."""

    next: str = ""
    name: str = ""
    error: str = ""
    """Why it did not work, in words; empty before the first try."""
    lost: bool = False
    """Whether a form was sent that nobody was signed in for any more."""
    has_provider: bool = False
    signed_in_as: str = ""


@dataclass(frozen=True)
class Browser:
    """One of a user's sessions."""

    kept: UserSession
    is_this: bool

    @property
    def handle(self) -> str:
        """What its form names it by."""
        return self.kept.token_hash[:HANDLE_CHARACTERS]

    @property
    def ends_at(self) -> datetime:
        """When it ends if it is not used any more."""
        return min(self.kept.expires_at, self.kept.seen_at + sessions.IDLE)


@dataclass(frozen=True)
class MePage:
    """Who is signed in, where, and how."""

    may: str
    user: User | None
    """None: who has the key of the service is no user."""
    browsers: Sequence[Browser]
    changed: bool
    min_characters: int = passwords.MIN_CHARACTERS

    @property
    def has_others(self) -> bool:
        """Whether they are signed in anywhere else."""
        return any(not browser.is_this for browser in self.browsers)


@routes.get("/login", name="sign_in")
def show(request: Request, next: str = "", lost: bool = False) -> HTMLResponse:
    """Show the forms; nothing is taken from the address but where to go on."""
    return _page(request, SignInPage(next=_ours(request, next), lost=lost))


@routes.post("/login", name="sign_in.password")
def by_password(
    request: Request,
    name: Annotated[str, Form(max_length=10_000)],
    password: Annotated[str, _PASSWORD],
    next: Annotated[str, Form()] = "",
) -> Response:
    """Sign in with a name and a password."""
    require_same_origin(request.method, request.headers)
    page = SignInPage(next=_ours(request, next), name=name[:200])
    try:
        token = signing.with_password(name, password, _visitor(request))
    except (NotSignedIn, TooManyAttempts, TooBusy) as error:
        return _refused(request, page, error)
    return _signed_in(request, token, next)


@routes.post("/login/code", name="sign_in.code")
def by_code(
    request: Request,
    code: Annotated[str, Form(max_length=1_000)],
    next: Annotated[str, Form()] = "",
) -> Response:
    """Sign in with a one-time code."""
    require_same_origin(request.method, request.headers)
    try:
        token = signing.with_code(code, _visitor(request))
    except (Forbidden, TooManyAttempts) as error:
        return _refused(request, SignInPage(next=_ours(request, next)), error)
    return _signed_in(request, token, next)


@routes.get("/login/oidc", name="sign_in.oidc")
def to_provider(request: Request, next: str = "") -> Response:
    """Send the browser to the provider; a link and no form, which the content policy would hold."""
    oidc = _oidc()
    address, cookie = oidc.begin(
        oidc.client_of(), str(request.url_for("sign_in.oidc.back")), _ours(request, next)
    )
    answer = RedirectResponse(address, status_code=303)
    answer.set_cookie(
        oidc.COOKIE,
        cookie,
        max_age=oidc.LIFE_S,
        path=link_to(request, "sign_in.oidc"),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


@routes.get("/login/oidc/back", name="sign_in.oidc.back")
def from_provider(request: Request) -> Response:
    """Sign in whom the provider sends back with a code of its own, worth one use there."""
    oidc = _oidc()
    try:
        identity, next = oidc.finish(
            oidc.client_of(),
            str(request.url_for("sign_in.oidc.back")),
            request.query_params,
            request.cookies.get(oidc.COOKIE, ""),
        )
        token = signing.with_provider(
            identity.subject, identity.name, identity.role, _visitor(request)
        )
    except (Forbidden, oidc.ProviderFailed) as error:
        answer: Response = _refused(request, SignInPage(), error)
    else:
        answer = _signed_in(request, token, next)
    answer.delete_cookie(oidc.COOKIE, path=link_to(request, "sign_in.oidc"))
    return answer


@routes.post("/sign-out", name="sign_out")
def sign_out(request: Request, by: ByViewer) -> Response:
    """End the session."""
    with by.changing("session.end", "users", by.name) as change:
        if by.person.token_hash:
            sessions.close(change.session, by.person.token_hash)
    answer = see(link_to(request, "sign_in"))
    answer.delete_cookie(COOKIE, path=_path(request))
    return answer


@routes.get("/me", name="me")
def show_me(request: Request, session: Reading, changed: bool = False) -> HTMLResponse:
    """Show who is signed in, and where."""
    return render(request, "login/me.html", me_page(session, request, changed))


@routes.post("/me/password", name="me.password")
def set_password(
    request: Request,
    by: ByViewer,
    password: Annotated[str, _PASSWORD],
    again: Annotated[str, _PASSWORD],
    current: Annotated[str, _PASSWORD] = "",
) -> Response:
    """Change one's password, which ends one's other sessions."""
    if password != again:
        raise Conflict("password", "two that differ", "the same one twice", "Type them again.")
    passwords.require_good(password, by.name)
    user_id = _require_user(by)
    _require_current(by, user_id, current)
    made = passwords.hash_of(password)
    with by.changing("user.password", "users", by.name) as change:
        user = users.locked(change.session, user_id)
        users.set_password(change.session, user, made, keep=by.person.token_hash)
    return see(link_to(request, "me", {"changed": "true"}))


@routes.post("/me/sessions/end-others", name="me.end_others")
def end_others(request: Request, by: ByViewer) -> Response:
    """End every session of one's own but this one."""
    user_id = _require_user(by)
    with by.changing("session.end_others", "users", by.name) as change:
        sessions.close_all(change.session, user_id, besides=by.person.token_hash)
    return see(link_to(request, "me"))


@routes.post("/me/sessions/{handle}/end", name="me.end")
def end(
    request: Request,
    by: ByViewer,
    handle: Annotated[str, Path(pattern=f"^[0-9a-f]{{{HANDLE_CHARACTERS}}}$")],
) -> Response:
    """End one session of one's own; ended already, it changes nothing."""
    user_id = _require_user(by)
    with by.changing("session.end", "users", by.name) as change:
        sessions.close_by_handle(change.session, user_id, handle)
    return see(link_to(request, "me"))


def require_provider() -> None:
    """Check what is configured of a provider, if one is, before anybody is sent to it.

    Raises:
        BadSetting: a part is missing or wrong.
        MissingExtra: Authlib is not installed.
    """
    if get_settings().oidc_issuer is not None:
        _oidc().client_of()


def me_page(session: Session, request: Request, changed: bool) -> MePage:
    """Return the page of who is signed in."""
    person = person_of(request)
    user = session.get(User, person.user_id) if person.user_id else None
    rows = sessions.list_open(session, user.id) if user else ()
    browsers = [Browser(row, row.token_hash == person.token_hash) for row in rows]
    return MePage(ROLES[person.role], user, browsers, changed)


def _require_user(by: By) -> UUID:
    if by.person.user_id is None:
        raise NotFound(
            "user", by.name, "a user who is signed in", "Who has the key of the service is none."
        )
    return by.person.user_id


def _require_current(by: By, user_id: UUID, given: str) -> None:
    """Check that who holds the session knows the password, which a thief of it does not.

    Raises:
        Forbidden: they do not; that counts as an attempt to sign in.
        TooManyAttempts: it was tried too often.
    """
    with session_scope() as session:
        user = session.get_one(User, user_id)
        kept = user.password_hash
        if kept is None:
            return
        count(session, by.name, by.address)
    if not passwords.is_right(kept, given):
        raise Forbidden(
            "current password", "another one", "the one that holds now", "Nothing was changed."
        )
    with session_scope() as session:
        forgive(session, by.name, by.address)


def _visitor(request: Request) -> Visitor:
    return Visitor(
        request.client.host if request.client else "",
        request.headers.get("user-agent", ""),
        request.cookies.get(COOKIE),
    )


def _page(request: Request, page: SignInPage, status: int = 200) -> HTMLResponse:
    person = getattr(request.state, "person", None)
    told = SignInPage(
        **{
            **vars(page),
            "has_provider": get_settings().oidc_issuer is not None,
            "signed_in_as": person.name if person else "",
        }
    )
    return render(request, "login/index.html", told, status)


def _refused(request: Request, page: SignInPage, error: FlywheelError) -> Response:
    answer = _page(
        request, SignInPage(**{**vars(page), "error": _in_words(error)}), error.http_status
    )
    if isinstance(error, TooManyAttempts):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, TooBusy):
        answer.headers["Retry-After"] = str(_BUSY_S)
    return answer


def _in_words(error: FlywheelError) -> str:
    if isinstance(error, Forbidden) and error.what == "one-time code":
        return "That code is not known, was used, or is too old. Ask for another: flywheel login"
    return str(error)


def _signed_in(request: Request, token: str, next: str) -> Response:
    answer = see(_ours(request, next) or link_to(request, "overview"))
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(LONGEST.total_seconds()),
        path=_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # strict would ask who follows a link in a mail to sign in again
    )
    return answer


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"


def _oidc() -> ModuleType:
    """Return the module of the provider, which only who configured one loads."""
    if get_settings().oidc_issuer is None:
        raise NotFound("sign-in provider", None, "one that is configured", "See docs/admin.md.")
    from admin.access import oidc

    return oidc


def _ours(request: Request, address: str) -> str:
    r"""Return where to go on, if it is a path of this application; else nothing.

    A browser reads `\` as `/` and leaves out tabs and line ends, so none of them may be there.
    """
    root = request.scope.get("root_path", "") + "/"
    if not address.startswith(root) or not address.isprintable() or "\\" in address:
        return ""
    if address.startswith("//"):
        return ""
    path = urlsplit(address).path
    if ".." in unquote(path).split("/") or path == link_to(request, "sign_in"):
        return ""
    return address
