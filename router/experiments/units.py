"""Units of an experiment: the arm of each, written down before its first call, and its calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import Connection, text
from sqlmodel import Session, col, select

from foundation.ids import new_id
from foundation.tables import now
from router.assign import assign as draw_arm
from router.tables import Assignment, Experiment


def assign(session: Session, experiment: Experiment, unit: str, stratum: str) -> Assignment:
    """Return the assignment of `unit`, writing it down if this is its first call.

    The first writer's row stays, so every later call of the unit keeps its arm, its stratum and the
    phase in which it came, whatever the ramp does since.
    """
    arm_of_unit(session.connection(), experiment, unit, stratum)
    return session.exec(
        select(Assignment).where(Assignment.experiment_id == experiment.id, Assignment.unit == unit)
    ).one()


def arm_of_unit(connection: Connection, experiment: Experiment, unit: str, stratum: str) -> str:
    """Return the arm of `unit` as `assign` does, by one statement where the unit is new."""
    arm = draw_arm(experiment.id, experiment.salt, unit, experiment.treatment_share)
    asked = {"experiment": experiment.id, "unit": unit}
    new = {"id": new_id(), "arm": arm, "stratum": stratum, "phase": experiment.phase, "at": now()}
    if connection.execute(_ASSIGN, {**asked, **new}).rowcount:
        return arm
    return str(connection.execute(_ARM, asked).scalar_one())


_COUNTERS = ", ".join(
    "n_calls n_errors n_slow n_refusals n_tool_calls n_bad_tool_calls n_fallbacks cost_usd tokens "
    "n_tasks n_successes".split()
)
_ASSIGN = text(
    f"""
    INSERT INTO assignment
        (id, experiment_id, unit, arm, stratum, phase, assigned_at, timed_out, {_COUNTERS})
    VALUES (:id, :experiment, :unit, :arm, :stratum, :phase, :at, false,
            {", ".join("0" for _ in _COUNTERS.split(", "))})
    ON CONFLICT (experiment_id, unit) DO NOTHING
    """
)
_ARM = text("SELECT arm FROM assignment WHERE experiment_id = :experiment AND unit = :unit")


@dataclass(frozen=True, slots=True)
class UnitCall:
    """One call of a unit as it is counted.

    Attributes:
        latency_ms: None: it was not measured, and so is not slow.
        fallback: another model answered in the end; it counts for the arm that was assigned.
    """

    experiment_id: UUID
    unit: str
    error: bool
    latency_ms: float | None
    cost_usd: float = 0.0
    tokens: int = 0
    refused: bool = False
    tool_calls: int = 0
    bad_tool_calls: int = 0
    fallback: bool = False


def record_calls(session: Session, calls: Sequence[UnitCall]) -> None:
    """Count calls of assigned units; a unit that was never assigned changes nothing.

    One statement for all of them. Rows are locked in the order of their ids, so that transactions
    with the same units wait for each other and cannot deadlock.
    """
    if calls:
        session.execute(_COUNT_CALLS, {"calls": orjson.dumps(calls).decode()})


def record_call(
    session: Session,
    experiment_id: UUID,
    unit: str,
    *,
    error: bool,
    latency_ms: float | None,
    cost_usd: float = 0.0,
    tokens: int = 0,
    refused: bool = False,
    tool_calls: int = 0,
    bad_tool_calls: int = 0,
    fallback: bool = False,
) -> None:
    """Count one call, as `record_calls` does."""
    behaved = (refused, tool_calls, bad_tool_calls, fallback)
    call = UnitCall(experiment_id, unit, error, latency_ms, cost_usd, tokens, *behaved)
    record_calls(session, [call])


_COUNT_CALLS = text(
    """
    WITH told AS (
        SELECT
            call.experiment_id,
            call.unit,
            count(*) AS n_calls,
            count(*) FILTER (WHERE call.error) AS n_errors,
            count(*) FILTER (
                WHERE call.latency_ms > (experiment.plan->>'slow_limit_ms')::float
            ) AS n_slow,
            count(*) FILTER (WHERE call.refused) AS n_refusals,
            sum(call.tool_calls) AS n_tool_calls,
            sum(call.bad_tool_calls) AS n_bad_tool_calls,
            count(*) FILTER (WHERE call.fallback) AS n_fallbacks,
            sum(call.cost_usd) AS cost_usd,
            sum(call.tokens) AS tokens
        FROM json_to_recordset(CAST(:calls AS json)) AS call (
            experiment_id uuid, unit text, error bool, latency_ms float, cost_usd float,
            tokens bigint, refused bool, tool_calls int, bad_tool_calls int, fallback bool
        )
        JOIN experiment ON experiment.id = call.experiment_id
        GROUP BY 1, 2
    ),
    held AS (
        SELECT assignment.id, told.*
        FROM assignment JOIN told USING (experiment_id, unit)
        ORDER BY assignment.id
        FOR UPDATE OF assignment
    )
    UPDATE assignment SET
        n_calls = assignment.n_calls + held.n_calls,
        n_errors = assignment.n_errors + held.n_errors,
        n_slow = assignment.n_slow + held.n_slow,
        n_refusals = assignment.n_refusals + held.n_refusals,
        n_tool_calls = assignment.n_tool_calls + held.n_tool_calls,
        n_bad_tool_calls = assignment.n_bad_tool_calls + held.n_bad_tool_calls,
        n_fallbacks = assignment.n_fallbacks + held.n_fallbacks,
        cost_usd = assignment.cost_usd + held.cost_usd,
        tokens = assignment.tokens + held.tokens
    FROM held
    WHERE assignment.id = held.id
    """
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One assigned unit as the statistics read it; its stratum tells the phase of the ramp too."""

    sequence: int
    arm: str
    stratum: str
    phase: int
    assigned_at: datetime
    n_calls: int
    n_errors: int
    n_slow: int
    n_refusals: int
    n_tool_calls: int
    n_bad_tool_calls: int
    n_fallbacks: int
    cost_usd: float
    n_tasks: int
    n_successes: int
    score: float | None
    outcome: bool | None
    outcome_at: datetime | None
    timed_out: bool
    late_at: datetime | None

    @property
    def is_analysed(self) -> bool:
        """Whether its outcome, or that of one of its tasks, is known."""
        return self.outcome is not None or self.n_tasks > 0


_COLUMNS = tuple(Unit.__dataclass_fields__)


def read_units(session: Session, experiment: Experiment) -> list[Unit]:
    """Return the units of an experiment in the order of their assignment.

    Columns, not rows of the ORM: an experiment has thousands, and they are read at every look.
    """
    rows = session.execute(
        select(*(getattr(Assignment, name) for name in _COLUMNS))
        .where(col(Assignment.experiment_id) == experiment.id)
        .order_by(col(Assignment.sequence))
    ).mappings()
    return [Unit(**{**row, "stratum": f"{row['stratum']}|{row['phase']}"}) for row in rows]
