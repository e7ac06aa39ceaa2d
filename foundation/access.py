"""Who may open a door: the master key, compared in constant time, and by which key one came.

Without a key the service answers on loopback only (`settings.require_safe_binding`). Scoped keys
are `router.keys`' business; here is what is left of one for the rooms below, a `Bearer`. A browser
opens the door for every page that it shows, so what changes something must come from a page of
ours.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from foundation.errors import Forbidden, NotAuthorised
from foundation.settings import LOOPBACK, get_settings

SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""Of requests that change nothing."""

_PORT: Final = re.compile(r":\d*$")


@dataclass(frozen=True, slots=True)
class Bearer:
    """By which key a request came, and what it may write."""

    key_id: UUID | None = None
    """None: the master key, or none was asked for."""
    name: str = ""
    roles: frozenset[str] | None = None
    """None: every role."""
    projects: tuple[str, ...] | None = None
    """None: every project."""
    writes_calls: bool = True
    """Else it may only say what became of calls."""


OPERATOR: Final = Bearer()
_bearer: ContextVar[Bearer] = ContextVar("flywheel_bearer", default=OPERATOR)


def came_by() -> Bearer:
    """Return by which key what happens now was asked for; an operator's where no door was."""
    return _bearer.get()


@contextmanager
def bearing(bearer: Bearer) -> Iterator[None]:
    """Let what happens in this block be asked for by `bearer`, in its threads and tasks too."""
    token = _bearer.set(bearer)
    try:
        yield
    finally:
        _bearer.reset(token)


def require_key(headers: Mapping[str, str], door: str = "this service") -> None:
    """Check a request's key: `Authorization: Bearer`, `x-api-key`, or a browser's Basic password.

    Raises:
        NotAuthorised: a key is configured and the request carries another one, or none.
    """
    expected = get_settings().api_key
    if expected is None:
        return
    given = given_key(headers)
    if not hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        raise NotAuthorised(door)


def opens_metrics(headers: Mapping[str, str]) -> bool:
    """Say whether a request carries `FLYWHEEL_METRICS_KEY`, which opens /metrics alone."""
    expected = get_settings().metrics_key
    if not expected:
        return False
    return hmac.compare_digest(given_key(headers).encode(), expected.get_secret_value().encode())


def given_key(headers: Mapping[str, str]) -> str:
    """Return the key that a request carries, wherever its client puts it; empty without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return headers.get("x-api-key", "")


def require_same_origin(method: str, headers: Mapping[str, str]) -> None:
    """Check that no other site's page made a browser send what changes something.

    A browser adds the key that its user gave, or is on the machine that needs none, whichever page
    asks. It also says where the page is from: `Sec-Fetch-Site`, and `Origin` where the connection
    is not secure. A client that says neither is no browser. The rule is that of Go's
    `http.CrossOriginProtection`.

    Raises:
        Forbidden: another origin sent it, another port of this machine included.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if method in SAFE_METHODS or site in ("same-origin", "none"):
        return
    if site is None and (origin is None or origin.partition("://")[2] == headers.get("host")):
        return
    raise Forbidden(
        "origin of the request", origin or site, "a page of this service", "Send it from there."
    )


def require_own_name(headers: Mapping[str, str]) -> None:
    """Check, where no key is asked for, that a browser calls this machine by its own name.

    A site may let its name point to 127.0.0.1, and its pages are then of our origin. Who states no
    host at all is no browser.

    Raises:
        Forbidden: the host is not a name of the loopback.
    """
    host = headers.get("host", "")
    name = _PORT.sub("", host).strip("[]").lower()
    if host and name not in LOOPBACK:
        raise Forbidden(
            "host of the request",
            host,
            f"one of {', '.join(LOOPBACK)} unless FLYWHEEL_API_KEY is set",
            "Open the page by that address, or set a key.",
        )
