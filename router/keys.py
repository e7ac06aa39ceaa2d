"""Keys to gateway and service: what they open, for which roles and projects, and how fast.

A key is shown once, when it is made; the database keeps its SHA-256. Each process answers from a
picture of all keys that it renews about every second: a call costs no query, and a revoked key is
refused within about that time. `FLYWHEEL_API_KEY` is the master key, which opens everything.
"""

import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from foundation.access import Bearer, given_key, require_own_name
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
from router.key_uses import KeyUses
from router.scopes import (
    ADMIN,
    BY_DEFAULT,
    GATEWAY,
    INGEST,
    METRICS,
    SCOPES,
    opens,
    opens_service,
    sane_scopes,
)
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
_REMEDY_OF_SERVICE: Final = (
    "Send a key that has the scope, or the master key FLYWHEEL_API_KEY. "
    "Make one: flywheel key create NAME --scope SCOPE."
)

LONGEST_GRACE: Final = timedelta(days=30)
"""How long an old secret may open after a new one was made."""


class KeysUnknown(FlywheelError):
    """The keys could not be read since this process started."""

    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "keys: not read yet, expected a database that answers. "
            "Check FLYWHEEL_DATABASE_URL; the keys of the settings open meanwhile."
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
    scopes: frozenset[str] = frozenset(BY_DEFAULT)

    def may(self, scope: str) -> bool:
        """Say whether it opens what takes `scope`."""
        return opens(self.scopes, scope)

    def require_scope(self, scope: str) -> None:
        """Raise Forbidden unless the key opens what takes `scope`."""
        if not self.may(scope):
            raise Forbidden(
                f"scope of key {self.name!r}",
                ", ".join(sorted(self.scopes)),
                f"{scope!r} ({SCOPES[scope]})",
                f"Ask for a key that has it: flywheel key create NAME --scope {scope}.",
            )

    def bearer(self) -> Bearer:
        """Return what the rooms below need to know of it."""
        return Bearer(self.key_id, self.name, self.roles, self.projects, self.may(INGEST))

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


LOCAL: Final = Caller(None, "", OPERATOR, scopes=frozenset({ADMIN}))
"""Anybody on this machine, where no key was ever made."""
MASTER: Final = Caller(None, "", OPERATOR, scopes=frozenset({ADMIN}))
"""Who has FLYWHEEL_API_KEY."""
SCRAPER: Final = Caller(None, "FLYWHEEL_METRICS_KEY", SERVICE, scopes=frozenset({METRICS}))
"""Who has FLYWHEEL_METRICS_KEY."""


@dataclass(frozen=True)
class Keyring:
    """All keys as one immutable picture; `known` is false until it was read once."""

    callers: Mapping[str, Caller] = field(default_factory=dict)
    """By the hash of the key; revoked and expired ones are left out."""
    n_made: int = 0
    """Keys to the gateway that were ever made: from the first on, it asks for one."""
    master: str | None = None
    """SHA-256 of FLYWHEEL_API_KEY."""
    scraper: str | None = None
    """SHA-256 of FLYWHEEL_METRICS_KEY."""
    known: bool = False
    n_of_service: int = 0
    """Keys that were ever made and open anything of the service: likewise."""
    uses: KeyUses = field(default_factory=KeyUses)
    """Which keys were used lately; goes from picture to picture."""
    ended: Mapping[str, str] = field(default_factory=dict)
    """By the hash of a key that opens nothing any more, why: said to who still sends it."""

    def is_of_settings(self, headers: Mapping[str, str]) -> bool:
        """Say whether a request carries a key of the settings, which no row need be read for."""
        given = given_key(headers)
        return bool(given) and self._of_settings(_digest(given)) is not None

    def identify(self, headers: Mapping[str, str], scope: str = GATEWAY, *others: str) -> Caller:
        """Return who calls, by `Authorization: Bearer`, `x-api-key` or a Basic password.

        Keys are looked up by their SHA-256, so that the time this takes says nothing of them.

        Args:
            headers: of the request, names in lower case.
            scope: what is asked for.
            others: scopes that open it, too.

        Raises:
            NotAuthorised: no key, or one that does not open.
            Forbidden: a key of other scopes; or none is asked for, and the request's host is not a
                name of this machine.
            KeysUnknown: the keys were never read, so only those of the settings can be told.
        """
        given = given_key(headers)
        digest = _digest(given) if given else ""
        configured = self._of_settings(digest)
        if configured is not None:
            if not any(map(configured.may, others)):
                configured.require_scope(scope)
            return configured
        if not self.known:
            raise KeysUnknown
        is_gateway = scope == GATEWAY
        if self.master is None and not (self.n_made if is_gateway else self.n_of_service):
            require_own_name(headers)
            return LOCAL
        caller = self.callers.get(digest)
        if caller is None or (caller.expires_at and caller.expires_at.timestamp() <= time.time()):
            why = _ended_at(caller.name, caller.expires_at) if caller else self.ended.get(digest)
            raise (
                NotAuthorised("the gateway", _REMEDY, why)
                if is_gateway
                else NotAuthorised(f"this service, scope {scope}", _REMEDY_OF_SERVICE, why)
            )
        if not any(map(caller.may, others)):
            caller.require_scope(scope)
        if caller.key_id is not None:
            self.uses.note(caller.key_id)
        return caller

    def _of_settings(self, digest: str) -> Caller | None:
        for key, caller in ((self.master, MASTER), (self.scraper, SCRAPER)):
            if key is not None and hmac.compare_digest(digest, key):
                return caller
        return None


def unread_keyring(settings: Settings | None = None) -> Keyring:
    """Return the picture of a process that has not read the keys yet: those of the settings."""
    settings = settings or get_settings()
    master, scraper = (
        _digest(key.get_secret_value()) if key else None
        for key in (settings.api_key, settings.metrics_key)
    )
    return Keyring(master=master, scraper=scraper)


def take(
    session: Session, settings: Settings | None = None, uses: KeyUses | None = None
) -> Keyring:
    """Read the keys; `uses` are those of the picture before."""
    rows = session.exec(select(GatewayKey)).all()
    moment = now()
    callers, ended = dict[str, Caller](), dict[str, str]()
    for row in rows:
        if row.revoked_at is not None:
            ended[row.key_hash] = f"key {row.name!r} was revoked"
        elif row.expires_at is not None and row.expires_at <= moment:
            ended[row.key_hash] = _ended_at(row.name, row.expires_at)
        else:
            caller = callers[row.key_hash] = _caller(row)
            old = _by_old_secret(row, caller, moment)
            callers |= old
            if row.previous_hash is not None and not old:
                ended[row.previous_hash] = f"key {row.name!r} was rotated, this is its old secret"
    return replace(
        unread_keyring(settings),
        callers=callers,
        n_made=sum(opens(scopes_of(row), GATEWAY) for row in rows),
        known=True,
        n_of_service=sum(opens_service(scopes_of(row)) for row in rows),
        uses=uses or KeyUses(),
        ended=ended,
    )


def _ended_at(name: str, expires_at: datetime | None) -> str:
    return f"key {name!r} ended at {expires_at:%Y-%m-%d %H:%M} UTC"


def _by_old_secret(row: GatewayKey, caller: Caller, moment: datetime) -> dict[str, Caller]:
    """Return who calls by the secret before the last rotation, while that opens still."""
    ends = row.previous_expires_at
    if row.previous_hash is None or ends is None or ends <= moment:
        return {}
    ends = min(ends, row.expires_at) if row.expires_at else ends
    return {row.previous_hash: replace(caller, expires_at=ends)}


def create_key(
    session: Session,
    name: str,
    *,
    kind: str = AGENT,
    roles: Sequence[str] = (),
    projects: Sequence[str] = (),
    scopes: Sequence[str] = (),
    limits: KeyLimits | None = None,
    expires_at: datetime | None = None,
    actor: str = "flywheel",
) -> tuple[GatewayKey, str]:
    """Make a key; return its row and the key itself, which nobody can read again.

    It may call on behalf of `roles` and `projects`, or of all where none is named. It opens what
    `scopes` say, or the gateway alone.

    Raises:
        BadInput: a name, kind, role, project, scope or time is not acceptable.
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
        scopes=sane_scopes(scopes, is_narrow=bool(roles or projects)),
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


def rotate_key(
    session: Session, name: str, grace: timedelta | None = None
) -> tuple[GatewayKey, str]:
    """Give a key a new secret, which is returned.

    The old one opens nothing from now on, or after `grace`. One that was in its grace already ends.

    Raises:
        NotFound: no key of that name.
        Conflict: it is revoked.
        BadInput: the grace is none, or longer than `LONGEST_GRACE`.
    """
    row = get_key(session, name)
    if row.revoked_at is not None:
        raise Conflict("key", name, "a key that is not revoked", "Make a new one.")
    row.previous_hash = row.previous_expires_at = None
    if grace is not None:
        if not timedelta() < grace <= LONGEST_GRACE:
            raise BadInput(
                "grace of an old secret", str(grace), "up to 30 days", "Choose a shorter one."
            )
        row.previous_hash, row.previous_expires_at = row.key_hash, now() + grace
    secret = _new_secret()
    row.prefix, row.key_hash = secret[:_SHOWN], _digest(secret)
    session.add(row)
    session.flush()
    return row, secret


def revoke_key(session: Session, name: str) -> GatewayKey:
    """Let a key open nothing any more; again, it changes nothing. Raises NotFound."""
    row = get_key(session, name)
    row.revoked_at = row.revoked_at or now()
    row.previous_hash = row.previous_expires_at = None
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
    """Return a key as JSON values, without its hashes; `scopes` are said in any case."""
    told = explain_row(row)
    del told["key_hash"], told["previous_hash"]
    return {**told, "scopes": scopes_of(row)}


def scopes_of(row: GatewayKey) -> list[str]:
    """Return what a key opens."""
    return list(BY_DEFAULT) if row.scopes is None else row.scopes


def _caller(row: GatewayKey) -> Caller:
    return Caller(
        row.id,
        row.name,
        row.kind,
        None if row.roles is None else frozenset(row.roles),
        None if row.projects is None else tuple(row.projects),
        KeyLimits(**row.limits),
        row.expires_at,
        frozenset(scopes_of(row)),
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
