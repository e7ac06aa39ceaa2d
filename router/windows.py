"""Budgets as people set them: how much of a measure a scope may use in one window, and has used.

Scopes are `all`, `role:<role>`, `project:<name>` and `key:<id>`. Every key, every role and all of
them together have a limit, the default where none is set; a project has one once it is set.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from foundation.errors import BadInput, NotFound
from foundation.settings import get_settings
from foundation.tables import now
from router import usage
from router.keys import get_key
from router.tables import BudgetLimit, BudgetWindow, GatewayKey

ALL: Final = "all"
EVERY: Final = "*"
TOKENS_PER_DAY: Final = "tokens_per_day"
COST_USD_PER_MONTH: Final = "cost_usd_per_month"

DEFAULTS: Final[Mapping[str, float]] = {TOKENS_PER_DAY: 100e6, COST_USD_PER_MONTH: 100e3}
"""What a scope without a limit of its own may use; windows are days and months of UTC."""

_HOLD: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


def window_start(measure: str, moment: datetime) -> datetime:
    """Return when the window of a measure began that `moment` lies in."""
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if measure == TOKENS_PER_DAY else midnight.replace(day=1)


def window_end(measure: str, start: datetime) -> datetime:
    """Return when the next window begins."""
    if measure == TOKENS_PER_DAY:
        return start + timedelta(days=1)
    return (start + timedelta(days=32)).replace(day=1)


def limit_of(limits: Mapping[tuple[str, str], float], scope: str, measure: str) -> float:
    """Return a scope's limit: its own, that of every scope of its kind, or the default."""
    own = limits.get((scope, measure))
    if own is not None:
        return own
    kind = scope.partition(":")[0]
    return limits.get((f"{kind}:{EVERY}", measure), DEFAULTS[measure])


def as_said(measure: str, amount: float) -> str:
    """Return an amount in words: `1,500 tokens`, `$12.50`."""
    return f"{amount:,.0f} tokens" if measure == TOKENS_PER_DAY else f"${amount:,.2f}"


def set_limit(
    session: Session, scope: str, measure: str, amount: float, actor: str = "flywheel"
) -> BudgetLimit:
    """Limit what a scope may use of a measure from now on; the window under way counts.

    `scope` is said with the name of a key: `key:ci`; `role:*` and `key:*` are all that have no
    limit of their own.

    Raises:
        BadInput: the scope, measure or amount is not acceptable.
        NotFound: no such key or role.
    """
    if measure not in DEFAULTS:
        raise BadInput("measure", measure, f"one of {', '.join(DEFAULTS)}", "Choose one of them.")
    if not (math.isfinite(amount) and amount >= 0):
        raise BadInput("amount of a budget", amount, "a number from 0 on", "0 refuses every call.")
    stored = stored_scope(session, scope)
    row = held_limit(session, scope, measure) or BudgetLimit(
        scope=stored, measure=measure, amount=amount
    )
    row.amount, row.actor, row.updated_at = amount, actor, now()
    session.add(row)
    if stored.startswith("project:"):
        _open_window(session, stored, measure)
    session.flush()
    return row


def limit_key(
    session: Session,
    name: str,
    tokens_per_day: float | None,
    cost_usd_per_month: float | None,
    actor: str = "flywheel",
) -> None:
    """Set the budgets of a key, of those that are given; raises as `set_limit`."""
    given = {TOKENS_PER_DAY: tokens_per_day, COST_USD_PER_MONTH: cost_usd_per_month}
    for measure, amount in given.items():
        if amount is not None:
            set_limit(session, f"key:{name}", measure, amount, actor)


def unset_limit(session: Session, scope: str, measure: str) -> None:
    """Let the default hold again; raises NotFound where no limit was set."""
    row = held_limit(session, scope, measure)
    if row is None:
        raise NotFound(
            "budget", f"{scope} {measure}", "one that was set", "See: flywheel budget list"
        )
    session.delete(row)
    session.flush()


def held_limit(session: Session, scope: str, measure: str) -> BudgetLimit | None:
    """Return the limit that was set, or None, held either way: two changes come one by one.

    Raises:
        BadInput: there is no such scope.
        NotFound: no such key or role.
    """
    stored = stored_scope(session, scope)
    key = f"budget {stored} {measure}"
    session.execute(_HOLD, {"key": key})
    return session.get(BudgetLimit, (stored, measure), populate_existing=True)


def stored_scope(session: Session, said: str) -> str:
    """Return a scope as it is stored: keys by their id. Raises BadInput or NotFound."""
    kind, _, name = said.partition(":")
    if said == ALL or (kind in ("role", "key") and name == EVERY):
        return said
    if kind == "key" and name:
        return f"key:{get_key(session, name).id}"
    if kind == "role" and name:
        if name not in get_settings().roles:
            known = ", ".join(get_settings().roles)
            raise NotFound("role", name, f"one of {known}", "Set FLYWHEEL_ROLES.")
        return said
    if kind == "project" and name and name != EVERY and name.isprintable():
        return said
    raise BadInput(
        "scope of a budget",
        said,
        "all, role:ROLE, project:PROJECT, key:NAME, role:* or key:*",
        "See docs/budgets.md.",
    )


@dataclass(frozen=True)
class Standing:
    """How much a scope has used of its limit in the window under way."""

    scope: str
    """With the name of a key, not its id."""
    measure: str
    amount: float
    is_default: bool
    used: float | None
    """None of `role:*` and `key:*`: each that has no limit of its own may use so much."""
    promised: float | None
    """Handed to gateway processes: calls that run, and what they may start without asking."""
    resets_at: datetime


def standings(session: Session, moment: datetime | None = None) -> list[Standing]:
    """Return every scope that has a limit or was used in the windows under way, by name."""
    moment = moment or now()
    limits = read_limits(session)
    names = {f"key:{row.id}": f"key:{row.name}" for row in session.exec(select(GatewayKey)).all()}
    windows = {
        (row.scope, row.measure): row
        for measure in DEFAULTS
        for row in session.exec(
            select(BudgetWindow).where(
                BudgetWindow.measure == measure,
                col(BudgetWindow.starts_at) == window_start(measure, moment),
            )
        ).all()
    }
    told = []
    for scope, measure in sorted({*limits, *windows, *((ALL, measure) for measure in DEFAULTS)}):
        window = windows.get((scope, measure))
        is_one = not scope.endswith(f":{EVERY}")
        told.append(
            Standing(
                names.get(scope, scope),
                measure,
                limit_of(limits, scope, measure),
                (scope, measure) not in limits,
                (window.used if window else 0.0) if is_one else None,
                (window.leased if window else 0.0) if is_one else None,
                window_end(measure, window_start(measure, moment)),
            )
        )
    return told


_NEARLY_USED: Final = text(
    """
    SELECT coalesce('key:' || key.name, used.scope) AS scope, used.measure, used.used, used.leased,
           coalesce(own.amount, of_kind.amount, used.standard) AS amount,
           own.amount IS NULL AS is_default
    FROM (
        SELECT scope, measure, used, leased,
               CASE measure WHEN :tokens THEN CAST(:most_tokens AS float)
                            ELSE CAST(:most_usd AS float) END AS standard
        FROM budget_window
        WHERE (measure = :tokens AND starts_at = :day) OR (measure = :usd AND starts_at = :month)
    ) used
    LEFT JOIN budget_limit own ON own.scope = used.scope AND own.measure = used.measure
    LEFT JOIN budget_limit of_kind
        ON of_kind.scope = split_part(used.scope, ':', 1) || ':*'
        AND of_kind.measure = used.measure
    LEFT JOIN gateway_key key ON used.scope = 'key:' || key.id::text
    WHERE used.used > 0
      AND used.used >= :share * coalesce(own.amount, of_kind.amount, used.standard)
    ORDER BY used.used / nullif(coalesce(own.amount, of_kind.amount, used.standard), 0) DESC
             NULLS FIRST, 1, 2
    LIMIT :most
    """
)


def nearly_used(
    session: Session, share: float, most: int = 20, moment: datetime | None = None
) -> list[Standing]:
    """Return the budgets of which `share` (0-1) or more is used, the fullest first, up to `most`.

    Only what is used counts: what is promised may be given back.
    """
    moment = moment or now()
    starts = {measure: window_start(measure, moment) for measure in DEFAULTS}
    rows = session.execute(
        _NEARLY_USED,
        {
            "tokens": TOKENS_PER_DAY,
            "usd": COST_USD_PER_MONTH,
            "most_tokens": DEFAULTS[TOKENS_PER_DAY],
            "most_usd": DEFAULTS[COST_USD_PER_MONTH],
            "day": starts[TOKENS_PER_DAY],
            "month": starts[COST_USD_PER_MONTH],
            "share": share,
            "most": most,
        },
    )
    return [
        Standing(
            row.scope,
            row.measure,
            row.amount,
            row.is_default,
            row.used,
            row.leased,
            window_end(row.measure, starts[row.measure]),
        )
        for row in rows
    ]


def read_limits(session: Session) -> dict[tuple[str, str], float]:
    """Return the limits that were set, by scope and measure."""
    rows = session.execute(text("SELECT scope, measure, amount FROM budget_limit"))
    return {(scope, measure): amount for scope, measure, amount in rows}


def key_scope(key_id: UUID) -> str:
    """Return the scope of a key."""
    return f"key:{key_id}"


def _open_window(session: Session, scope: str, measure: str) -> None:
    """Begin a project's window with what was recorded of it: nobody counted until now."""
    start = window_start(measure, now())
    used = usage.used_by_project(session, scope.removeprefix("project:"), start.date())
    values = {"scope": scope, "measure": measure, "starts_at": start, "leased": 0.0}
    amount = used.tokens if measure == TOKENS_PER_DAY else used.cost_usd
    statement = insert(BudgetWindow).values(**values, used=amount, updated_at=now())
    session.execute(statement.on_conflict_do_nothing())
