"""Traffic: the gateway's processes and their upstreams, budgets, usage, and who has a key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin.gateways import DOWN, UP, Circuit, Process, circuits, read_process
from admin.paging import Narrowing
from admin.rendering import Reading, render
from foundation.tables import now
from router import keys, usage, windows
from router.processes import ALIVE
from router.tables import GatewayKey, GatewayProcess
from router.usage import GROUPS, Usage
from router.windows import COST_USD_PER_MONTH, Standing

routes = APIRouter(prefix="/traffic")

DAYS = ("1", "7", "30", "90")
GROUPS_SHOWN = 200
BUDGETS_SHOWN = 200
NEARLY = 0.8
"""Share of a budget from which its bar warns."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """How usage is summed up: by what, and of how many days."""

    by: str = "role"
    days: str = "7"


@dataclass(frozen=True)
class Budget:
    """A budget as it is drawn; shares are of its limit, 0-1."""

    standing: Standing
    used: float | None
    """None: each scope of the kind has so much."""
    promised: float | None

    @property
    def tone(self) -> str:
        """`good`, `warn` near the limit, `bad` where nothing is left."""
        taken = (self.used or 0.0) + (self.promised or 0.0)
        return "bad" if taken >= 1 else "warn" if taken >= NEARLY else "good"

    @property
    def is_money(self) -> bool:
        """Whether it is counted in dollars, not tokens."""
        return self.standing.measure == COST_USD_PER_MONTH


@dataclass(frozen=True)
class Key:
    """A key as a page may show it: nothing that opens."""

    name: str
    prefix: str
    kind: str
    roles: Sequence[str] | None
    projects: Sequence[str] | None
    limits: Mapping[str, Any]
    created_at: datetime
    expires_at: datetime | None
    status: str
    """open, expired or revoked."""
    n_calls: int
    """In the days that usage is shown of."""
    cost_usd: float


@dataclass(frozen=True)
class UsageRow:
    """Usage of one group, and its share of the largest one's tokens, 0-1."""

    usage: Usage
    share: float


@dataclass(frozen=True)
class TrafficPage:
    """How calls are answered now, and what they take."""

    processes: Sequence[Process]
    circuits: Sequence[Circuit]
    budgets: Sequence[Budget]
    filters: Filters
    usage: Sequence[UsageRow]
    total: Usage
    keys: Sequence[Key]
    groups: Sequence[str] = tuple(GROUPS)
    days: Sequence[str] = DAYS

    @property
    def alive(self) -> int:
        """Processes that report."""
        return sum(process.is_alive for process in self.processes)

    @property
    def down(self) -> int:
        """Upstreams and models that no process asks at present."""
        return sum(circuit.state == DOWN for circuit in self.circuits)

    @property
    def degraded(self) -> int:
        """Upstreams and models that some processes ask and others do not."""
        return sum(circuit.state not in (UP, DOWN) for circuit in self.circuits)


@routes.get("", name="traffic")
def show(
    request: Request, session: Reading, filters: Annotated[Filters, Depends()]
) -> HTMLResponse:
    """Show the traffic."""
    return render(request, "traffic/index.html", traffic_page(session, filters))


def traffic_page(session: Session, filters: Filters) -> TrafficPage:
    """Return the page; raises BadInput where usage is asked for by what there is not."""
    rows = session.scalars(select(GatewayProcess).order_by(col(GatewayProcess.started_at))).all()
    present = now()
    processes = [read_process(row, present, ALIVE) for row in rows]
    living = [row.state for row, told in zip(rows, processes, strict=True) if told.is_alive]
    days = int(filters.days) if filters.days.isdecimal() else 0
    groups = usage.summed(session, filters.by, days)
    largest = max((group.tokens for group in groups), default=0) or 1
    return TrafficPage(
        processes,
        circuits(living),
        [_budget(standing) for standing in windows.standings(session)[:BUDGETS_SHOWN]],
        filters,
        [UsageRow(group, group.tokens / largest) for group in groups[:GROUPS_SHOWN]],
        total_of(groups),
        _keys(session, days),
    )


def total_of(groups: Sequence[Usage]) -> Usage:
    """Return the sum of groups."""
    return Usage(
        "",
        sum(group.n_calls for group in groups),
        sum(group.n_errors for group in groups),
        sum(group.n_cached for group in groups),
        sum(group.n_estimated for group in groups),
        sum(group.n_unpriced for group in groups),
        sum(group.input_tokens for group in groups),
        sum(group.output_tokens for group in groups),
        sum(group.cost_usd for group in groups),
    )


def _budget(standing: Standing) -> Budget:
    def share(amount: float | None) -> float | None:
        if amount is None:
            return None
        return min(1.0, amount / standing.amount) if standing.amount > 0 else 1.0

    used, promised = share(standing.used), share(standing.promised)
    if used is not None and promised is not None:
        promised = min(promised, 1.0 - used)
    return Budget(standing, used, promised)


def _keys(session: Session, days: int) -> list[Key]:
    used = {group.group: group for group in usage.summed(session, "key", days)}
    present = now()
    return [_key(row, used.get(row.name), present) for row in keys.list_keys(session)]


def _key(row: GatewayKey, used: Usage | None, present: datetime) -> Key:
    is_expired = row.expires_at is not None and row.expires_at <= present
    return Key(
        name=row.name,
        prefix=row.prefix,
        kind=row.kind,
        roles=row.roles,
        projects=row.projects,
        limits=row.limits,
        created_at=row.created_at,
        expires_at=row.expires_at,
        status="revoked" if row.revoked_at else "expired" if is_expired else "open",
        n_calls=used.n_calls if used else 0,
        cost_usd=used.cost_usd if used else 0.0,
    )
