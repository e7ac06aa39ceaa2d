"""The people who may sign in."""

from sqlalchemy import select
from sqlmodel import Session, col

from admin.access.people import require_role
from admin.tables import User


def create(session: Session, name: str, role: str, *, actor: str) -> User:
    """Add a user."""
    user = User(name=name, role=require_role(role), actor=actor)
    session.add(user)
    session.flush()
    return user


def find(session: Session, name: str) -> User | None:
    """Return a user by name, or None."""
    return session.scalars(select(User).where(col(User.name) == name)).one_or_none()
