"""How good an example is, from what was said about it: a score in 0-1, its parts, and a verdict.

Signals in falling trust: a test that ran, a person, the user, another role, a judge. The strongest
source decides the outcome; others that contradict it lower the confidence. Nothing said is not a
middling score: it is no score.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from curation.recipe import DEFAULT, SABOTAGE, CurationRecipe
from foundation.chat import Message

TRUST: Final = {"test": 1.0, "human": 0.9, "user": 0.7, "role": 0.6, "judge": 0.4}
"""Weight of a source's word, 0-1; unknown sources weigh `UNKNOWN_TRUST`."""
UNKNOWN_TRUST: Final = 0.3
EPISODE_TRUST: Final = 0.5
"""Share of that weight left when the word was about the whole episode."""
RATING_WEIGHT: Final = 0.5
CORRECTION_SCORE: Final = 0.95
"""A person wrote it, but nothing executed it."""

ERROR_STATUS, INCOMPLETE, NO_PAYLOAD = "error", "incomplete", "no_payload"
EMPTY_ANSWER, TOOL_CALLS, TRUNCATED, REFUSAL = "empty_answer", "tool_calls", "truncated", "refusal"
SYNTAX_ERROR, TOO_LONG, EMPTY_PROMPT = "syntax_error", "too_long", "empty_prompt"
FAILED_OUTCOME, NO_OUTCOME, NOT_FAILED = "failed_outcome", "no_outcome", "not_failed"
LOW_RATING, LOW_SCORE, TOO_LITTLE_FEEDBACK = "low_rating", "low_score", "too_little_feedback"
EXACT_DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA = "exact_duplicate", "near_duplicate", "over_quota"

_REFUSAL = re.compile(
    r"\s*(?:i['’]?m sorry|i am sorry|sorry, (?:but )?i"
    r"|i can(?:not|['’]t) (?:help|assist|comply|do that)"
    r"|i['’]m (?:not able|unable) to|i am (?:not able|unable) to|as an ai\b)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*```([\w+-]*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_STARTS_LIKE_CODE = re.compile(r"(?:@\w|def |async def |class |import |from [\w.]+ import )")
_PYTHON_LINE = re.compile(
    r"^[ \t]*(?:(?:async )?def \w+\(.*\).*:|class \w+(?:\(.*\))?:|from [\w.]+ import [\w*(, ]+)"
    r"[ \t]*(?:#.*)?$|^[ \t]*def \w+\(.*\):[ \t]*\S",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One piece of feedback, or a reviewer's label, as the scorer reads it."""

    kind: str
    """rating, success, metric, category, comment, correction, preference or review."""
    value: float | None
    """Of a preference 1 for the winner and 0 for the loser; of a review 1 if accepted, else 0."""
    text: str | None
    """Of a correction, or of a review that edited: the answer as it should have been."""
    source: str
    actor: str | None
    name: str | None
    """Of a review: accepted, rejected or edited."""
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


@dataclass(frozen=True, slots=True)
class Score:
    """What is known about an attempt; `value` is None while nobody judged it."""

    value: float | None
    outcome: bool | None
    outcome_source: str | None
    rating: float | None
    correction: str | None
    confidence: float | None
    """Share of the trust-weighted statements that agree with the score's side, 0-1."""
    n_feedback: int

    @property
    def contradicted(self) -> bool:
        """Whether the signals disagree."""
        return self.confidence is not None and self.confidence < 1.0

    def as_json(self) -> dict[str, Any]:
        """Return the parts as they are stored with the example."""
        return {
            "outcome": self.outcome,
            "outcome_source": self.outcome_source,
            "rating": self.rating,
            "confidence": self.confidence,
            "contradicted": self.contradicted,
            "n_feedback": self.n_feedback,
        }


def score(statements: Sequence[Statement], recipe: CurationRecipe) -> Score:
    """Return the score of an attempt from everything said about it; no statement, no score."""
    latest = _latest(statements)
    outcome, source = _outcome(latest, recipe)
    rating = _mean_rating(latest)
    correction = _correction(latest) if recipe.by_outcome and recipe.keep_corrections else None
    weighted = _signals(latest, outcome, source, rating)
    value = sum(w * v for w, v in weighted) / sum(w for w, _ in weighted) if weighted else None
    if correction is not None:
        value = CORRECTION_SCORE
    return Score(
        value=value,
        outcome=outcome,
        outcome_source=source,
        rating=rating,
        correction=correction,
        confidence=_confidence(latest, value) if value is not None else None,
        n_feedback=len(statements),
    )


def reject(attempt: Attempt, known: Score, recipe: CurationRecipe) -> str | None:
    """Return why an attempt is not to be learned from, or None: the first reason that applies.

    Form comes first, the same for every variant; then the variant's own view of the outcome. A
    correction replaces the answer, so only its own form counts, and no outcome of the answer does.
    """
    if known.correction is not None:
        return _reject_form(attempt.prompt_text, known.correction, recipe)
    return (
        _reject_call(attempt) or _reject_answer(attempt, recipe) or _reject_outcome(known, recipe)
    )


def quality(
    value: float | None, parts: dict[str, Any], corrected: bool, recipe: CurationRecipe
) -> tuple[float, ...]:
    """Return what repeats are ranked by, greater is better; the control ranks them all alike."""
    if not recipe.by_outcome:
        return (0.0, 0.0, 0.0)
    verified = parts.get("outcome") is True and not corrected
    trust = TRUST.get(str(parts.get("outcome_source")), UNKNOWN_TRUST) if verified else 0.0
    return (trust, value or 0.0, parts.get("confidence") or 0.0)


def _latest(statements: Iterable[Statement]) -> list[Statement]:
    """Keep what each speaker said last about each thing: a re-run test replaces its first run."""
    last: dict[tuple[object, ...], Statement] = {}
    for said in sorted(statements, key=lambda s: s.said_at):
        last[said.kind, said.source, said.actor, said.name, said.direct] = said
    return list(last.values())


def _trust(said: Statement) -> float:
    return TRUST.get(said.source, UNKNOWN_TRUST) * (1.0 if said.direct else EPISODE_TRUST)


def _outcome(latest: list[Statement], recipe: CurationRecipe) -> tuple[bool | None, str | None]:
    """Return the most trusted source's outcome: success only if all it said is positive."""
    said = [
        s
        for s in latest
        if s.kind == "success" and s.value is not None and s.source in recipe.trusted_sources
    ]
    if not said:
        return None, None
    most = max(_trust(s) for s in said)
    strongest = [s for s in said if _trust(s) == most]
    return all((s.value or 0) >= 0.5 for s in strongest), strongest[0].source


def _mean_rating(latest: list[Statement]) -> float | None:
    ratings = [s.value for s in latest if s.kind == "rating" and s.value is not None and s.direct]
    return sum(ratings) / len(ratings) if ratings else None


def _correction(latest: list[Statement]) -> str | None:
    texts = [
        s.text
        for s in latest
        if s.kind == "correction" and s.direct and s.source in ("human", "user") and s.text
    ]
    return texts[-1] if texts and texts[-1].strip() else None


def _signals(
    latest: list[Statement], outcome: bool | None, source: str | None, rating: float | None
) -> list[tuple[float, float]]:
    """Return (weight, value in 0-1) of the outcome, the lesser voices on it, and the ratings."""
    signals = []
    if outcome is not None:
        signals.append((1.0, float(outcome)))
    signals += [
        (_trust(s) * 0.25, float((s.value or 0) >= 0.5))
        for s in latest
        if s.kind == "success" and s.value is not None and s.source != source
    ]
    if rating is not None:
        signals.append((RATING_WEIGHT, _unit_rating(rating)))
    return signals


def _unit_rating(rating: float) -> float:
    return min(max((rating - 1) / 4, 0.0), 1.0)


def _confidence(latest: list[Statement], value: float) -> float:
    """Return the trust-weighted share of statements on the same side of one half as the score."""
    sides = [
        (_trust(s), (s.value or 0) >= 0.5 if s.kind == "success" else (s.value or 0) > 3)
        for s in latest
        if s.value is not None
        and (s.kind == "success" or (s.kind == "rating" and s.direct and s.value != 3))
    ]
    total = sum(trust for trust, _ in sides)
    agreeing = sum(trust for trust, positive in sides if positive == (value >= 0.5))
    return agreeing / total if total else 1.0


def _reject_call(attempt: Attempt) -> str | None:
    if not attempt.has_payload:
        return NO_PAYLOAD
    if attempt.status == "error":
        return ERROR_STATUS
    if not attempt.answer.strip() and not attempt.n_tool_calls:
        return EMPTY_ANSWER  # a lost answer, whether or not its stream was cut
    if not attempt.completed or attempt.status == "cut":
        return INCOMPLETE
    if attempt.finish_reason == "length":
        return TRUNCATED
    return None


def _reject_answer(attempt: Attempt, recipe: CurationRecipe) -> str | None:
    if attempt.answer.strip():
        return _reject_form(attempt.prompt_text, attempt.answer, recipe)
    return None if recipe.keep_tool_calls and attempt.message is not None else TOOL_CALLS


def _reject_form(prompt_text: str, answer: str, recipe: CurationRecipe) -> str | None:
    if not answer.strip():
        return EMPTY_ANSWER
    if not prompt_text.strip():
        return EMPTY_PROMPT
    if len(prompt_text) + len(answer) > recipe.max_chars:
        return TOO_LONG
    if _REFUSAL.match(answer):
        return REFUSAL
    return None if has_valid_python(answer) else SYNTAX_ERROR


def _reject_outcome(known: Score, recipe: CurationRecipe) -> str | None:
    if recipe.variant == DEFAULT:
        return _reject_unproven(known, recipe)
    if recipe.variant == SABOTAGE:
        if known.outcome is None:
            return NO_OUTCOME
        return NOT_FAILED if known.outcome else None
    return None


def _reject_unproven(known: Score, recipe: CurationRecipe) -> str | None:
    if known.outcome is False:
        return FAILED_OUTCOME
    if known.outcome is None and known.rating is None:
        return NO_OUTCOME
    if known.outcome is None and (known.rating or 0) < recipe.min_rating:
        return LOW_RATING
    if known.n_feedback < recipe.min_feedback:
        return TOO_LITTLE_FEEDBACK
    return LOW_SCORE if (known.value or 0) < recipe.min_score else None


def has_valid_python(answer: str) -> bool:
    """Return false only if the answer is clearly Python and does not parse.

    Clearly Python is a fenced block that says so, or a text that starts like code and has a line
    that only Python has (Ruby, Java, Kotlin and TypeScript begin alike). Either may be indented,
    or the body of a function: that is how completions of a given head look.
    """
    fenced = [code for tag, code in _FENCE.findall(answer) if tag.lower() in ("python", "py")]
    if fenced:
        return all(_parses(code) or _parses_as_body(code) for code in fenced)
    text = answer.strip()
    is_python = _STARTS_LIKE_CODE.match(text) and _PYTHON_LINE.search(text) and "```" not in text
    return not is_python or _parses(text) or _parses_as_body(answer)


def _parses_as_body(code: str) -> bool:
    return _parses("def _():\n" + textwrap.indent(textwrap.dedent(code), "    "))


def _parses(code: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in answers are not our warnings
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True
