"""From evidence to chances: how often attempts that looked like this turned out well.

The evidence of an attempt (form, style, ratings, judges: all but the outcome itself) is mapped to
the chance of a trusted good outcome. Which map, the number of known outcomes decides: isotonic
regression from `ISOTONIC_FROM`, Platt's logistic curve from the recipe's `min_calibration`, below
that the evidence as it is. A map that does not lower the Brier score of outcomes that it was not
fitted to is not used.

Sources: Platt 1999, "Probabilistic outputs for support vector machines"; Niculescu-Mizil and
Caruana 2005, "Predicting good probabilities with supervised learning" (isotonic needs about 1,000).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from sqlalchemy import Float, func, select, text
from sqlmodel import Session, col

from curation.columns import example
from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.tables import Calibration, CurationBuild, CurationChunk

ISOTONIC, PLATT, IDENTITY_METHOD = "isotonic", "platt", "identity"
ISOTONIC_FROM: Final = 1000
"""Known outcomes; below, isotonic regression follows chance."""
GROWTH: Final = 1.2
"""How much more must be known than at the last fit before another one is due."""
MOST_OUTCOMES: Final = 20_000
"""Known outcomes that a fit looks at: more change nothing."""
WINDOW: Final = 50_000
"""Newest examples among which they are looked for."""
FOLDS: Final = 5
_ROWS_AT_ONCE: Final = 5000

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A fitted map from evidence in 0-1 to a chance in 0-1."""

    method: str = IDENTITY_METHOD
    params: Mapping[str, Any] = field(default_factory=dict)

    def chance(self, evidence: float) -> float:
        """Return the chance of a good outcome; never decreasing in the evidence."""
        if self.method == PLATT:
            return 1.0 / (1.0 + math.exp(-(self.params["slope"] * evidence + self.params["bias"])))
        if self.method == ISOTONIC:
            return float(np.interp(evidence, self.params["evidence"], self.params["chance"]))
        return evidence


IDENTITY: Final = Calibrator()


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibrator and what it is worth on outcomes that it was not fitted to."""

    calibrator: Calibrator
    n: int
    brier_before: float | None
    brier_after: float | None


def fit(evidence: Sequence[float], outcomes: Sequence[bool], least: int) -> Fit:
    """Return the map that the outcomes bear; pure, and the same for the same numbers.

    Args:
        evidence: of each attempt, 0-1.
        outcomes: whether it turned out well.
        least: outcomes below which nothing is fitted.
    """
    x, y = np.asarray(evidence, dtype=float), np.asarray(outcomes, dtype=float)
    n = len(x)
    before = float(np.mean((x - y) ** 2)) if n else None
    n_rarer = int(min(y.sum(), n - y.sum())) if n else 0
    if n < least or n_rarer < FOLDS:
        return Fit(IDENTITY, n, before, before)
    method = ISOTONIC if n >= ISOTONIC_FROM else PLATT
    after = _cross_validated(x, y, method)
    if before is None or after >= before:
        return Fit(IDENTITY, n, before, before)
    return Fit(_fitted(x, y, method), n, before, after)


def _cross_validated(x: Floats, y: Floats, method: str) -> float:
    """Return the Brier score over `FOLDS` folds, each of which has both outcomes in proportion."""
    fold = np.empty(len(x), dtype=int)
    for side in (0.0, 1.0):
        members = np.flatnonzero(y == side)
        fold[members] = np.arange(len(members)) % FOLDS
    errors = np.empty(len(x))
    for number in range(FOLDS):
        held_out = fold == number
        calibrator = _fitted(x[~held_out], y[~held_out], method)
        chances = np.array([calibrator.chance(value) for value in x[held_out]])
        errors[held_out] = (chances - y[held_out]) ** 2
    return float(errors.mean())


def _fitted(x: Floats, y: Floats, method: str) -> Calibrator:
    return Calibrator(method, _isotonic(x, y) if method == ISOTONIC else _platt(x, y))


def _isotonic(x: Floats, y: Floats) -> dict[str, list[float]]:
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(x, y)
    return {
        "evidence": [round(float(value), 6) for value in curve.X_thresholds_],
        "chance": [round(float(value), 6) for value in curve.y_thresholds_],
    }


def _platt(x: Floats, y: Floats) -> dict[str, float]:
    """Return slope and bias of a logistic curve; a falling one is held level."""
    from sklearn.linear_model import LogisticRegression

    curve = LogisticRegression(C=10.0).fit(x.reshape(-1, 1), y.astype(int))
    slope = float(curve.coef_[0, 0])
    if slope > 0:
        return {"slope": round(slope, 6), "bias": round(float(curve.intercept_[0]), 6)}
    share = (float(y.sum()) + 1) / (len(y) + 2)
    return {"slope": 0.0, "bias": round(math.log(share / (1 - share)), 6)}


def current(session: Session, role: str, variant: str) -> Calibration | None:
    """Return the calibration that scores of a role now go by, or None before the first.

    One that was fitted to evidence of an earlier version of the rules is none.
    """
    query = (
        select(Calibration)
        .where(
            col(Calibration.role) == role,
            col(Calibration.variant) == variant,
            col(Calibration.params)["rules"].astext == str(RULE_VERSIONS["score"]),
        )
        .order_by(col(Calibration.created_at).desc(), col(Calibration.id).desc())
        .limit(1)
    )
    return session.execute(query).scalar_one_or_none()


def calibration_account(fitted: Calibration) -> dict[str, Any]:
    """Return what a dataset card says of a calibration."""
    return {
        "method": fitted.method,
        "outcomes": fitted.n,
        "brier_before": fitted.brier_before,
        "brier_after": fitted.brier_after,
    }


def load_calibrator(session: Session, role: str, recipe: CurationRecipe) -> Calibrator:
    """Return the map for scores of a role: the identity where there is none or none is wanted."""
    if not uses_calibration(recipe):
        return IDENTITY
    row = current(session, role, recipe.variant)
    return IDENTITY if row is None else Calibrator(row.method, row.params)


def uses_calibration(recipe: CurationRecipe) -> bool:
    """Whether scores of this recipe follow outcomes at all: those of the control never do."""
    return recipe.calibrate and recipe.by_outcome


def refit_if_due(session: Session, role: str, recipe: CurationRecipe) -> Calibration | None:
    """Fit anew where a fifth more outcomes are known, and let every score follow; None: not due.

    Outcomes are looked for only after enough has been judged since the last fit, and only among
    the newest `WINDOW` examples; all scores follow in one pass. So the cost goes by what is new.
    """
    if not uses_calibration(recipe):
        return None
    last = current(session, role, recipe.variant)
    if last is not None and _n_judged_since(session, last) < last.n * (GROWTH - 1):
        return None
    evidence, outcomes = _known_outcomes(session, role, recipe.variant)
    needed = min(last.n * GROWTH, MOST_OUTCOMES) if last is not None else 0
    if len(outcomes) < max(recipe.min_calibration, needed):
        return None
    fitted = fit(evidence, outcomes, recipe.min_calibration)
    row = Calibration(
        role=role,
        variant=recipe.variant,
        method=fitted.calibrator.method,
        params={**fitted.calibrator.params, "rules": RULE_VERSIONS["score"]},
        n=fitted.n,
        brier_before=fitted.brier_before,
        brier_after=fitted.brier_after,
    )
    session.add(row)
    session.flush()
    rescore(session, role, recipe.variant, fitted.calibrator)
    return row


def rescore(session: Session, role: str, variant: str, calibrator: Calibrator) -> int:
    """Let the scores of a role's examples follow a calibrator; return how many changed.

    `Example.score` alone changes: verdicts and ranks go by the uncalibrated score.
    """
    rows = session.execute(
        select(example.id, example.score, *_stored_parts())
        .where(example.role == role, example.variant == variant, _part("evidence").is_not(None))
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    n_changed = 0
    for chunk in rows.partitions(_ROWS_AT_ONCE):
        changed = {
            row.id: value
            for row in chunk
            if (value := combined(row.said, row.said_weight, row.evidence, row.weight, calibrator))
            != row.score
        }
        if changed:
            session.execute(_SET_SCORES, {"ids": [*changed], "scores": [*changed.values()]})
            n_changed += len(changed)
    return n_changed


def combined(
    said: float | None, said_weight: float, evidence: float, weight: float, calibrator: Calibrator
) -> float:
    """Return the score of an attempt, 0-1: what was said of it, and the chance it had without."""
    chance = calibrator.chance(evidence)
    if said is None:
        return round(chance, 6)
    return round((said * said_weight + chance * weight) / (said_weight + weight), 6)


def _n_judged_since(session: Session, last: Calibration) -> int:
    """Return how many interactions were judged, new ones or anew, since a fit."""
    judged = (
        select(func.coalesce(func.sum(col(CurationChunk.n_rows)), 0))
        .join(CurationBuild, col(CurationBuild.id) == col(CurationChunk.build_id))
        .where(
            col(CurationBuild.role) == last.role,
            col(CurationBuild.variant) == last.variant,
            col(CurationChunk.step) == "judge",
            col(CurationChunk.done_at) > last.created_at,
        )
    )
    return int(session.execute(judged).scalar_one())


def _known_outcomes(session: Session, role: str, variant: str) -> tuple[list[float], list[bool]]:
    """Return evidence and outcome of the newest attempts whose outcome is trusted.

    A corrected example's evidence is about the corrected text, its outcome about the other.
    """
    newest = (
        select(example.scores, example.corrected)
        .where(example.role == role, example.variant == variant)
        .order_by(example.id.desc())
        .limit(WINDOW)
        .subquery()
    )
    scores = newest.c.scores
    rows = session.execute(
        select(scores["evidence"].astext.cast(Float), scores["outcome"].astext == "true")
        .where(
            ~newest.c.corrected,
            scores["outcome"].astext.in_(("true", "false")),
            scores["evidence"].astext.is_not(None),
        )
        .limit(MOST_OUTCOMES)
    ).all()
    return [row[0] for row in rows], [row[1] for row in rows]


def _part(name: str) -> Any:
    return example.scores[name].astext.cast(Float)


def _stored_parts() -> list[Any]:
    return [
        _part("said").label("said"),
        _part("said_weight").label("said_weight"),
        _part("evidence").label("evidence"),
        _part("evidence_weight").label("weight"),
    ]


_SET_SCORES: Final = text(
    """
    UPDATE example SET score = changed.score
    FROM unnest(CAST(:ids AS uuid[]), CAST(:scores AS float8[])) AS changed(id, score)
    WHERE example.id = changed.id
    """
)
