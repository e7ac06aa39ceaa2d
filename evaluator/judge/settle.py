"""From single verdicts to who won: a win counts only if it survives the swap. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.judge.pairs import BASELINE, CANDIDATE, TIE, Pair
from evaluator.judge.questions import FIRST, PairQuestion, both_orders
from foundation.intervals import wilson


@dataclass(frozen=True)
class Rate:
    """A share of n, with its interval; `k` may be a half where ties count so."""

    k: float
    n: int

    @property
    def value(self) -> float | None:
        """The share, 0-1; None of nothing."""
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval (1927); None of nothing."""
        return wilson(self.k / self.n, self.n) if self.n else None

    def as_json(self) -> dict[str, Any]:
        """Return rate, interval and n as plain values."""
        low, high = self.interval or (None, None)
        return {"rate": self.value, "low": low, "high": high, "n": self.n}


@dataclass(frozen=True)
class Settled:
    """A pair that a judge has seen in both orders.

    Attributes:
        pair: the two answers.
        forth: which side it called better with the candidate shown first, or a tie.
        back: the same with the baseline shown first.
    """

    pair: Pair
    forth: str
    back: str

    @property
    def winner(self) -> str:
        """The side that won in both orders; else it is a tie."""
        return self.forth if self.forth == self.back else TIE

    @property
    def is_flipped(self) -> bool:
        """Whether the verdict changed with the order, to or from a tie as well."""
        return self.forth != self.back

    @property
    def is_reversed(self) -> bool:
        """Whether each order had another winner."""
        return {self.forth, self.back} == {CANDIDATE, BASELINE}


@dataclass(frozen=True)
class Score:
    """Wins, ties and losses of the candidate."""

    wins: int
    ties: int
    losses: int

    @property
    def win_rate(self) -> Rate:
        """Share of wins, ties counted half."""
        return Rate(self.wins + self.ties / 2, self.wins + self.ties + self.losses)


def questions_on(judge: str, pair: Pair) -> tuple[PairQuestion, PairQuestion]:
    """Return the questions on a pair: the candidate shown first, then the baseline first."""
    return both_orders(judge, pair.asked, pair.candidate, pair.baseline)


def settle(
    judge: str, pairs: Iterable[Pair], said: Callable[[PairQuestion], str | None]
) -> list[Settled]:
    """Return the pairs that were answered readably in both orders.

    Args:
        judge: name of its model.
        pairs: those that were asked.
        said: returns what the judge said to a question.
    """
    settled = []
    for pair in pairs:
        forth, back = map(said, questions_on(judge, pair))
        if forth is not None and back is not None:
            settled.append(Settled(pair, _side(forth, CANDIDATE), _side(back, BASELINE)))
    return settled


def score_of(winners: Iterable[str]) -> Score:
    """Return how often each side won."""
    counts = Counter(winners)
    return Score(counts[CANDIDATE], counts[TIE], counts[BASELINE])


def majority(votes: Sequence[str]) -> str:
    """Return the side that more than half of the votes are for; else it is a tie."""
    (leader, count), *_ = Counter(votes).most_common(1) or [(TIE, 0)]
    return leader if 2 * count > len(votes) else TIE


def _side(said: str, shown_first: str) -> str:
    if said == TIE:
        return TIE
    other = BASELINE if shown_first == CANDIDATE else CANDIDATE
    return shown_first if said == FIRST else other
