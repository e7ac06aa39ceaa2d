"""Front desk of scoring: everything known about an attempt becomes one score and one verdict.

`assess` is pure. What it needs beside the attempt and the statements on it (the calibration, the
declared metrics, the judge's verdicts, the losses of a base model, a team's own rules) is read
before by `load_basis`, for many attempts at once. docs/scoring.md explains the parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlmodel import Session

from collector.tables import Metric
from curation.columns import example
from curation.recipe import CurationRecipe
from curation.score import ifd, judge
from curation.score.blocks import Block, is_broken_python, read_blocks
from curation.score.calibrate import (
    IDENTITY,
    Calibrator,
    calibration_account,
    combined,
    current,
    load_calibrator,
    uses_calibration,
)
from curation.score.form import form_parts, form_score, has_broken_tool_call, is_refusal
from curation.score.outcome import (
    ACCEPTED,
    CORRECTION_SCORE,
    EDITED,
    EMPTY_ANSWER,
    EMPTY_PROMPT,
    ERROR_STATUS,
    FAILED_OUTCOME,
    INCOMPLETE,
    LOW_RATING,
    NO_PAYLOAD,
    REFUSAL,
    REJECTED_IN_REVIEW,
    SYNTAX_ERROR,
    TOO_LONG,
    TOOL_CALLS,
    TRUNCATED,
    Attempt,
    Heard,
    Signal,
    Statement,
    as_json,
    hear,
    reject_outcome,
    trust_of,
)
from curation.score.rules import Rule, broken_rule, load_rules
from curation.score.style import style_parts, style_score
from curation.tables import LOST, NEGATIVE, POSITIVE, UNJUDGED
from foundation.chat import Message

FORM_WEIGHT: Final = 0.15
"""What form and style weigh as evidence; alone, they are the whole of it."""
IFD_WEIGHT: Final = 0.1
NO_STYLE: Final = 0.5
"""Style of an answer without code, in the score only."""

_LOST: Final = (EMPTY_ANSWER, NO_PAYLOAD, INCOMPLETE)
_GUESSES: Final = (REFUSAL, SYNTAX_ERROR)
_BAD: Final = (
    *(ERROR_STATUS, FAILED_OUTCOME, LOW_RATING, REFUSAL, REJECTED_IN_REVIEW),
    *(SYNTAX_ERROR, TRUNCATED),
)


@dataclass(frozen=True, slots=True)
class Basis:
    """What attempts are assessed by, beside themselves and what was said about them."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Declared metrics by name."""
    calibrator: Calibrator = IDENTITY
    verdicts: Mapping[UUID, judge.Verdict] = field(default_factory=dict)
    """The LLM judge's, by interaction."""
    difficulties: Mapping[UUID, ifd.Difficulty] = field(default_factory=dict)
    """IFD by interaction."""
    rules: tuple[Rule, ...] = ()
    """The recipe's own rules."""


NO_BASIS: Final = Basis()


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict on one attempt, as its example stores it."""

    value: float | None
    """Quality in 0-1, calibrated; None: there is no answer to judge."""
    parts: dict[str, Any]
    """Every signal, as JSON; see docs/scoring.md."""
    polarity: str
    disagreement: float | None
    """How far what was said lies apart, 0-1; None: fewer than two voices."""
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
    """Return what these attempts of `role` are to be assessed by.

    Raises:
        BadInput: one of the recipe's own rules does not load.
        NotFound, MissingExtra: the recipe's base model for IFD.
    """
    return Basis(
        metrics={metric.name: metric for metric in session.execute(select(Metric)).scalars()},
        calibrator=load_calibrator(session, role, recipe),
        verdicts=judge.verdicts(session, attempts, recipe),
        difficulties=_difficulties(session, attempts, recipe),
        rules=load_rules(recipe.extra_rules),
    )


def scoring_account(session: Session, role: str, recipe: CurationRecipe) -> dict[str, Any]:
    """Return what a dataset card says of its scores: the calibration, and how steady the judge is.

    Each is None where the recipe has none, or none was fitted or asked yet.
    """
    fitted = current(session, role, recipe.variant) if uses_calibration(recipe) else None
    model = recipe.judge_model if recipe.by_outcome else None
    return {
        "calibration": None if fitted is None else calibration_account(fitted),
        "judge": None if model is None else judge.reliability(session, model).as_json(),
    }


def assess(
    attempt: Attempt,
    statements: Sequence[Statement],
    recipe: CurationRecipe,
    basis: Basis = NO_BASIS,
) -> Assessment:
    """Return the verdict on an attempt; pure.

    The score joins two things: what trusted voices said of the outcome, and the chance that the
    rest of the evidence gives. Verdict and rank go by the score without calibration, so that they
    hang on the attempt alone. The control (`unverified`) is scored by form and style alone.
    """
    verdict = basis.verdicts.get(attempt.interaction_id) if attempt.interaction_id else None
    heard = hear([*statements, *judge.as_statements(verdict)], recipe, basis.metrics)
    final = _as_corrected(attempt, heard.correction)
    blocks = read_blocks(final.answer) if len(final.answer) <= recipe.max_chars else ()
    scored = _scored(final, blocks, heard, recipe, basis)
    raw = scored["raw"]
    reason = (
        _reject_form(final, blocks, heard, recipe)
        or broken_rule(final, basis.rules)
        or (reject_outcome(heard, raw, recipe) if heard.correction is None else None)
    )
    is_lost = reason in _LOST or not (final.answer.strip() or final.n_tool_calls)
    confidence = heard.confidence(raw) if heard.sides else None
    parts = {
        **_account(heard, confidence),
        **({} if is_lost else scored),
        **judge.account(verdict, recipe),
    }
    value = None if is_lost else _calibrated(scored, recipe, basis.calibrator)
    return Assessment(
        value=value,
        parts=parts,
        polarity=LOST if is_lost else _polarity(heard, reason, recipe),
        disagreement=heard.disagreement,
        drop_reason=reason,
        rank=_rank(heard, raw, confidence, recipe),
        answer=final.answer,
        answer_message=final.message if final.n_tool_calls else None,
        corrected=heard.correction is not None,
        reviewed=heard.reviewed,
    )


def _as_corrected(attempt: Attempt, correction: str | None) -> Attempt:
    """Return the attempt as it is to be learned: a correction replaces a lost or cut answer too."""
    if correction is None:
        return attempt
    return replace(
        attempt,
        answer=correction,
        status="success",
        completed=True,
        finish_reason="stop",
        n_tool_calls=0,
        has_payload=True,
        message=None,
    )


def _reject_form(
    attempt: Attempt, blocks: Sequence[Block], heard: Heard, recipe: CurationRecipe
) -> str | None:
    """Return why an answer's form rules it out, or None.

    Every variant decides alike; only what is a guess gives way to a reviewer who accepted it.
    """
    reason = _reject_call(attempt) or _reject_answer(attempt, blocks, recipe)
    accepted = recipe.by_outcome and heard.reviewed in (ACCEPTED, EDITED)
    return None if accepted and reason in _GUESSES else reason


def _reject_call(attempt: Attempt) -> str | None:
    if not attempt.has_payload:
        return NO_PAYLOAD
    if attempt.status == "error":
        return ERROR_STATUS
    if not attempt.answer.strip() and not attempt.n_tool_calls:
        return EMPTY_ANSWER  # a lost answer, whether or not its stream was cut
    if not attempt.completed or attempt.status == "cut":
        return INCOMPLETE
    return TRUNCATED if attempt.finish_reason == "length" else None


def _reject_answer(attempt: Attempt, blocks: Sequence[Block], recipe: CurationRecipe) -> str | None:
    if not attempt.prompt_text.strip():
        return EMPTY_PROMPT
    if attempt.is_tool_calls_alone and (attempt.message is None or not recipe.keep_tool_calls):
        return TOOL_CALLS
    if len(attempt.prompt_text) + len(attempt.answer) > recipe.max_chars:
        return TOO_LONG
    if is_refusal(attempt.answer):
        return REFUSAL
    broken = any(is_broken_python(block) for block in blocks) or has_broken_tool_call(attempt)
    return SYNTAX_ERROR if broken else None


def _scored(
    attempt: Attempt,
    blocks: Sequence[Block],
    heard: Heard,
    recipe: CurationRecipe,
    basis: Basis,
) -> dict[str, Any]:
    """Return the score's parts, and `raw`, the score without calibration."""
    form, style = form_parts(attempt, blocks), style_parts(blocks)
    styled = style_score(style)
    blind = form_score(form) * (0.5 + 0.5 * (NO_STYLE if styled is None else styled))
    difficulty = basis.difficulties.get(attempt.interaction_id) if attempt.interaction_id else None
    evidence = [Signal("form_and_style", blind, FORM_WEIGHT)]
    said: Sequence[Signal] = ()
    if recipe.by_outcome and heard.correction is not None:
        said, evidence = [Signal("correction", CORRECTION_SCORE, 1.0)], []
    elif recipe.variant != "unverified":
        said = heard.said
        evidence += heard.evidence
        if difficulty is not None:
            evidence.append(Signal("ifd", float(difficulty.value < 1), IFD_WEIGHT))
    said_value, said_weight = _mean(said)
    evidence_value, evidence_weight = _mean(evidence)
    return {
        "raw": combined(said_value, said_weight, evidence_value or 0.0, evidence_weight, IDENTITY),
        "said": said_value,
        "said_weight": said_weight,
        "evidence": evidence_value,
        "evidence_weight": evidence_weight,
        "signals": as_json([*said, *evidence]),
        "form": _rounded(form),
        "style": _rounded(style),
        "style_score": None if styled is None else round(styled, 4),
        **({} if difficulty is None else {"ifd": difficulty.as_json()}),
    }


def _calibrated(scored: Mapping[str, Any], recipe: CurationRecipe, calibrator: Calibrator) -> float:
    evidence = scored["evidence"]
    if evidence is None or recipe.variant == "unverified":
        return float(scored["raw"])
    return combined(
        scored["said"], scored["said_weight"], evidence, scored["evidence_weight"], calibrator
    )


def _mean(signals: Sequence[Signal]) -> tuple[float | None, float]:
    """Return the weighted mean of some signals and their weight; (None, 0) without any."""
    weight = sum(signal.weight for signal in signals)
    if weight == 0:
        return None, 0.0
    mean = sum(signal.weight * signal.value for signal in signals) / weight
    return round(mean, 6), round(weight, 6)


def _account(heard: Heard, confidence: float | None) -> dict[str, Any]:
    return {
        "outcome": heard.outcome,
        "outcome_source": heard.outcome_source,
        "rating": heard.rating,
        "confidence": confidence,
        "contradicted": confidence is not None and confidence < 1.0,
        "n_feedback": heard.n_feedback,
    }


def _rank(
    heard: Heard, raw: float, confidence: float | None, recipe: CurationRecipe
) -> tuple[float, ...]:
    """Trust in a good outcome, then the score, then how far the voices agree."""
    if not recipe.by_outcome:
        return (0.0, 0.0, 0.0)
    verified = heard.outcome is True and heard.correction is None
    return (trust_of(heard.outcome_source) if verified else 0.0, raw, confidence or 0.0)


def _polarity(heard: Heard, reason: str | None, recipe: CurationRecipe) -> str:
    if heard.correction is not None:
        return POSITIVE
    if reason in _BAD or heard.outcome is False:
        return NEGATIVE
    if heard.outcome is None and heard.rating is None:
        return UNJUDGED
    return POSITIVE if heard.outcome or (heard.rating or 0) >= recipe.min_rating else NEGATIVE


def _difficulties(
    session: Session, attempts: Sequence[Attempt], recipe: CurationRecipe
) -> dict[UUID, ifd.Difficulty]:
    """Return the attempts' IFD: as it is stored with their examples, else measured."""
    if recipe.ifd_model is None:
        return {}
    ids = [attempt.interaction_id for attempt in attempts if attempt.interaction_id is not None]
    stored = session.execute(
        select(example.interaction_id, example.scores["ifd"]).where(
            example.interaction_id.in_(ids),
            example.variant == recipe.variant,
            example.scores["ifd"].is_not(None),
        )
    )
    known = {row[0]: ifd.Difficulty.from_json(row[1]) for row in stored if row[1]}
    return ifd.measure(recipe.ifd_model, attempts, known)


def _rounded(parts: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in parts.items() if value is not None}
