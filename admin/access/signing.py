"""Signing in: by name and password, by a one-time code, or as a provider says.

Each way is a few short transactions and not one: a failure is to stay counted and written down, and
no connection waits while a password is checked.
"""

from dataclasses import dataclass

from sqlmodel import Session

from admin.access import attempts, codes, passwords, sessions, trail, users
from admin.tables import User
from foundation.database import session_scope
from foundation.errors import FlywheelError, Forbidden

PASSWORD, CODE, OIDC = "password", "code", "oidc"


class NotSignedIn(FlywheelError):
    """Name and password are not those of a user; which of them, nobody is told."""

    http_status = 401

    def __init__(self) -> None:
        super().__init__("That name and password do not belong together.")


@dataclass(frozen=True)
class Visitor:
    """The browser at the door."""

    address: str
    agent: str = ""
    token: str | None = None
    """What its cookie holds: the session before ends when the next begins."""


def with_password(name: str, password: str, visitor: Visitor) -> str:
    """Return what the cookie of a new session holds.

    Raises:
        NotSignedIn: the name, the password or both are wrong, or the user is disabled.
        TooManyAttempts: too many were wrong before.
        TooBusy: this process checks as many passwords as it can.
    """
    passwords.require_room()
    with session_scope() as session:
        attempts.count(session, name, visitor.address)
        user = users.find(session, name)
        kept = user.password_hash if user is not None and user.disabled_at is None else None
    try:
        is_right = passwords.is_right(kept, password)
    except passwords.TooBusy:
        with session_scope() as session:
            attempts.take_back(session, name, visitor.address)
        raise
    dated = is_right and kept is not None and passwords.is_dated(kept)
    fresh = passwords.hash_of(password) if dated else None
    with session_scope() as session:
        user = users.find(session, name)
        # Whoever was disabled or got another password meanwhile is not let in by the old one.
        if is_right and user and user.disabled_at is None and user.password_hash == kept:
            user.password_hash = fresh or kept
            attempts.forgive(session, name, visitor.address)
            return _begin(session, user, PASSWORD, visitor)
        trail.note_refused(session, name, PASSWORD, visitor.address, "wrong name or password")
    raise NotSignedIn


def with_code(code: str, visitor: Visitor) -> str:
    """Return what the cookie of a new session holds, once for each code.

    Raises:
        Forbidden: the code is none, was used, or is too old.
        TooManyAttempts: so many of this address were none that they are not even written down.
    """
    try:
        with session_scope() as session:
            return _begin(session, codes.redeem(session, code), CODE, visitor)
    except Forbidden as error:
        refusal = error
    with session_scope() as session:
        attempts.count_address(session, visitor.address)
        trail.note_refused(session, "", CODE, visitor.address, "no code, a used or an old one")
    raise refusal


def with_provider(subject: str, name: str, role: str, visitor: Visitor) -> str:
    """Return what the cookie of a new session holds, of whom an OIDC provider vouches for.

    Raises:
        Forbidden: an admin has disabled them here.
    """
    with session_scope() as session:
        user = users.from_provider(session, subject, name, role)
        if user.disabled_at is None:
            return _begin(session, user, OIDC, visitor)
        trail.note_refused(session, user.name, OIDC, visitor.address, "disabled")
    raise Forbidden("user", user.name, "one who is not disabled", "Ask an admin.")


def _begin(session: Session, user: User, via: str, visitor: Visitor) -> str:
    if visitor.token:
        sessions.close(session, sessions.hash_of(visitor.token))
    trail.note_signed_in(session, user, via, visitor.address)
    return sessions.open_session(session, user, via, visitor.address, visitor.agent)
