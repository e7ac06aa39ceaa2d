"""How far reviewers agree beyond chance: Cohen's kappa, Krippendorff's alpha, the disagreements.

The measures are pure. Kappa follows Cohen (1960), "A coefficient of agreement for nominal scales";
alpha follows Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", by its matrix of
coincidences, and takes any number of reviewers and missing labels.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations, permutations
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlmodel import Session, col

from curation.review.said import verdict_of
from curation.tables import ReviewItem, ReviewLabel

NOMINAL, ORDINAL, INTERVAL = "nominal", "ordinal", "interval"
ITEMS_AT_MOST: Final = 5000
"""Newest labels of doubly labelled items that an `Agreement` is made of."""

Distance = Callable[[Any, Any], float]


@dataclass(frozen=True)
class PairAgreement:
    """How far two reviewers agree on the items that both have labelled."""

    reviewers: tuple[str, str]
    n: int
    percent: float
    kappa: float | None


@dataclass(frozen=True)
class Disagreement:
    """An item on which the verdicts differ."""

    item_id: UUID
    kind: str
    interaction_id: UUID
    verdicts: Mapping[str, str]
    """By reviewer."""
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Agreement:
    """The labels of a role that two or more people gave to one item, and how far they agree."""

    n_items: int
    percent: float | None
    """Share of pairs of verdicts on one item that are the same; None: there are none."""
    alpha: float | None
    """Krippendorff's, of the verdicts (nominal)."""
    rating_alpha: float | None
    """Krippendorff's, of the ratings (ordinal)."""
    pairs: tuple[PairAgreement, ...]
    disagreements: tuple[Disagreement, ...]


def cohens_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """Return the agreement of two raters on the same items beyond chance, at most 1.

    None where it is not defined: no items, or both used one and the same category throughout.
    """
    n = len(one)
    if n == 0:
        return None
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    left, right = Counter(one), Counter(other)
    expected = sum(left[c] * right[c] for c in left) / n**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorffs_alpha(units: Iterable[Sequence[Any]], level: str = NOMINAL) -> float | None:
    """Return the reliability of labels, at most 1; 0 is chance.

    Args:
        units: the values given to each item, by whoever labelled it; one value alone is left out.
        level: `nominal` (categories), `ordinal` (ranks) or `interval` (numbers).

    Returns:
        None where it is not defined: fewer than two values to pair, or only one value at all.
    """
    coincidences = _coincidences(units)
    totals: dict[Any, float] = defaultdict(float)
    for (value, _), weight in coincidences.items():
        totals[value] += weight
    n = sum(totals.values())
    if n < 2 or len(totals) < 2:
        return None
    distance = _distance(level, totals)
    observed = sum(weight * distance(a, b) for (a, b), weight in coincidences.items()) / n
    expected = sum(totals[a] * totals[b] * distance(a, b) for a, b in permutations(totals, 2))
    return 1 - observed / (expected / (n * (n - 1)))


def _coincidences(units: Iterable[Sequence[Any]]) -> dict[tuple[Any, Any], float]:
    found: dict[tuple[Any, Any], float] = defaultdict(float)
    for values in units:
        if len(values) > 1:
            for pair in permutations(values, 2):
                found[pair] += 1 / (len(values) - 1)
    return found


def _distance(level: str, totals: Mapping[Any, float]) -> Distance:
    if level == NOMINAL:
        return lambda a, b: float(a != b)
    if level == INTERVAL:
        return lambda a, b: float((a - b) ** 2)
    ranks = sorted(totals)

    def ordinal(a: Any, b: Any) -> float:
        first, last = sorted((ranks.index(a), ranks.index(b)))
        between = sum(totals[rank] for rank in ranks[first : last + 1])
        return float((between - (totals[a] + totals[b]) / 2) ** 2)

    return ordinal


def agreement(
    session: Session,
    role: str | None = None,
    since: datetime | None = None,
    at_most: int = ITEMS_AT_MOST,
) -> Agreement:
    """Return how far reviewers agree on the items that two or more of them have labelled.

    Only items that wait for nobody any more: who is still to label one must not see the others'.
    Of the newest `at_most` labels of such items.
    """
    return summarise(_double_labels(session, role, since, at_most))


def summarise(labels: Iterable[tuple[ReviewLabel, str]]) -> Agreement:
    """Return the agreement of (label, kind of its item) pairs; pure."""
    by_item: dict[UUID, list[tuple[ReviewLabel, str]]] = defaultdict(list)
    for label, kind in labels:
        by_item[label.item_id].append((label, kind))
    judged = {item: _verdicts(said) for item, said in by_item.items()}
    judged = {item: verdicts for item, verdicts in judged.items() if len(verdicts) > 1}
    same = [a == b for v in judged.values() for a, b in combinations(v.values(), 2)]
    ratings = [
        [label.value["rating"] for label, _ in said if "rating" in label.value]
        for said in by_item.values()
    ]
    return Agreement(
        n_items=len(judged),
        percent=sum(same) / len(same) if same else None,
        alpha=krippendorffs_alpha([list(v.values()) for v in judged.values()]),
        rating_alpha=krippendorffs_alpha(ratings, ORDINAL),
        pairs=_pairs(judged.values()),
        disagreements=tuple(
            _disagreement(by_item[item], verdicts)
            for item, verdicts in judged.items()
            if len(set(verdicts.values())) > 1
        ),
    )


def _double_labels(
    session: Session, role: str | None, since: datetime | None, at_most: int
) -> list[tuple[ReviewLabel, str]]:
    query = (
        select(ReviewLabel, col(ReviewItem.kind))
        .join(ReviewItem, col(ReviewItem.id) == col(ReviewLabel.item_id))
        .where(col(ReviewLabel.undone_at).is_(None), col(ReviewLabel.action) != "skip")
        .where(col(ReviewItem.n_wanted) > 1, col(ReviewItem.status) == "done")
        .order_by(col(ReviewLabel.created_at).desc())
        .limit(at_most)
    )
    if role is not None:
        query = query.where(col(ReviewItem.role) == role)
    if since is not None:
        query = query.where(col(ReviewLabel.created_at) >= since)
    return [(label, kind) for label, kind in session.execute(query)]


def _verdicts(said: Sequence[tuple[ReviewLabel, str]]) -> dict[str, str]:
    found = {label.reviewer: verdict_of(kind, label) for label, kind in said}
    return {reviewer: verdict for reviewer, verdict in found.items() if verdict is not None}


def _pairs(judged: Iterable[Mapping[str, str]]) -> tuple[PairAgreement, ...]:
    both: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for verdicts in judged:
        for one, other in combinations(sorted(verdicts), 2):
            both[one, other].append((verdicts[one], verdicts[other]))
    return tuple(
        PairAgreement(
            reviewers=names,
            n=len(said),
            percent=sum(a == b for a, b in said) / len(said),
            kappa=cohens_kappa([a for a, _ in said], [b for _, b in said]),
        )
        for names, said in sorted(both.items())
    )


def _disagreement(
    said: Sequence[tuple[ReviewLabel, str]], verdicts: Mapping[str, str]
) -> Disagreement:
    first, kind = said[0]
    return Disagreement(
        item_id=first.item_id,
        kind=kind,
        interaction_id=first.interaction_id,
        verdicts=verdicts,
        reasons={label.reviewer: label.reason for label, _ in said if label.reason},
    )
