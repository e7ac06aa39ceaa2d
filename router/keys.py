"""Keys to the gateway: who calls, on behalf of which roles and projects, and how fast.

A key is shown once, when it is made; the database keeps its SHA-256. Each gateway process answers
from a picture of all keys that it renews with its roster: a call costs no query, and a revoked key
is refused within about a second. `FLYWHEEL_API_KEY` is the master key, which opens everything.
"""

import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from foundation.access import given_key
from foundation.database import explain_row
from foundation.errors import (
    BadInput,
    Conflict,
    FlywheelError,
    Forbidden,
    NotAuthorised,
    NotFound,
)
from foundation.settings import Settings, get_settings
from foundation.tables import now
from router.tables import GatewayKey

AGENT, USER, SERVICE, OPERATOR = "agent", "user", "service", "operator"
"""Who carries a key; an operator is who has the master key, or is on this machine without any."""

KINDS: Final = (AGENT, USER, SERVICE)
ANALYSIS: Final = "analysis"
"""What a service's key names as a role to see quarantined versions; no agent has it."""

_SHOWN: Final = 10
"""Characters of a key that are kept, to tell keys apart."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REMEDY: Final = "Ask for a key: flywheel key create NAME."


class KeysUnknown(FlywheelError):
    """The keys could not be read since this process started."""

    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "keys of the gateway: not read yet, expected a database that answers. "
            "Check FLYWHEEL_DATABASE_URL; the master key FLYWHEEL_API_KEY opens meanwhile."
        )


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How fast a key may be used; None: as fast as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (isinstance(value, bool) or value < 1):
                raise BadInput(name, value, "a whole number from 1 on", "Leave it out for none.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, and what they may ask for."""

    key_id: UUID | None
    """None: an operator."""
    name: str
    kind: str
    roles: frozenset[str] | None = None
    """None: every role."""
    projects: tuple[str, ...] | None = None
    """None: every project."""
    limits: KeyLimits = field(default_factory=KeyLimits)
    expires_at: datetime | None = None

    def require_role(self, role: str) -> None:
        """Raise Forbidden unless the key may call on behalf of `role`."""
        if self.roles is not None and role not in self.roles:
            self._forbid("role", role, self.roles)

    def project(self, said: str | None) -> str | None:
        """Return the project of a call that says `said`: a key of one project need not say it.

        Raises:
            Forbidden: the key may not call on behalf of that project, or does not say of which.
        """
        if self.projects is None:
            return said
        if said is None and len(self.projects) == 1:
            return self.projects[0]
        if said not in self.projects:
            self._forbid("project", said, self.projects)
        return said

    def _forbid(self, what: str, said: str | None, allowed: Sequence[str] | frozenset[str]) -> None:
        raise Forbidden(
            f"{what} of key {self.name!r}",
            said,
            f"one of {', '.join(sorted(allowed))}",
            f"Ask for a key of this {what}: flywheel key create.",
        )


LOCAL: Final = Caller(None, "", OPERATOR)
"""Anybody on this machine, where no key was ever made."""
MASTER: Final = Caller(None, "", OPERATOR)
"""Who has FLYWHEEL_API_KEY."""


@dataclass(frozen=True)
class Keyring:
    """All keys as one immutable picture; `known` is false until it was read once."""

    callers: Mapping[str, Caller] = field(default_factory=dict)
    """By the hash of the key; revoked and expired ones are left out."""
    n_made: int = 0
    """Keys that were ever made: from the first on, the gateway asks for one."""
    master: str | None = None
    """SHA-256 of FLYWHEEL_API_KEY."""
    known: bool = False

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return who calls, by `Authorization: Bearer`, `x-api-key` or a Basic password.

        Keys are looked up by their SHA-256, so that the time this takes says nothing of them.

        Args:
            headers: of the request, names in lower case.

        Raises:
            NotAuthorised: no key, or one that does not open.
            KeysUnknown: the keys were never read, so nobody but the master can be told.
        """
        given = given_key(headers)
        digest = _digest(given) if given else ""
        if self.master is not None and hmac.compare_digest(digest, self.master):
            return MASTER
        if not self.known:
            raise KeysUnknown
        if self.master is None and self.n_made == 0:
            return LOCAL
        caller = self.callers.get(digest)
        if caller is None or (caller.expires_at and caller.expires_at.timestamp() <= time.time()):
            raise NotAuthorised("the gateway", _REMEDY)
        return caller


def unread_keyring(settings: Settings | None = None) -> Keyring:
    """Return the picture of a process that has not read the keys yet: it knows the master's."""
    key = (settings or get_settings()).api_key
    return Keyring(master=_digest(key.get_secret_value()) if key else None)


def take(session: Session, settings: Settings | None = None) -> Keyring:
    """Read the keys."""
    rows = session.exec(select(GatewayKey)).all()
    moment = now()
    callers = {
        row.key_hash: _caller(row)
        for row in rows
        if row.revoked_at is None and (row.expires_at is None or row.expires_at > moment)
    }
    return Keyring(callers, len(rows), unread_keyring(settings).master, known=True)


def create_key(
    session: Session,
    name: str,
    *,
    kind: str = AGENT,
    roles: Sequence[str] = (),
    projects: Sequence[str] = (),
    limits: KeyLimits | None = None,
    expires_at: datetime | None = None,
    actor: str = "flywheel",
) -> tuple[GatewayKey, str]:
    """Make a key; return its row and the key itself, which nobody can read again.

    It may call on behalf of `roles` and `projects`, or of all where none is named.

    Raises:
        BadInput: a name, kind, role, project or time is not acceptable.
        Conflict: there is a key of that name.
    """
    if not _NAME.fullmatch(name):
        raise BadInput("name of a key", name, "1-64 letters, digits and ._-", "Choose another.")
    if kind not in KINDS:
        raise BadInput("kind of a key", kind, f"one of {', '.join(KINDS)}", "Choose one of them.")
    if expires_at is not None and expires_at <= now():
        raise BadInput("expiry of a key", str(expires_at), "a time to come", "Choose a later one.")
    secret = _new_secret()
    row = GatewayKey(
        name=name,
        prefix=secret[:_SHOWN],
        key_hash=_digest(secret),
        kind=kind,
        roles=_known_roles(kind, roles),
        projects=_sane_projects(projects),
        limits=_said(limits or KeyLimits()),
        expires_at=expires_at,
        actor=actor,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise Conflict(
            "name of a key", name, "one that no key has", "Rotate that key, or choose another name."
        ) from None
    return row, secret


def rotate_key(session: Session, name: str) -> tuple[GatewayKey, str]:
    """Give a key a new secret, which is returned; the old one opens nothing from now on.

    Raises:
        NotFound: no key of that name.
        Conflict: it is revoked.
    """
    row = get_key(session, name)
    if row.revoked_at is not None:
        raise Conflict("key", name, "a key that is not revoked", "Make a new one.")
    secret = _new_secret()
    row.prefix, row.key_hash = secret[:_SHOWN], _digest(secret)
    session.add(row)
    session.flush()
    return row, secret


def revoke_key(session: Session, name: str) -> GatewayKey:
    """Let a key open nothing any more; again, it changes nothing. Raises NotFound."""
    row = get_key(session, name)
    row.revoked_at = row.revoked_at or now()
    session.add(row)
    session.flush()
    return row


def get_key(session: Session, name: str) -> GatewayKey:
    """Return a key's row by its name; raises NotFound."""
    row = session.exec(select(GatewayKey).where(GatewayKey.name == name)).first()
    if row is None:
        raise NotFound("key", name, "the name of a key", "List them with: flywheel key list")
    return row


def list_keys(session: Session) -> list[GatewayKey]:
    """Return all keys by name, revoked ones too."""
    return list(session.exec(select(GatewayKey).order_by(col(GatewayKey.name))).all())


def explain_key(row: GatewayKey) -> dict[str, Any]:
    """Return a key as JSON values, without its hash."""
    told = explain_row(row)
    del told["key_hash"]
    return told


def _caller(row: GatewayKey) -> Caller:
    return Caller(
        row.id,
        row.name,
        row.kind,
        None if row.roles is None else frozenset(row.roles),
        None if row.projects is None else tuple(row.projects),
        KeyLimits(**row.limits),
        row.expires_at,
    )


def _said(limits: KeyLimits) -> dict[str, int]:
    return {name: value for name, value in asdict(limits).items() if value is not None}


def _known_roles(kind: str, roles: Sequence[str]) -> list[str] | None:
    known = {*get_settings().roles, *([ANALYSIS] if kind == SERVICE else [])}
    for role in roles:
        if role not in known:
            raise BadInput(
                "role of a key", role, f"one of {', '.join(sorted(known))}", "Set FLYWHEEL_ROLES."
            )
    return sorted(set(roles)) or None


def _sane_projects(projects: Sequence[str]) -> list[str] | None:
    for project in projects:
        if not project.isprintable() or not 1 <= len(project) <= 200:
            raise BadInput(
                "project of a key", project, "1-200 printable characters", "Choose another name."
            )
    return sorted(set(projects)) or None


def _new_secret() -> str:
    return f"fw_{secrets.token_urlsafe(32)}"


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
