"""Units of an experiment as the statistics see them, without a database."""

from dataclasses import dataclass
from datetime import UTC, datetime

from router.tables import CONTROL, TREATMENT

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Unit:
    sequence: int
    arm: str
    outcome: bool | None = None
    stratum: str = ""
    outcome_at: datetime | None = None
    late_at: datetime | None = None
    phase: int = 0
    score: float | None = None
    n_calls: int = 0
    n_errors: int = 0
    n_slow: int = 0
    n_refusals: int = 0
    n_tool_calls: int = 0
    n_bad_tool_calls: int = 0
    n_fallbacks: int = 0
    cost_usd: float = 0.0
    n_tasks: int = 0
    n_successes: int = 0


def pairs_of(outcomes, **fields):
    """Build units whose i-th pair is outcomes[i] = (treatment, control)."""
    units = []
    for i, (treated, control) in enumerate(outcomes):
        units.append(Unit(2 * i, TREATMENT, bool(treated), **fields))
        units.append(Unit(2 * i + 1, CONTROL, bool(control), **fields))
    return units


def row_of(arms, outcomes="", **fields):
    """Build units in the order of assignment from 'TCCT' and their outcomes '1001' ('?': none)."""
    known = {"1": True, "0": False, "?": None}
    return [
        Unit(i, TREATMENT if arm == "T" else CONTROL, known[outcome], **fields)
        for i, (arm, outcome) in enumerate(zip(arms, outcomes or "1" * len(arms), strict=True))
    ]
