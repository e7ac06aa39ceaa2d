"""People on a sample of what judges compare, drawn by hash, through the review queue.

What people said of two texts stands for good: the same answers to the same task in a later
evaluation are not shown again. Nothing of a judge's verdict is shown to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from sqlmodel import Session

from curation.review.agreement import cohens_kappa
from curation.review.draws import draw
from curation.review.samples import ShownSample, add_samples, choices
from evaluator.judge.pairs import BASELINE, CANDIDATE, TIE, Pair
from evaluator.judge.settle import Rate, majority
from foundation.errors import BadInput

SHARE: Final = 0.1
"""Of the pairs that people are shown."""
_DRAW: Final = "judge-sample"


@dataclass(frozen=True)
class Agreed:
    """How far a judge's winners are people's."""

    same: Rate
    kappa: float | None
    """Cohen's; None where it is not defined."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**self.same.as_json(), "kappa": self.kappa}


def drawn(pairs: Sequence[Pair], share: float = SHARE) -> list[Pair]:
    """Return the pairs that people are shown: the `share` of them, rounded up, least by hash.

    Pairs with the same answer twice have nothing to compare and are not counted.

    Raises:
        BadInput: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise BadInput("share for people", share, "a share in [0, 1]", "The default is 0.1.")
    distinct = {pair.key: pair for pair in pairs if not pair.is_identical}
    ordered = sorted(distinct, key=lambda key: (draw(_DRAW, key), key))
    return [distinct[key] for key in ordered[: ceil(share * len(distinct))]]


def ask_people(session: Session, role: str, pairs: Sequence[Pair], share: float = SHARE) -> int:
    """Put the drawn pairs into a role's review queue; return how many are new in it.

    Args:
        session: the caller commits.
        role: whose queue.
        pairs: all that are judged.
        share: of them that people are shown, 0-1.
    """
    return ask_about(session, role, drawn(pairs, share))


def ask_about(session: Session, role: str, pairs: Sequence[Pair]) -> int:
    """Put these pairs into a role's review queue; return how many are new in it."""
    return add_samples(session, role, [_shown(pair) for pair in pairs])


def people_on(session: Session, pairs: Sequence[Pair]) -> dict[str, str]:
    """Return what people chose, the majority of them, by the key of the pair."""
    said = choices(session, [pair.id_of(CANDIDATE) for pair in pairs])
    found = {}
    for pair in pairs:
        if votes := said.get(pair.id_of(CANDIDATE)):
            sides = {pair.id_of(CANDIDATE): CANDIDATE, pair.id_of(BASELINE): BASELINE}
            found[pair.key] = majority([TIE if v is None else sides[v] for v in votes])
    return found


def agreed(winners: Mapping[str, str], people: Mapping[str, str]) -> Agreed:
    """Return how far winners (by the key of their pair) are those that people chose."""
    both = [(winners[key], people[key]) for key in people if key in winners]
    same = Rate(sum(one == other for one, other in both), len(both))
    return Agreed(same, cohens_kappa([one for one, _ in both], [other for _, other in both]))


def _shown(pair: Pair) -> ShownSample:
    return ShownSample(
        first_id=pair.id_of(CANDIDATE),
        second_id=pair.id_of(BASELINE),
        prompt=list(pair.prompt),
        first=pair.candidate,
        second=pair.baseline,
        task_type=pair.task_type,
    )
