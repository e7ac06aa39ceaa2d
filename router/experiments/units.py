"""Units of an experiment: the arm of each, written down before its first call, and its calls."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from router.assign import assign as draw_arm
from router.tables import Assignment, Experiment


def assign(session: Session, experiment: Experiment, unit: str, stratum: str) -> Assignment:
    """Return the assignment of `unit`, writing it down if this is its first call.

    The first writer's row stays, so every later call of the unit keeps its arm, its stratum and the
    phase in which it came, whatever the ramp does since.
    """
    arm = draw_arm(experiment.id, experiment.salt, unit, experiment.treatment_share)
    row = Assignment(
        experiment_id=experiment.id, unit=unit, arm=arm, stratum=stratum, phase=experiment.phase
    )
    values = row.model_dump(exclude={"sequence"})
    session.execute(insert(Assignment).values(values).on_conflict_do_nothing())
    return session.exec(
        select(Assignment).where(Assignment.experiment_id == experiment.id, Assignment.unit == unit)
    ).one()


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
    """Count one call of an assigned unit; a unit that was never assigned changes nothing.

    A call without a measured latency is not slow. A call that another model answered in the end
    counts for the arm that was assigned, as a fallback.
    """
    session.execute(
        _COUNT_CALL,
        {
            "experiment": experiment_id,
            "unit": unit,
            "error": int(error),
            "latency": latency_ms,
            "cost": cost_usd,
            "tokens": tokens,
            "refused": int(refused),
            "tools": tool_calls,
            "bad_tools": bad_tool_calls,
            "fallback": int(fallback),
        },
    )


_COUNT_CALL = text(
    """
    UPDATE assignment SET
        n_calls = n_calls + 1,
        n_errors = n_errors + :error,
        n_slow = n_slow + coalesce(
            CAST(:latency AS float) > (experiment.plan->>'slow_limit_ms')::float, false
        )::int,
        n_refusals = n_refusals + :refused,
        n_tool_calls = n_tool_calls + :tools,
        n_bad_tool_calls = n_bad_tool_calls + :bad_tools,
        n_fallbacks = n_fallbacks + :fallback,
        cost_usd = cost_usd + :cost,
        tokens = tokens + :tokens
    FROM experiment
    WHERE experiment.id = experiment_id AND experiment_id = :experiment AND unit = :unit
    """
)


@dataclass(frozen=True)
class Unit:
    """One assigned unit as the statistics read it; its stratum tells the phase of the ramp too."""

    sequence: int
    arm: str
    stratum: str
    phase: int
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
