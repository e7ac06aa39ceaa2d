"""Browsers that are signed in: a random cookie, whose hash the database keeps.

A session ends after a time without use, after a longer time in any case, when its user signs out,
is disabled or gets another password. A new role holds from the next request on. So each request
reads it, with its user, in one query.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlmodel import Session, col

from admin.access.people import Person
from admin.tables import User, UserSession
from foundation.tables import now

COOKIE: Final = "flywheel_session"
IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
_NOTED: Final = timedelta(minutes=5)
"""How old the note of a session's last use may grow: a write for each page would be too much."""
_AGENT_CHARACTERS: Final = 200
HANDLE_CHARACTERS: Final = 16
"""Of a session's hash that a page shows to name it."""


def hash_of(secret: str) -> str:
    """Return what is kept of a random secret: its SHA-256 suffices, since nobody can guess it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def open_session(session: Session, user: User, via: str, address: str = "", agent: str = "") -> str:
    """Sign a user in and return what the cookie holds; the caller commits."""
    token, moment = secrets.token_urlsafe(32), now()
    session.add(
        UserSession(
            token_hash=hash_of(token),
            user_id=user.id,
            via=via,
            address=address,
            agent=agent[:_AGENT_CHARACTERS],
            created_at=moment,
            seen_at=moment,
            expires_at=moment + LONGEST,
        )
    )
    user.seen_at = moment
    session.add(user)
    session.execute(delete(UserSession).where(col(UserSession.expires_at) < moment))
    return token


def person_of(session: Session, token: str) -> Person | None:
    """Return who holds this cookie; None where its session is over, or never was."""
    moment, key = now(), hash_of(token)
    row = session.execute(
        select(UserSession, User)
        .join(User, col(User.id) == col(UserSession.user_id))
        .where(col(UserSession.token_hash) == key, *_alive(moment), col(User.disabled_at).is_(None))
    ).one_or_none()
    if row is None:
        return None
    kept, user = row
    if kept.seen_at < moment - _NOTED:
        session.execute(
            update(UserSession).where(col(UserSession.token_hash) == key).values(seen_at=moment)
        )
    return Person(user.name, user.role, kept.via, user.id, key)


def list_open(session: Session, user_id: UUID) -> Sequence[UserSession]:
    """Return a user's sessions that are not over, the one used last first."""
    return session.scalars(
        select(UserSession)
        .where(col(UserSession.user_id) == user_id, *_alive(now()))
        .order_by(col(UserSession.seen_at).desc(), col(UserSession.token_hash))
        .limit(100)
    ).all()


def close_by_handle(session: Session, user_id: UUID, handle: str) -> bool:
    """End the session of a user whose hash begins so; return whether there was one."""
    ended = session.execute(
        delete(UserSession)
        .where(
            col(UserSession.user_id) == user_id,
            col(UserSession.token_hash).startswith(handle, autoescape=True),
        )
        .returning(col(UserSession.token_hash))
    ).all()
    return bool(ended)


def close(session: Session, token_hash: str) -> None:
    """End one session."""
    session.execute(delete(UserSession).where(col(UserSession.token_hash) == token_hash))


def close_all(session: Session, user_id: UUID, besides: str | None = None) -> None:
    """End every session of a user but the one with the hash `besides`."""
    query = delete(UserSession).where(col(UserSession.user_id) == user_id)
    if besides is not None:
        query = query.where(col(UserSession.token_hash) != besides)
    session.execute(query)


def _alive(moment: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (
        col(UserSession.expires_at) > moment,
        col(UserSession.seen_at) > moment - IDLE,
    )
