"""Traffic: the gateway's processes and their upstreams, budgets and their limits, and usage.

Leads to `router.windows`. Keys have their own page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlalchemy import select
from sqlmodel import Session, col

from admin.charts import Trend, trend
from admin.formats import ahead
from admin.gateways import DOWN, UP, Circuit, Process, circuits, read_process
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import ByAdmin, Reason, see
from foundation.errors import BadInput
from foundation.settings import get_settings
from foundation.tables import now
from router import usage, windows
from router.processes import ALIVE
from router.tables import GatewayProcess
from router.usage import GROUPS, Usage
from router.windows import ALL, COST_USD_PER_MONTH, DEFAULTS, EVERY, Standing

routes = APIRouter(prefix="/traffic")

DAYS = ("1", "7", "30", "90")
GROUPS_SHOWN = 200
BUDGETS_SHOWN = 200
NEARLY = 0.8
"""Share of a budget from which its bar warns."""
ALARMS_SHOWN = 20
TREND_DAYS = 30
DAY = "day"


@dataclass(frozen=True)
class Filters(Narrowing):
    """How usage is summed up: by what, and of how many days."""

    by: str = "role"
    days: str = "7"

    @property
    def n_days(self) -> int:
        """How many days; 0 where the address says no number."""
        return int(self.days) if self.days.isdecimal() else 0


@dataclass(frozen=True)
class Budget:
    """A budget as it is drawn; shares are of its limit, 0-1."""

    standing: Standing
    used: float | None
    """None: each scope of the kind has so much."""
    promised: float | None

    @property
    def taken(self) -> float:
        """What is used or promised, 0-1; 0 where each scope of a kind has so much."""
        return (self.used or 0.0) + (self.promised or 0.0)

    @property
    def tone(self) -> str:
        """`good`, `warn` near the limit, `bad` where nothing is left."""
        return "bad" if self.taken >= 1 else "warn" if self.taken >= NEARLY else "good"

    @property
    def is_money(self) -> bool:
        """Whether it is counted in dollars, not tokens."""
        return self.standing.measure == COST_USD_PER_MONTH


@dataclass(frozen=True)
class UsageRow:
    """Usage of one group, and its share of the largest one's tokens, 0-1."""

    usage: Usage
    share: float
    trend: Trend | None
    """Tokens of the last 30 days; None for days, and where nothing was used on two of them."""

    @property
    def error_rate(self) -> float | None:
        """Share of the calls that failed; None without calls."""
        return self.usage.n_errors / self.usage.n_calls if self.usage.n_calls else None


USAGE: Listing[UsageRow] = Listing(
    [
        Column("group", "Group", lambda row: row.usage.group, True, first="up"),
        Column("tokens", "Tokens", lambda row: row.usage.tokens, True),
        Column("trend", f"{TREND_DAYS} days"),
        Column("input_tokens", "Prompts", lambda row: row.usage.input_tokens, True, True),
        Column("output_tokens", "Answers", lambda row: row.usage.output_tokens, True, True),
        Column("calls", "Calls", lambda row: row.usage.n_calls, True, True),
        Column("errors", "", lambda row: row.usage.n_errors),
        Column("error_rate", "Errors", lambda row: row.error_rate or 0.0, True, True),
        Column("cached", "Cached", lambda row: row.usage.n_cached, True, True),
        Column("estimated", "", lambda row: row.usage.n_estimated),
        Column("unpriced", "", lambda row: row.usage.n_unpriced),
        Column("cost_usd", "Cost", lambda row: row.usage.cost_usd, True, True),
    ],
    key=None,
    name="usage",
)
"""Usage is summed up by the database and sorted here: it has no id to be paged by."""


@dataclass(frozen=True)
class Limited:
    """The budget that the form is about; empty fields where it was not chosen."""

    scope: str = ""
    measure: str = ""

    def of(self, budgets: Sequence[Budget]) -> Standing | None:
        """Return how it stands; None where no such budget is known."""
        return next(
            (
                one.standing
                for one in budgets
                if (one.standing.scope, one.standing.measure) == (self.scope, self.measure)
            ),
            None,
        )


@dataclass(frozen=True)
class TrafficPage:
    """How calls are answered now, and what they take."""

    processes: Sequence[Process]
    circuits: Sequence[Circuit]
    budgets: Sequence[Budget]
    n_budgets: int
    limited: Limited
    standing: Standing | None
    """Of the budget that the form is about."""
    scopes: Sequence[str]
    """What a budget may be set for, as suggestions."""
    filters: Filters
    table: Table[UsageRow]
    n_groups: int
    total: Usage
    groups: Sequence[str] = tuple(GROUPS)
    days: Sequence[str] = DAYS
    measures: Sequence[str] = tuple(DEFAULTS)

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
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
    limited: Annotated[Limited, Depends()],
) -> Response:
    """Show the traffic."""
    if asked.format:
        return USAGE.export(
            select(),
            asked,
            lambda _, rows: rows,
            lambda mine, _: (_sorted(usage_rows(mine, filters, {}), asked), None),
        )
    page = traffic_page(session, filters, asked, limited)
    template = "traffic/_usage.html" if wants_rows(request) else "traffic/index.html"
    return render(request, template, page)


@routes.post("/budgets", name="traffic.budget")
def set_budget(
    request: Request,
    by: ByAdmin,
    scope: Annotated[str, Form(max_length=300)],
    measure: Annotated[str, Form(max_length=100)],
    amount: Annotated[float, Form()],
    reason: Reason,
) -> Response:
    """Limit what a scope may use of a measure; what was used in the window under way counts."""
    scope = scope.strip()
    with by.changing("budget.set", "budgets", f"{scope} {measure}", reason) as change:
        change.alone(f"budget {scope} {measure}")
        change.before(_limit(change.session, scope, measure))
        windows.set_limit(change.session, scope, measure, amount, by.name)
        change.after(_limit(change.session, scope, measure))
    return see(
        f"{link_to(request, 'traffic')}#budgets",
        "The limit is set; it holds in every process within five seconds.",
    )


@routes.post("/budgets/unset", name="traffic.unset_budget")
def unset_budget(
    request: Request,
    by: ByAdmin,
    scope: Annotated[str, Form(max_length=300)],
    measure: Annotated[str, Form(max_length=100)],
    reason: Reason,
) -> Response:
    """Let the default hold again."""
    with by.changing("budget.unset", "budgets", f"{scope} {measure}", reason) as change:
        change.alone(f"budget {scope} {measure}")
        change.before(_limit(change.session, scope, measure))
        windows.unset_limit(change.session, scope, measure)
        change.after(_limit(change.session, scope, measure))
    return see(
        f"{link_to(request, 'traffic')}#budgets",
        "The default holds again, in every process within five seconds.",
    )


def _limit(session: Session, scope: str, measure: str) -> dict[str, Any]:
    """Return the limit that is to be changed, as the audit log says it; None: the default."""
    row = windows.held_limit(session, scope, measure)
    return {"limit": row.amount if row else None}


def traffic_page(
    session: Session,
    filters: Filters,
    asked: Asked | None = None,
    limited: Limited | None = None,
) -> TrafficPage:
    """Return the page; raises BadInput where usage is asked for by what there is not."""
    asked, limited = asked or Asked("", "", ""), limited or Limited()
    rows = session.scalars(select(GatewayProcess).order_by(col(GatewayProcess.started_at))).all()
    present = now()
    processes = [read_process(row, present, ALIVE) for row in rows]
    living = [row.state for row, told in zip(rows, processes, strict=True) if told.is_alive]
    budgets = sorted(map(_budget, windows.standings(session)), key=lambda one: -one.taken)
    shown = usage_rows(session, filters, None)
    ordered = _sorted(shown, asked)[:GROUPS_SHOWN]
    kept = {**filters.query, **({"sort": asked.sort} if asked.sort else {})}
    heads = USAGE.heads(asked, filters.query)
    heads[0] = replace(heads[0], label=filters.by.capitalize())
    return TrafficPage(
        processes=processes,
        circuits=circuits(living),
        budgets=budgets[:BUDGETS_SHOWN],
        n_budgets=len(budgets),
        limited=limited,
        standing=limited.of(budgets),
        scopes=[ALL, *(f"role:{role}" for role in (*get_settings().roles, EVERY)), f"key:{EVERY}"],
        filters=filters,
        table=Table(ordered, heads, kept, None),
        n_groups=len(shown),
        total=total_of([row.usage for row in shown]),
    )


def usage_rows(
    session: Session, filters: Filters, trends: Mapping[str, Sequence[int]] | None
) -> list[UsageRow]:
    """Return the groups' usage, the costliest first; raises BadInput.

    Args:
        session: to read by.
        filters: by what, and of how many days.
        trends: tokens of each of the last days by group; None: they are read.
    """
    groups = usage.summed(session, filters.by, filters.n_days)
    if trends is None:
        names = [group.group for group in groups[:GROUPS_SHOWN]]
        trends = usage.by_day(session, filters.by, names, TREND_DAYS) if filters.by != DAY else {}
    largest = max((group.tokens for group in groups), default=0) or 1
    return [
        UsageRow(
            group,
            group.tokens / largest,
            _trend(group.group, trends.get(group.group, ())),
        )
        for group in groups
    ]


def _trend(group: str, tokens: Sequence[int]) -> Trend | None:
    is_line = sum(n > 0 for n in tokens) > 1
    return trend(tokens, label=f"Tokens a day of {group or 'no name'}") if is_line else None


def _sorted(rows: Sequence[UsageRow], asked: Asked) -> list[UsageRow]:
    if not asked.sort:
        return list(rows)
    column = USAGE.sortable.get(asked.sort.removeprefix("-"))
    if column is None or column.value is None:
        known = ", ".join(USAGE.sortable)
        raise BadInput("sort", asked.sort, f"one of {known}", "Choose a column's head.")
    return sorted(rows, key=column.value, reverse=asked.sort.startswith("-"))


@dataclass(frozen=True)
class BudgetAlarm:
    """A budget of which little or nothing is left."""

    standing: Standing

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return (self.standing.used or 0.0) >= self.standing.amount

    @property
    def words(self) -> str:
        """What is used of it, and when it is new."""
        one = self.standing
        used = windows.as_said(one.measure, one.used or 0.0)
        limit = windows.as_said(one.measure, one.amount)
        return f"{one.scope}: {used} of {limit} used, new {ahead(one.resets_at)}"


def budget_alarms(session: Session) -> list[BudgetAlarm]:
    """Return the budgets that are used to 80 % or more, the fullest first, in one query."""
    return [BudgetAlarm(one) for one in windows.nearly_used(session, NEARLY, ALARMS_SHOWN)]


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
