"""The audit log as those write it who are not at a form: who signs in, and commands."""

from typing import Any, Final

from sqlmodel import Session

from admin.tables import AuditEntry, User

SIGNED_IN: Final = "session.begin"
REFUSED: Final = "session.refuse"
USERS: Final = "users"
COMMAND: Final = "command"
_NAME_CHARACTERS: Final = 64
"""Of a name that somebody tried: it may be anything, and long."""


def note(
    session: Session,
    action: str,
    *,
    actor: str,
    subject: str,
    role: str = "",
    via: str = "",
    address: str = "",
    reason: str | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Add an entry about a user to the transaction under way."""
    session.add(
        AuditEntry(
            actor=actor,
            role=role,
            action=action,
            subject_kind=USERS,
            subject_id=subject,
            before=before,
            after=after,
            reason=reason,
            via=via,
            address=address,
        )
    )


def note_signed_in(session: Session, user: User, via: str, address: str) -> None:
    """Write down that a user signed in."""
    note(
        session,
        SIGNED_IN,
        actor=user.name,
        role=user.role,
        subject=user.name,
        via=via,
        address=address,
    )


def note_refused(session: Session, name: str, via: str, address: str, reason: str) -> None:
    """Write down that somebody was not let in; what they gave as proof is nowhere."""
    tried = shown_name(name)
    note(session, REFUSED, actor=tried, subject=tried, via=via, address=address, reason=reason)


def shown_name(given: str) -> str:
    """Return a name that somebody tried, as it may be kept: cut, and text to PostgreSQL."""
    clean = given.replace("\0", "").encode("utf-8", "replace").decode().strip()
    return clean if len(clean) <= _NAME_CHARACTERS else f"{clean[:_NAME_CHARACTERS]}…"
