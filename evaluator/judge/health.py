"""How far a judge is to be trusted, by its own verdicts and by executable truth. Pure.

Each rate stands with Wilson's 95 % interval. The two orders of a pair are not independent, so the
interval of the first-position rate is on the wide side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from evaluator.judge.pairs import BASELINE, CANDIDATE, TIE, Pair
from evaluator.judge.settle import Rate, Settled


@dataclass(frozen=True)
class Health:
    """What a judge's verdicts give away.

    Attributes:
        flips: pairs whose verdict changed with the order.
        reversals: pairs where each order had another winner.
        first_position: of the verdicts for a side, those for the one shown first; a fair judge
            has one half.
        length_only: of the wins that survived, between answers of unequal length, how often "the
            longer wins" predicts them.
        self_preference: of the wins that survived, those of the side of the judge's own family;
            empty unless exactly one side is.
    """

    flips: Rate
    reversals: Rate
    first_position: Rate
    length_only: Rate
    self_preference: Rate

    def as_json(self) -> dict[str, Any]:
        """Return the rates by name."""
        return {one.name: getattr(self, one.name).as_json() for one in fields(self)}


@dataclass(frozen=True)
class Calibration:
    """A judge against executable truth, beside a ruler.

    Attributes:
        judge: items that it settled for the right side, a tie counted half.
        longer: the same of the ruler "the longer wins".
        better_than_ruler: of the items on which judge and ruler differ, those where it is nearer
            to the truth. The ruler is "the longer wins" or "the shorter wins", whichever is better.
    """

    judge: Rate
    longer: Rate
    better_than_ruler: Rate

    @property
    def n(self) -> int:
        """Items with executable truth."""
        return self.judge.n

    @property
    def beats_ruler(self) -> bool:
        """Whether the judge is proven (95 %) to be nearer to the truth than the ruler."""
        interval = self.better_than_ruler.interval
        return interval is not None and interval[0] > 0.5

    def as_json(self) -> dict[str, Any]:
        """Return the rates by name, and whether the judge beats the ruler."""
        rates = {one.name: getattr(self, one.name).as_json() for one in fields(self)}
        return {"n": self.n, **rates, "beats_ruler": self.beats_ruler}


def health_of(settled: Sequence[Settled], own_side: str | None = None) -> Health:
    """Return a judge's rates; `own_side` is the side of its own family, if it is one only."""
    won = [one for one in settled if one.winner != TIE]
    unequal = [one for one in won if one.pair.longer != TIE]
    firsts = sum((one.forth == CANDIDATE) + (one.back == BASELINE) for one in settled)
    sided = sum((one.forth != TIE) + (one.back != TIE) for one in settled)
    return Health(
        flips=_rate(one.is_flipped for one in settled),
        reversals=_rate(one.is_reversed for one in settled),
        first_position=Rate(firsts, sided),
        length_only=_rate(one.winner == one.pair.longer for one in unequal),
        self_preference=_rate(one.winner == own_side for one in won if own_side is not None),
    )


def calibrate(settled: Iterable[Settled]) -> Calibration:
    """Return how a judge does where execution says which answer is right."""
    known = [one for one in settled if one.pair.truth is not None]
    judged = [_worth(one.winner, one.pair) for one in known]
    longer = [_worth(one.pair.longer, one.pair) for one in known]
    shorter = [1 - worth for worth in longer]
    ruler = max(longer, shorter, key=sum)
    decided = [mine > its for mine, its in zip(judged, ruler, strict=True) if mine != its]
    return Calibration(
        judge=Rate(sum(judged), len(known)),
        longer=Rate(sum(longer), len(known)),
        better_than_ruler=_rate(decided),
    )


def _worth(winner: str, pair: Pair) -> float:
    return 0.5 if winner == TIE else float(winner == pair.truth)


def _rate(claims: Iterable[bool]) -> Rate:
    listed = list(claims)
    return Rate(sum(listed), len(listed))
