"""The people who may sign in. One admin who is not disabled always remains."""

from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from admin.access import codes, sessions
from admin.access.people import ADMIN, require_role
from admin.tables import User
from curation.review.words import reviewer_name
from foundation.errors import BadInput, Conflict, NotFound
from foundation.tables import now


def user_name(given: str) -> str:
    """Return the name that a user is kept under, which is also that of their labels.

    Raises:
        BadInput: no reviewer can be called so, or it has characters that do not show.
    """
    name = reviewer_name(given)
    if not name.isprintable():
        raise BadInput("name of a user", given, "characters that show", "Choose another name.")
    return name


def create(session: Session, name: str, role: str, *, actor: str) -> User:
    """Add a user, who cannot sign in before a password or a one-time code.

    Raises:
        BadInput: the name or the role is not acceptable.
        Conflict: there is a user of that name.
    """
    user = User(name=user_name(name), role=require_role(role), actor=actor)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise Conflict(
            "name of a user", user.name, "one that nobody has", "Choose another name."
        ) from None
    return user


def find(session: Session, name: str) -> User | None:
    """Return a user by name, or None; a name that nobody can have is nobody's."""
    try:
        kept = user_name(name)
    except BadInput:
        return None
    return session.scalars(select(User).where(col(User.name) == kept)).one_or_none()


def get(session: Session, name: str) -> User:
    """Return a user by name; raises NotFound."""
    user = find(session, name)
    if user is None:
        raise NotFound("user", name, "the name of a user", "List them with: flywheel user list")
    return user


def list_users(session: Session) -> Sequence[User]:
    """Return all users by name."""
    return session.scalars(select(User).order_by(col(User.name))).all()


def is_empty(session: Session) -> bool:
    """Return whether there is no user yet."""
    return session.scalar(select(col(User.id)).limit(1)) is None


def locked(session: Session, identifier: UUID) -> User:
    """Return a user to be changed, with all admins held: two changes come one after the other.

    Raises:
        NotFound: no such user.
    """
    rows = session.scalars(
        select(User)
        .where(
            or_(
                col(User.id) == identifier,
                and_(col(User.role) == ADMIN, col(User.disabled_at).is_(None)),
            )
        )
        .order_by(col(User.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    found = next((row for row in rows if row.id == identifier), None)
    if found is None:
        raise NotFound("user", str(identifier), "the id of a user", "See the list of users.")
    return found


def set_role(session: Session, user: User, role: str) -> None:
    """Give a user another role, which holds from their next request on.

    Args:
        session: in whose transaction `user` is `locked`.
        user: who.
        role: which.

    Raises:
        BadInput: there is no such role.
        Conflict: they are the last admin.
    """
    require_role(role)
    if role != ADMIN:
        _require_another_admin(session, user)
    user.role = role
    session.add(user)
    session.flush()


def disable(session: Session, user: User) -> None:
    """Let a `locked` user in no more, and end their sessions; raises Conflict as `set_role`."""
    _require_another_admin(session, user)
    user.disabled_at = user.disabled_at or now()
    session.add(user)
    sessions.close_all(session, user.id)
    codes.forget(session, user.id)
    session.flush()


def enable(session: Session, user: User) -> None:
    """Let a user sign in again."""
    user.disabled_at = None
    session.add(user)
    session.flush()


def set_password(session: Session, user: User, password_hash: str, keep: str | None = None) -> None:
    """Let a user sign in with a password; their sessions end but the one with the hash `keep`.

    Raises:
        Conflict: they sign in through a provider, which says when no more.
    """
    _require_own_proof(user)
    user.password_hash = password_hash
    session.add(user)
    sessions.close_all(session, user.id, besides=keep)
    codes.forget(session, user.id)
    session.flush()


def reset(session: Session, user: User) -> str:
    """Forget a user's password, end their sessions, and return a one-time code to begin anew.

    Raises:
        Conflict: as `set_password`, or they are disabled.
    """
    _require_own_proof(user)
    if user.disabled_at is not None:
        raise Conflict("user", user.name, "one who is not disabled", "Enable them first.")
    user.password_hash = None
    session.add(user)
    sessions.close_all(session, user.id)
    codes.forget(session, user.id)
    session.flush()
    return codes.make_code(session, user)


def from_provider(session: Session, subject: str, name: str, role: str) -> User:
    """Return the user of an OIDC subject, with the role that their provider gives them now.

    They are made on their first sign-in. A name that another user has is never theirs: they get it
    with a hash of their subject.
    """
    user = _of_subject(session, subject) or _make_from_provider(session, subject, name, role)
    if user.role != role:
        user.role = role
        session.add(user)
    session.flush()
    return user


def _make_from_provider(session: Session, subject: str, name: str, role: str) -> User:
    digest = sha256(subject.encode()).hexdigest()[:8]
    try:
        kept = user_name(name)
    except BadInput:
        kept = f"user-{digest}"
    for candidate in (kept, f"{kept[:80]}-{digest}"):
        user = User(name=candidate, role=require_role(role), oidc_subject=subject, actor="oidc")
        try:
            with session.begin_nested():
                session.add(user)
        except IntegrityError:  # the name is taken, or their other tab was faster
            other = _of_subject(session, subject)
            if other is not None:
                return other
            continue
        return user
    raise Conflict("name of a user", kept, "one that nobody has", "Ask an admin to look.")


def _of_subject(session: Session, subject: str) -> User | None:
    return session.scalars(
        select(User).where(col(User.oidc_subject) == subject).with_for_update()
    ).one_or_none()


def _require_own_proof(user: User) -> None:
    if user.oidc_subject is not None:
        raise Conflict(
            "user", user.name, "one who has a password here", "They sign in through their provider."
        )


def _require_another_admin(session: Session, user: User) -> None:
    if user.role != ADMIN or user.disabled_at is not None:
        return
    another = session.scalar(
        select(col(User.id)).where(
            col(User.role) == ADMIN, col(User.disabled_at).is_(None), col(User.id) != user.id
        )
    )
    if another is None:
        raise Conflict(
            "user",
            user.name,
            "one beside whom another admin can sign in",
            "Make another user an admin first.",
        )
