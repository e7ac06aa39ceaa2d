"""Keys: made, shown once, rotated, revoked; by admins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, and_, case, func, select
from sqlmodel import Session, col

from admin.access.people import ADMIN
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import ByAdmin, Reason, needs, see
from foundation.settings import get_settings
from foundation.tables import now
from router import keys
from router.keys import ANALYSIS, KINDS, KeyLimits, scopes_of
from router.scopes import SCOPES
from router.tables import GatewayKey, UsageDay
from router.windows import limit_key

routes = APIRouter(prefix="/keys")

OPEN, EXPIRED, REVOKED = "open", "expired", "revoked"
SOON: Final = timedelta(days=14)
"""Keys that end within this time are pointed out."""
USED_WITHIN: Final = timedelta(days=30)
"""How far back uses of a key are looked for: usage has a row a day, role, project and model."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    kind: str = ""
    status: str = ""


@dataclass(frozen=True)
class Row:
    """One key, without anything that opens."""

    key: GatewayKey
    used_on: date | None
    """The last day it was used; None: not within `USED_WITHIN`."""
    n_calls: int

    @property
    def scopes(self) -> Sequence[str]:
        """What it opens."""
        return scopes_of(self.key)

    @property
    def ends_soon(self) -> bool:
        """Whether it is open, and ends within two weeks."""
        ends = self.key.expires_at
        return self.status == OPEN and ends is not None and ends <= now() + SOON

    @property
    def status(self) -> str:
        """open, expired or revoked."""
        if self.key.revoked_at is not None:
            return REVOKED
        ends = self.key.expires_at
        return EXPIRED if ends is not None and ends <= now() else OPEN

    @property
    def limits(self) -> Mapping[str, Any]:
        """How fast it may be used."""
        return self.key.limits


_STATUS: Final = case(
    (col(GatewayKey.revoked_at).is_not(None), REVOKED),
    (col(GatewayKey.expires_at) <= func.now(), EXPIRED),
    else_=OPEN,
)

LISTING: Listing[Row] = Listing(
    [
        Column("name", "Key", lambda row: row.key.name, col(GatewayKey.name), first="up"),
        Column("prefix", "", lambda row: row.key.prefix),
        Column("status", "Status", lambda row: row.status, _STATUS, first="up"),
        Column("kind", "Kind", lambda row: row.key.kind, col(GatewayKey.kind), first="up"),
        Column("scopes", "Opens", lambda row: scopes_of(row.key)),
        Column("roles", "On behalf of", lambda row: row.key.roles),
        Column("projects", "", lambda row: row.key.projects),
        Column("limits", "Limits", lambda row: row.key.limits),
        Column("used_on", "Used last", lambda row: row.used_on),
        Column("last_used_at", "", lambda row: row.key.last_used_at),
        Column("n_calls_30_days", "", lambda row: row.n_calls),
        Column("expires_at", "Ends", lambda row: row.key.expires_at, col(GatewayKey.expires_at)),
        Column("created_at", "", lambda row: row.key.created_at),
        Column("actor", "", lambda row: row.key.actor),
        Column("revoked_at", "", lambda row: row.key.revoked_at),
        Column("change", "Change"),
    ],
    key=col(GatewayKey.id),
    name="keys",
)


@dataclass(frozen=True)
class ListPage:
    """The keys, and what a new one can be."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    kinds: Sequence[str] = KINDS
    scopes: Mapping[str, str] = field(default_factory=lambda: SCOPES)
    statuses: Sequence[str] = (OPEN, EXPIRED, REVOKED)


@dataclass(frozen=True)
class SecretPage:
    """A key's secret, this once."""

    key: GatewayKey
    secret: str
    is_new: bool


@dataclass(frozen=True)
class Wanted:
    """The form of a new key; what is empty is not limited."""

    name: Annotated[str, Form()]
    kind: Annotated[str, Form()] = keys.AGENT
    roles: Annotated[list[str] | None, Form()] = None
    scopes: Annotated[list[str] | None, Form()] = None
    projects: Annotated[str, Form()] = ""
    """Separated by commas."""
    expires_on: Annotated[date | None, Form()] = None
    requests_per_minute: Annotated[int | None, Form()] = None
    tokens_per_minute: Annotated[int | None, Form()] = None
    concurrent: Annotated[int | None, Form()] = None
    tokens_per_day: Annotated[float | None, Form()] = None
    cost_usd_per_month: Annotated[float | None, Form()] = None

    @property
    def limits(self) -> KeyLimits:
        """How fast it may be used; raises BadInput."""
        return KeyLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrent)

    @property
    def expires_at(self) -> datetime | None:
        """The end of its last day (UTC)."""
        if self.expires_on is None:
            return None
        return datetime.combine(self.expires_on, time.max, UTC).replace(microsecond=0)

    @property
    def project_names(self) -> list[str]:
        """The projects, one by one."""
        return [name.strip() for name in self.projects.split(",") if name.strip()]


@routes.get("", name="keys.list", dependencies=[Depends(needs(ADMIN))])
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show the keys, revoked ones too."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "keys/_rows.html" if wants_rows(request) else "keys/list.html"
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    return render(request, template, ListPage(filters, table, [*get_settings().roles, ANALYSIS]))


@routes.post("", name="keys.create")
def create(request: Request, by: ByAdmin, wanted: Annotated[Wanted, Depends()]) -> HTMLResponse:
    """Make a key; the answer shows it, this once."""
    with by.changing("key.create", "keys", wanted.name[:200]) as change:
        row, secret = keys.create_key(
            change.session,
            wanted.name,
            kind=wanted.kind,
            roles=wanted.roles or (),
            projects=wanted.project_names,
            scopes=wanted.scopes or (),
            limits=wanted.limits,
            expires_at=wanted.expires_at,
            actor=by.name,
        )
        budgets = (wanted.tokens_per_day, wanted.cost_usd_per_month)
        limit_key(change.session, wanted.name, *budgets, actor=by.name)
        given = dict(zip(("tokens_per_day", "cost_usd_per_month"), budgets, strict=True))
        change.after({**keys.explain_key(row), **given})
    return _shown_once(request, row, secret, is_new=True)


@routes.post("/{name}/rotate", name="keys.rotate")
def rotate(
    request: Request,
    by: ByAdmin,
    name: str,
    reason: Reason,
    grace_hours: Annotated[int, Form(ge=0, le=720)] = 0,
) -> HTMLResponse:
    """Give a key a new secret; the answer shows it, this once; the old one opens for the grace."""
    with by.changing("key.rotate", "keys", name, reason) as change:
        change.before(keys.get_key(change.session, name))
        grace = timedelta(hours=grace_hours) if grace_hours else None
        row, secret = keys.rotate_key(change.session, name, grace)
        change.after(row)
    return _shown_once(request, row, secret, is_new=False)


@routes.post("/{name}/revoke", name="keys.revoke")
def revoke(request: Request, by: ByAdmin, name: str, reason: Reason) -> Response:
    """Let a key open nothing any more."""
    with by.changing("key.revoke", "keys", name, reason) as change:
        change.before(keys.get_key(change.session, name))
        change.after(keys.revoke_key(change.session, name))
    return see(link_to(request, "keys.list"), "The key is revoked: it opens nothing any more.")


def _shown_once(request: Request, row: GatewayKey, secret: str, *, is_new: bool) -> HTMLResponse:
    answer = render(request, "keys/secret.html", SecretPage(row, secret, is_new))
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _rows(session: Session, found: Sequence[GatewayKey]) -> list[Row]:
    since = (now() - USED_WITHIN).date()
    used = {
        name: (day, n)
        for name, day, n in session.execute(
            select(
                col(UsageDay.key_name), func.max(col(UsageDay.day)), func.sum(col(UsageDay.n_calls))
            )
            .where(
                and_(
                    col(UsageDay.day) >= since,
                    col(UsageDay.key_name).in_([row.name for row in found]),
                )
            )
            .group_by(col(UsageDay.key_name))
        )
    }
    return [_row(row, *used.get(row.name, (None, 0))) for row in found]


def _row(key: GatewayKey, used_on: date | None, n_calls: Any) -> Row:
    return Row(key, used_on, int(n_calls))


def _matching(filters: Filters) -> Select[Any]:
    query = select(GatewayKey)
    if filters.kind:
        query = query.where(col(GatewayKey.kind) == filters.kind)
    if filters.status:
        query = query.where(_STATUS == filters.status)
    return query
