"""Front desk of scoring: everything known about an attempt becomes one score and one verdict.

`assess` is pure. What it needs beside the attempt and the statements on it (the calibration, the
declared metrics, the judge's verdicts, the losses of a base model, a team's own rules) is read
before by `load_basis`, for many attempts at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session

from collector.tables import Metric
from curation.recipe import CurationRecipe
from curation.score.outcome import (
    EMPTY_ANSWER,
    FAILED_OUTCOME,
    INCOMPLETE,
    LOW_RATING,
    NO_PAYLOAD,
    REFUSAL,
    SYNTAX_ERROR,
    TRUNCATED,
    Attempt,
    Score,
    Statement,
    quality,
    reject,
    score,
)
from curation.tables import LOST, NEGATIVE, POSITIVE, UNJUDGED
from foundation.chat import Message

_LOST: Final = (EMPTY_ANSWER, NO_PAYLOAD, INCOMPLETE)
_BAD: Final = (FAILED_OUTCOME, LOW_RATING, TRUNCATED, REFUSAL, SYNTAX_ERROR)


@dataclass(frozen=True, slots=True)
class Basis:
    """What attempts are assessed by, beside themselves and what was said about them."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Declared metrics by name."""


NO_BASIS: Final = Basis()


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict on one attempt, as its example stores it."""

    value: float | None
    """Quality in 0-1, calibrated; None: there is nothing to judge."""
    parts: dict[str, Any]
    """Every signal, as JSON; see docs/scoring.md."""
    polarity: str
    disagreement: float | None
    """How far the signals lie apart, 0-1; None: fewer than two."""
    drop_reason: str | None
    rank: tuple[float, ...]
    """What repeats are ranked by, greater is better; the control ranks them all alike."""
    answer: str
    """The text to learn, a person's correction if there is one."""
    answer_message: Message | None
    """The whole message where its text alone would lose tool calls."""
    corrected: bool
    reviewed: str | None
    """accepted, rejected or edited by a reviewer."""


def load_basis(
    session: Session, role: str, recipe: CurationRecipe, attempts: Sequence[Attempt]
) -> Basis:
    """Return what these attempts of `role` are to be assessed by."""
    return Basis(metrics={metric.name: metric for metric in session.execute(_METRICS).scalars()})


_METRICS: Final = select(Metric)


def assess(
    attempt: Attempt,
    statements: Sequence[Statement],
    recipe: CurationRecipe,
    basis: Basis = NO_BASIS,
) -> Assessment:
    """Return the verdict on an attempt; pure."""
    known = score(statements, recipe)
    reason = reject(attempt, known, recipe)
    parts, corrected = known.as_json(), known.correction is not None
    return Assessment(
        value=known.value,
        parts=parts,
        polarity=_polarity(known, reason),
        disagreement=None if known.confidence is None else 1.0 - known.confidence,
        drop_reason=reason,
        rank=quality(known.value, parts, corrected, recipe),
        answer=attempt.answer if known.correction is None else known.correction,
        answer_message=attempt.message if attempt.n_tool_calls and not corrected else None,
        corrected=corrected,
        reviewed=None,
    )


def _polarity(known: Score, reason: str | None) -> str:
    if reason in _LOST:
        return LOST
    if reason in _BAD or known.outcome is False:
        return NEGATIVE
    proven = known.outcome or known.correction is not None
    return POSITIVE if proven or (known.rating is not None and reason is None) else UNJUDGED
