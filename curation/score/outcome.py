"""What was said about an attempt, weighed: its outcome, its other signals, how far they agree.

Sources in falling trust: a test that ran and a reviewer of the example, a person, the user, another
role, a judge. The most trusted source decides the outcome; others that contradict it lower the
confidence. What is no outcome (ratings, metrics, preferences, a judge) is evidence for one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from collector.feedback.metrics import normalised
from collector.tables import Metric
from curation.recipe import DEFAULT, SABOTAGE, CurationRecipe
from foundation.chat import Message

REVIEW: Final = "review"
TRUST: Final = {REVIEW: 1.0, "test": 1.0, "human": 0.9, "user": 0.7, "role": 0.6, "judge": 0.4}
"""Weight of a source's word, 0-1; unknown sources weigh `UNKNOWN_TRUST`."""
UNKNOWN_TRUST: Final = 0.3
EPISODE_TRUST: Final = 0.5
"""Share of that weight left when the word was about the whole episode."""
OUTCOME_WEIGHT: Final = 1.0
LESSER_VOICE: Final = 0.25
"""Share of its trust that a source weighs beside a more trusted one on the same outcome."""
RATING_WEIGHT: Final = 0.5
METRIC_WEIGHT: Final = 0.2
PREFERENCE_WEIGHT: Final = 0.3
CORRECTION_SCORE: Final = 0.95
"""A person wrote it, but nothing executed it."""
BAD_RATING: Final = 2.0
"""Mean rating, 1-5, up to which an attempt without an outcome counts as a failure."""

ERROR_STATUS, INCOMPLETE, NO_PAYLOAD = "error", "incomplete", "no_payload"
EMPTY_ANSWER, TOOL_CALLS, TRUNCATED, REFUSAL = "empty_answer", "tool_calls", "truncated", "refusal"
SYNTAX_ERROR, TOO_LONG, EMPTY_PROMPT = "syntax_error", "too_long", "empty_prompt"
FAILED_OUTCOME, NO_OUTCOME, NOT_FAILED = "failed_outcome", "no_outcome", "not_failed"
LOW_RATING, LOW_SCORE, TOO_LITTLE_FEEDBACK = "low_rating", "low_score", "too_little_feedback"
REJECTED_IN_REVIEW: Final = "rejected"
EXACT_DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA = "exact_duplicate", "near_duplicate", "over_quota"
SOURCE_CAP: Final = "source_cap"
"""What a card calls those over quota that rest on a key which has its share."""
CONTAMINATED = "contaminated"
RULE_ERROR: Final = "rule_error"
"""A recipe's own rule threw: `rule_error:<name>`."""

ACCEPTED, REJECTED, EDITED = "accepted", "rejected", "edited"


@dataclass(frozen=True, slots=True)
class Statement:
    """One piece of feedback, or a reviewer's label, as the scorer reads it."""

    kind: str
    """rating, success, metric, category, comment, correction, preference or review."""
    value: float | None
    """Of a preference 1 for the winner and 0 for the loser; of a review it says nothing."""
    text: str | None
    """Of a correction, or of a review that edited: the answer as it should have been."""
    source: str
    actor: str | None
    name: str | None
    """Of a review: accepted, rejected or edited. Of a preference: anything that tells two apart."""
    direct: bool
    """False: said about the whole episode."""
    said_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the model did: its answer, or why there is none."""

    prompt_text: str
    """What was asked: user and tool messages, without system prompts."""
    answer: str
    """Plain text, possibly empty beside tool calls."""
    status: str
    completed: bool
    finish_reason: str | None
    n_tool_calls: int = 0
    has_payload: bool = True
    message: Message | None = None
    """The answer as it came; None: text alone is known."""
    interaction_id: UUID | None = None
    role: str = ""
    task_type: str | None = None

    @property
    def is_tool_calls_alone(self) -> bool:
        """Whether it called tools and said nothing."""
        return self.n_tool_calls > 0 and not self.answer.strip()


@dataclass(frozen=True, slots=True)
class Signal:
    """One voice on an attempt: a value in 0-1 and what it weighs."""

    name: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known about an attempt from what was said."""

    outcome: bool | None = None
    outcome_source: str | None = None
    rating: float | None = None
    """Mean of the ratings, 1-5."""
    correction: str | None = None
    reviewed: str | None = None
    n_feedback: int = 0
    said: tuple[Signal, ...] = ()
    """Trusted words on the outcome: the decisive one, then the lesser voices."""
    evidence: tuple[Signal, ...] = ()
    """What speaks for an outcome without being one."""
    sides: tuple[tuple[float, bool], ...] = field(default=(), repr=False)
    """Trust and side of each success and rating."""

    @property
    def disagreement(self) -> float | None:
        """Return twice the weighted standard deviation of all signals, 0-1; None below two.

        1 when two equal voices say the opposite, 0 when all say the same.
        """
        voices = [*self.said, *self.evidence]
        total = sum(voice.weight for voice in voices)
        if len(voices) < 2 or total == 0:
            return None
        mean = sum(voice.weight * voice.value for voice in voices) / total
        variance = sum(voice.weight * (voice.value - mean) ** 2 for voice in voices) / total
        return min(1.0, 2 * math.sqrt(variance))

    def confidence(self, value: float) -> float:
        """Return the trust-weighted share of success and rating on the side of `value`, 0-1."""
        total = sum(trust for trust, _ in self.sides)
        agreeing = sum(trust for trust, positive in self.sides if positive == (value >= 0.5))
        return agreeing / total if total else 1.0


def hear(
    statements: Sequence[Statement],
    recipe: CurationRecipe,
    metrics: Mapping[str, Metric] | None = None,
) -> Heard:
    """Return everything said about an attempt, weighed; nothing said gives an empty `Heard`.

    Args:
        statements: in any order; of each speaker only the last word on a thing counts.
        recipe: whose word is trusted, and whether corrections count.
        metrics: declared ones by name; an undeclared one, or one without a range, has no side.
    """
    latest = _latest(statements)
    reviewed = _review(latest)
    outcome, source = _outcome(latest, recipe)
    if reviewed is not None:  # who edits an answer says that it was not good as it was
        outcome, source = reviewed == ACCEPTED, REVIEW
    may_correct = recipe.by_outcome and recipe.keep_corrections and reviewed != REJECTED
    return Heard(
        outcome=outcome,
        outcome_source=source,
        rating=_mean_rating(latest),
        correction=_correction(latest) if may_correct else None,
        reviewed=reviewed,
        n_feedback=len(statements),
        said=tuple(_said(latest, outcome, source, recipe)),
        evidence=tuple(_evidence(latest, source, recipe, metrics or {})),
        sides=tuple(_sides(latest)),
    )


def has_trusted_outcome(statements: Sequence[Statement], recipe: CurationRecipe) -> bool:
    """Whether the outcome is known, so that no judge need be asked."""
    latest = _latest(statements)
    return _review(latest) is not None or _outcome(latest, recipe)[0] is not None


def reject_outcome(heard: Heard, value: float | None, recipe: CurationRecipe) -> str | None:
    """Return why an answer in good form is not to be learned from, or None.

    The variants differ here only: `default` keeps what is proven good, `sabotage` what is proven
    bad, `unverified` everything.

    Args:
        heard: what was said.
        value: the score without calibration, so that what others were judged changes no verdict.
        recipe: of the variant.
    """
    if recipe.variant == DEFAULT:
        return _reject_unproven(heard, value, recipe)
    if recipe.variant == SABOTAGE:
        if heard.outcome is None:
            return NO_OUTCOME
        return NOT_FAILED if heard.outcome else None
    return None


def trust_of(source: str | None) -> float:
    """Return the weight of a source's word, 0-1."""
    return TRUST.get(str(source), UNKNOWN_TRUST)


def _reject_unproven(heard: Heard, value: float | None, recipe: CurationRecipe) -> str | None:
    if heard.reviewed is not None:
        return None if heard.reviewed == ACCEPTED else REJECTED_IN_REVIEW
    if heard.outcome is False:
        return FAILED_OUTCOME
    if heard.outcome is None and heard.rating is None:
        return NO_OUTCOME
    if heard.outcome is None and (heard.rating or 0) < recipe.min_rating:
        return LOW_RATING
    if heard.n_feedback < recipe.min_feedback:
        return TOO_LITTLE_FEEDBACK
    return LOW_SCORE if (value or 0) < recipe.min_score else None


def _latest(statements: Iterable[Statement]) -> list[Statement]:
    """Keep what each speaker said last about each thing: a re-run test replaces its first run."""
    last: dict[tuple[object, ...], Statement] = {}
    for said in sorted(statements, key=lambda s: s.said_at):
        name = None if said.kind == REVIEW else said.name
        last[said.kind, said.source, said.actor, name, said.direct] = said
    return list(last.values())


def _trust(said: Statement) -> float:
    return trust_of(said.source) * (1.0 if said.direct else EPISODE_TRUST)


def _review(latest: Sequence[Statement]) -> str | None:
    """Return what reviewers did with the example; a tie of keeping and rejecting rejects."""
    named = [s.name for s in latest if s.kind == REVIEW]
    if not named:
        return None
    if named.count(REJECTED) * 2 >= len(named):
        return REJECTED
    return EDITED if EDITED in named else ACCEPTED


def _outcome(latest: Sequence[Statement], recipe: CurationRecipe) -> tuple[bool | None, str | None]:
    """Return the most trusted source's outcome: success only if all it said is positive."""
    said = [s for s in latest if _is_trusted_success(s, recipe)]
    if not said:
        return None, None
    most = max(_trust(s) for s in said)
    strongest = [s for s in said if _trust(s) == most]
    return all((s.value or 0) >= 0.5 for s in strongest), strongest[0].source


def _is_trusted_success(said: Statement, recipe: CurationRecipe) -> bool:
    return (
        said.kind == "success" and said.value is not None and said.source in recipe.trusted_sources
    )


def _mean_rating(latest: Sequence[Statement]) -> float | None:
    ratings = [s.value for s in latest if s.kind == "rating" and s.value is not None and s.direct]
    return sum(ratings) / len(ratings) if ratings else None


def _correction(latest: Sequence[Statement]) -> str | None:
    """Return the last text that a person put in place of the answer, or None."""
    texts = [
        s.text
        for s in sorted(latest, key=lambda s: s.said_at)
        if s.text
        and s.direct
        and (
            (s.kind == "correction" and s.source in ("human", "user"))
            or (s.kind == REVIEW and s.name == EDITED)
        )
    ]
    return texts[-1] if texts and texts[-1].strip() else None


def _said(
    latest: Sequence[Statement], outcome: bool | None, source: str | None, recipe: CurationRecipe
) -> Iterable[Signal]:
    if outcome is not None:
        yield Signal(str(source), float(outcome), OUTCOME_WEIGHT)
    for s in latest:
        if _is_trusted_success(s, recipe) and s.source != source:
            yield Signal(s.source, float((s.value or 0) >= 0.5), _trust(s) * LESSER_VOICE)


def _evidence(
    latest: Sequence[Statement],
    source: str | None,
    recipe: CurationRecipe,
    metrics: Mapping[str, Metric],
) -> Iterable[Signal]:
    ratings = [s.value for s in latest if s.kind == "rating" and s.value is not None and s.direct]
    if ratings:
        mean = sum(ratings) / len(ratings)
        yield Signal("rating", min(max((mean - 1) / 4, 0.0), 1.0), RATING_WEIGHT)
    for s in latest:
        if s.value is None:
            continue
        if s.kind == "success" and s.source not in recipe.trusted_sources:
            share = 1.0 if source is None else LESSER_VOICE
            yield Signal(s.source, min(max(s.value, 0.0), 1.0), _trust(s) * share)
        elif s.kind == "preference":
            yield Signal("preference", float(s.value >= 0.5), _trust(s) * PREFERENCE_WEIGHT)
        elif s.kind == "metric" and (metric := metrics.get(s.name or "")) is not None:
            value = normalised(s.value, metric)
            if value is not None:
                yield Signal(f"metric:{s.name}", value, _trust(s) * METRIC_WEIGHT)


def _sides(latest: Sequence[Statement]) -> Iterable[tuple[float, bool]]:
    for s in latest:
        if s.kind == REVIEW and s.name != EDITED:
            yield TRUST[REVIEW], s.name == ACCEPTED
        elif s.value is None:
            continue
        elif s.kind == "success":
            yield _trust(s), s.value >= 0.5
        elif s.kind == "rating" and s.direct and s.value != 3:
            yield _trust(s), s.value > 3


def as_json(signals: Iterable[Signal]) -> list[dict[str, Any]]:
    """Return signals as they are stored with the example."""
    return [
        {"name": s.name, "value": round(s.value, 4), "weight": round(s.weight, 4)} for s in signals
    ]
