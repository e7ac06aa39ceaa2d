"""One-time codes: what a terminal prints to whom it trusts, worth one sign-in."""

import secrets
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, update
from sqlmodel import Session, col

from admin.access.sessions import hash_of
from admin.tables import SignInCode, User
from foundation.errors import Forbidden
from foundation.tables import now

LIFE: Final = timedelta(minutes=15)


def make_code(session: Session, user: User) -> str:
    """Return a new code of a user; the database keeps its hash."""
    code, moment = secrets.token_urlsafe(24), now()
    session.execute(delete(SignInCode).where(col(SignInCode.expires_at) < moment))
    session.add(
        SignInCode(
            code_hash=hash_of(code), user_id=user.id, created_at=moment, expires_at=moment + LIFE
        )
    )
    return code


def forget(session: Session, user_id: UUID) -> None:
    """Make every code of a user worthless."""
    session.execute(delete(SignInCode).where(col(SignInCode.user_id) == user_id))


def redeem(session: Session, code: str) -> User:
    """Return whose code this is, which is worth nothing from now on.

    Raises:
        Forbidden: it is none, was used, or is too old.
    """
    moment = now()
    user_id = session.scalar(
        update(SignInCode)
        .where(
            col(SignInCode.code_hash) == hash_of(code.strip()),
            col(SignInCode.used_at).is_(None),
            col(SignInCode.expires_at) > moment,
        )
        .values(used_at=moment)
        .returning(col(SignInCode.user_id))
    )
    user = session.get(User, user_id) if user_id else None
    if user is None or user.disabled_at is not None:
        raise Forbidden(
            "one-time code",
            "one that is not known, was used or is too old",
            "a fresh one",
            "Ask for another in a terminal: flywheel login",
        )
    return user
