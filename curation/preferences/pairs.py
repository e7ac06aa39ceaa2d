"""Which answers to one task make a pair: pure.

The better one is known from what really happened: it passed and the other failed, or people rated
them far apart. Several pairs of a task are bounded, and spread over its answers, so that no answer
is learned from much more often than another.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from uuid import UUID

from curation.recipe import CurationRecipe
from curation.score.outcome import TRUST, UNKNOWN_TRUST
from foundation.chat import Message

OUTCOME, RATING = "outcome", "rating"
CORRECTION, HUMAN, GENERATED = "correction", "human", "generated"
CONSTITUTION = "constitution"
STRENGTH: Final = {OUTCOME: 5, CORRECTION: 4, HUMAN: 3, RATING: 2, GENERATED: 1, CONSTITUTION: 0}
"""Which basis holds where two say the opposite of the same two answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a task, and what is known of it."""

    interaction_id: UUID
    prompt: list[Message]
    text: str
    said: str
    """The text as it is compared: two answers that say the same are one."""
    outcome: bool | None = None
    outcome_source: str | None = None
    rating: float | None = None
    rank: tuple[float, ...] = ()
    task_type: str | None = None
    may_win: bool = True
    """False: not to be learned, whatever came of it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one task, the better one first."""

    basis: str
    winner: Answer
    loser: Answer
    margin: float
    """How sure, 0-1."""
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> list[Message]:
        """The shorter of the two prompts: a longer one may go on about an earlier answer."""
        first, second = self.winner.prompt, self.loser.prompt
        return second if len(second) < len(first) else first


def pairs_of(answers: Iterable[Answer], recipe: CurationRecipe) -> list[Pair]:
    """Return at most `pairs_per_task` pairs of the answers to one task, outcomes before ratings.

    An answer that both passed and failed tells nothing and is in no pair.
    """
    known = [answer for answer in answers if answer.text.strip()]
    unsteady = _said(known, True) & _said(known, False)
    steady = [answer for answer in known if answer.said not in unsteady]
    pairs = _by_outcome(steady, recipe)
    met = {(pair.winner.said, pair.loser.said) for pair in pairs}
    for pair in _by_rating(steady, recipe):
        if len(pairs) >= recipe.pairs_per_task:
            break
        if (pair.winner.said, pair.loser.said) not in met:
            pairs.append(pair)
    return pairs


def pair_of(basis: str, winner: Answer, loser: Answer, margin: float, **evidence: Any) -> Pair:
    """Return a pair with what is known of its two answers as evidence."""
    sides = {"winner": _account(winner), "loser": _account(loser)}
    return Pair(basis, winner, loser, round(margin, 4), {**sides, **evidence})


def preference(one: Answer, other: Answer, votes: Sequence[bool]) -> Pair | None:
    """Return what most people prefer of two answers to one prompt.

    Args:
        one: an answer.
        other: another one.
        votes: of each person, whether it is for `one`.

    Returns:
        None where as many say the opposite, or where the outcomes do.
    """
    n_one = sum(votes)
    n_other = len(votes) - n_one
    winner, loser = (one, other) if n_one > n_other else (other, one)
    if n_one == n_other or (winner.outcome is False and loser.outcome is True):
        return None
    won, lost = max(n_one, n_other), min(n_one, n_other)
    pair = pair_of(HUMAN, winner, loser, (won - lost) / (won + lost), votes=[won, lost])
    return pair if is_learnable(pair) else None


def is_learnable(pair: Pair) -> bool:
    """Whether both sides say something, not the same, and the better one may be learned."""
    return (
        pair.winner.may_win
        and bool(pair.winner.text.strip() and pair.loser.text.strip())
        and pair.winner.said != pair.loser.said
    )


def spread(winners: Sequence[Answer], losers: Sequence[Answer]) -> Iterator[tuple[Answer, Answer]]:
    """Yield all combinations, each once, in an order that uses the answers of a side in turn."""
    if not (winners and losers):
        return
    round_trip = math.lcm(len(winners), len(losers))
    for step in range(len(winners) * len(losers)):
        lap = step // round_trip
        yield winners[step % len(winners)], losers[(step + lap) % len(losers)]


def _by_outcome(answers: Sequence[Answer], recipe: CurationRecipe) -> list[Pair]:
    winners = _distinct((a for a in answers if a.outcome is True and a.may_win), recipe)
    losers = _distinct((a for a in answers if a.outcome is False), recipe)
    return [
        pair_of(OUTCOME, winner, loser, min(_trust(winner), _trust(loser)))
        for winner, loser in islice(spread(winners, losers), recipe.pairs_per_task)
    ]


def _by_rating(answers: Sequence[Answer], recipe: CurationRecipe) -> Iterator[Pair]:
    """Yield pairs of ratings far apart, where no outcome says otherwise."""
    rated = _distinct((a for a in answers if a.rating is not None), recipe)
    liked = [a for a in rated if (a.rating or 0) >= recipe.min_rating and a.may_win]
    for winner, loser in spread(liked, rated):
        gap = (winner.rating or 0) - (loser.rating or 0)
        if gap >= recipe.min_rating_gap and not _outcomes_disagree(winner, loser):
            yield pair_of(RATING, winner, loser, gap / 4)


def _outcomes_disagree(winner: Answer, loser: Answer) -> bool:
    """Whether the outcomes, as far as they are known, speak for the loser."""
    return winner.outcome != loser.outcome and (winner.outcome is False or loser.outcome is True)


def _distinct(answers: Iterable[Answer], recipe: CurationRecipe) -> list[Answer]:
    """Return one answer of those that say the same, the best-ranked; equal ranks by lot."""
    found: dict[str, Answer] = {}
    for answer in sorted(answers, key=lambda a: (tuple(-r for r in a.rank), _lot(a, recipe))):
        found.setdefault(answer.said, answer)
    return list(found.values())


def _said(answers: Iterable[Answer], outcome: bool) -> set[str]:
    return {answer.said for answer in answers if answer.outcome is outcome}


def _trust(answer: Answer) -> float:
    return TRUST.get(str(answer.outcome_source), UNKNOWN_TRUST)


def _lot(answer: Answer, recipe: CurationRecipe) -> bytes:
    return hashlib.sha256(f"{recipe.seed}:{answer.interaction_id}".encode()).digest()


def _account(answer: Answer) -> dict[str, Any]:
    said = {
        "outcome": answer.outcome,
        "outcome_source": answer.outcome_source,
        "rating": answer.rating,
    }
    return {name: value for name, value in said.items() if value is not None}
