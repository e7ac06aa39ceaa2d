"""Changes by a person: only from a page of ours, by who may, in one transaction, written down.

Three walls: the browser's word where the form is from (`foundation.access`, as Go's
`CrossOriginProtection`), a session cookie that other sites' requests do not carry, and the role of
the person. What is changed and its entry in the audit log are one transaction.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import StringConstraints
from sqlalchemy import func, select
from sqlmodel import Session, SQLModel

from admin.access.people import ADMIN, OPERATOR, REVIEWER, VIEWER, Person
from admin.tables import AuditEntry
from foundation.access import require_same_origin
from foundation.database import session_scope
from foundation.errors import Forbidden

REASON_CHARACTERS: Final = 2_000
SAID: Final = "flywheel_said"
SAID_FOR_S: Final = 8
_TEXT_CHARACTERS: Final = 2_000
"""Of each text that the audit log keeps of a row."""
_SECRET: Final = (
    *("password_hash", "key_hash", "previous_hash", "token_hash", "code_hash"),
    *("written_xid", "seen_xid"),
)

Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_CHARACTERS),
    Form(),
]
"""Why, in the words of who does it."""


@dataclass
class Change:
    """One change under way: its transaction, and what the audit log will say of it."""

    session: Session
    entry: AuditEntry

    def before(self, row: SQLModel | Mapping[str, Any] | None) -> None:
        """Note how what is changed is now."""
        self.entry.before = _noted(row)

    def after(self, row: SQLModel | Mapping[str, Any] | None) -> None:
        """Note how it is when the change is done."""
        self.entry.after = _noted(row)

    def alone(self, what: str) -> None:
        """Wait for whoever does the same now: then a second click finds what the first one did.

        And the audit log says of the later one how it was after the first, not before both.
        """
        lock = func.pg_advisory_xact_lock(func.hashtextextended(what, 0))
        self.session.execute(select(lock))

    def about(self, kind: str, identifier: object) -> None:
        """Name what is changed, where that is known only now."""
        self.entry.subject_kind, self.entry.subject_id = kind, str(identifier)


@dataclass(frozen=True)
class By:
    """Who changes something, and from where; `name` is what is written as actor."""

    person: Person
    address: str = ""
    role: str = field(default=VIEWER)
    """What the route needs."""

    @property
    def name(self) -> str:
        """Their name."""
        return self.person.name

    @contextmanager
    def changing(
        self, action: str, kind: str = "", identifier: object = "", reason: str | None = None
    ) -> Iterator[Change]:
        """Open the transaction of a change; it commits with its entry in the audit log, or not.

        Args:
            action: noun and verb, such as `experiment.stop`.
            kind: what is changed: the noun's name, as in its address.
            identifier: which one.
            reason: why, in their words.
        """
        with session_scope() as session:
            entry = AuditEntry(
                actor=self.name,
                role=self.person.role,
                action=action,
                subject_kind=kind,
                subject_id=str(identifier),
                reason=reason,
                via=self.person.via,
                address=self.address,
            )
            change = Change(session, entry)
            yield change
            _only_differences(entry)
            session.add(entry)


def person_of(request: Request) -> Person:
    """Return who asks; the door has let nobody else in.

    Raises:
        Forbidden: nobody is signed in, on a page that is open to all.
    """
    person: Person | None = getattr(request.state, "person", None)
    if person is None:
        raise Forbidden("visitor", None, "a person who is signed in", "Sign in first.")
    return person


def needs(role: str) -> Callable[[Request], By]:
    """Return the dependency of a route that needs `role`; of one that changes, also the origin."""

    def allowed(request: Request) -> By:
        person = person_of(request)
        require_same_origin(request.method, request.headers)
        if not person.may(role):
            raise Forbidden(
                f"role of {person.name}",
                person.role,
                f"{role} or more",
                "Nothing was changed. Ask an admin: Users in the admin view.",
            )
        return By(person, request.client.host if request.client else "", role)

    allowed.needed_role = role  # type: ignore[attr-defined]  # a test asks every route for it
    return allowed


ByViewer = Annotated[By, Depends(needs(VIEWER))]
ByReviewer = Annotated[By, Depends(needs(REVIEWER))]
ByOperator = Annotated[By, Depends(needs(OPERATOR))]
ByAdmin = Annotated[By, Depends(needs(ADMIN))]
"""Of every route that changes something: who does it, who may."""


def see(address: str, said: str = "") -> Response:
    """Send the browser to the page that shows what was done; reloading it does nothing again.

    Args:
        address: of that page.
        said: what was done, in a sentence of ours that the page begins with. It goes there in a
            cookie of a few seconds: in the address it would be shared, and anybody's to write.
    """
    answer = RedirectResponse(address, status_code=303)
    if said:
        path = urlsplit(address).path
        answer.set_cookie(SAID, said, SAID_FOR_S, path=path, httponly=True, samesite="lax")
    return answer


def _noted(row: SQLModel | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    values = row.model_dump(mode="json") if isinstance(row, SQLModel) else dict(row)
    return {name: _cut(value) for name, value in values.items() if name not in _SECRET}


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _TEXT_CHARACTERS:
        return f"{value[:_TEXT_CHARACTERS]}… ({len(value):,} characters)"
    return value


def _only_differences(entry: AuditEntry) -> None:
    """Leave out what a change left as it was."""
    before, after = entry.before, entry.after
    if before is None or after is None:
        return
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    entry.before = {name: value for name, value in before.items() if name in changed}
    entry.after = {name: value for name, value in after.items() if name in changed}
