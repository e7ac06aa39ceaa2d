"""Changes by a form: only from a page of ours, in one transaction, by a stage's own function.

Three walls: the browser's word where the form is from (`foundation.access`), a cookie that other
sites' requests do not carry, and a token in the form that only who can read the page knows. The
token is made from the cookie, so nothing is kept: it outlives restarts and holds in each process.
"""

import hmac
import secrets
from typing import Annotated, Final

from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import StringConstraints

from foundation.access import require_own_name, require_same_origin
from foundation.errors import Forbidden
from foundation.settings import get_settings

COOKIE: Final = "flywheel_forms"
_COOKIE_CHARACTERS: Final = 43
_KEPT_S: Final = 30 * 86_400
REASON_CHARACTERS: Final = 2_000

Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_CHARACTERS),
    Form(),
]
"""Why, in the words of who does it."""


def form_token(request: Request) -> str:
    """Return what a form of this page carries; `keep_cookie` then sends what it is made from."""
    return _token_of(_secret_of(request))


def keep_cookie(request: Request, answer: Response) -> None:
    """Send the cookie with a page that has forms, unless the browser has it."""
    secret = getattr(request.state, "form_secret", None)
    if secret is None or request.cookies.get(COOKIE) == secret:
        return
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=_KEPT_S,
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # strict would replace it, and spoil open pages, after a link in a mail
    )


def require_own_form(request: Request, token: Annotated[str, Form()] = "") -> None:
    """Check that a form of our own page was sent, by the browser that the page was made for.

    Raises:
        Forbidden: it was not, or the cookie is gone.
    """
    require_same_origin(request.method, request.headers)
    require_own_name(request.headers)
    given = request.cookies.get(COOKIE, "")
    fits = hmac.compare_digest(token.encode(), _token_of(given).encode())
    if not (fits and len(given) == _COOKIE_CHARACTERS):
        raise Forbidden(
            "token of the form",
            "another one",
            "the one of this page",
            "Nothing was changed. Go back, load the page anew, and send it again.",
        )


OwnForm = Depends(require_own_form)
"""Of every route that changes something."""


def actor() -> str:
    """Return the name that is written beside what is done here."""
    return get_settings().admin_user


def see(address: str) -> Response:
    """Send the browser to the page that shows what was done; reloading it does nothing again."""
    return RedirectResponse(address, status_code=303)


def _secret_of(request: Request) -> str:
    kept: str | None = getattr(request.state, "form_secret", None)
    if kept is None:
        given = request.cookies.get(COOKIE, "")
        kept = given if len(given) == _COOKIE_CHARACTERS else secrets.token_urlsafe(32)
        request.state.form_secret = kept
    return kept


def _token_of(secret: str) -> str:
    key = get_settings().api_key
    signed_with = key.get_secret_value() if key else ""
    return hmac.new(signed_with.encode(), secret.encode(), "sha256").hexdigest()
