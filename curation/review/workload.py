"""Who reviews how much and how fast, what waits, and what the drawn sample says of a dataset."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from curation.review.drawn import OWN_ROWS
from curation.tables import Dataset
from foundation.intervals import wilson

LONGEST_S: Final = 3600.0
"""Seconds from lease to label beyond which somebody was not working: left out of speeds."""


@dataclass(frozen=True)
class Waiting:
    """Items of one role, kind and reason by where they stand."""

    role: str
    kind: str
    reason: str
    open: int
    """Nobody has labelled them yet."""
    second: int
    """Labelled once, waiting for another reviewer."""
    leased: int
    """Of the two above: in somebody's hands now."""
    done: int
    withdrawn: int
    oldest: datetime | None
    """When the one that has waited longest came."""


@dataclass(frozen=True)
class Reviewer:
    """What one person did."""

    reviewer: str
    n_labels: int
    """In force, without skips."""
    n_skipped: int
    n_undone: int
    actions: dict[str, int]
    median_s: float | None
    """From lease to label."""
    labels_per_hour: float | None
    """While working."""
    n_leased: int
    n_assigned: int
    last_at: datetime | None


@dataclass(frozen=True)
class Verified:
    """What people found in the drawn sample of a dataset: an unbiased word on all of its rows."""

    dataset_id: UUID
    n_rows: int
    n_drawn: int
    n_judged: int
    n_good: int
    """Accepted as they were by all who looked."""

    @property
    def share(self) -> float | None:
        """Share of the judged rows that are good, 0-1."""
        return self.n_good / self.n_judged if self.n_judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of `share` for the whole dataset, by Wilson's score (1927)."""
        return wilson(self.n_good / self.n_judged, self.n_judged) if self.n_judged else None

    def as_json(self) -> dict[str, Any]:
        """Return counts, share and interval as plain values."""
        return {**asdict(self), "share": self.share, "interval": self.interval}


@dataclass(frozen=True)
class Judged:
    """What people lately said of drawn rows that stand in a dataset."""

    n: int
    n_good: int
    """Accepted as they were by all who looked."""

    @property
    def share(self) -> float | None:
        """Share of them that is good, 0-1; None: nobody judged any."""
        return self.n_good / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of `share` for the whole dataset, by Wilson's score (1927)."""
        return wilson(self.n_good / self.n, self.n) if self.n else None


def waiting(session: Session, role: str | None = None, *, settled: bool = True) -> list[Waiting]:
    """Return what waits and what is done, by role, kind and reason.

    Args:
        session: to read by.
        role: of the items; None: of every role.
        settled: whether what is done or withdrawn is counted, too: that grows for ever.
    """
    asked = {"role": role, "settled": settled}
    return [Waiting(**row) for row in session.execute(_WAITING, asked).mappings()]


def reviewers(
    session: Session,
    role: str | None = None,
    since: datetime | None = None,
    at_most: int | None = None,
) -> list[Reviewer]:
    """Return what each reviewer did, the busiest first; leases and assignments are those of now.

    Of the newest `at_most` labels; None: of all, which takes as long as there are many.
    """
    asked = {"role": role, "since": since, "longest": LONGEST_S, "at_most": at_most}
    said = session.execute(_SAID, asked).mappings().all()
    held = {row.reviewer: row for row in session.execute(_HELD, {"role": role})}
    names = [row["reviewer"] for row in said]
    return [_reviewer(row, held.get(row["reviewer"])) for row in said] + [
        _newcomer(row) for name, row in held.items() if name not in names
    ]


def verified(session: Session, dataset: Dataset) -> Verified:
    """Return what people found in the drawn sample of a dataset."""
    found = session.execute(_VERIFIED, {"dataset": dataset.id}).one()
    return Verified(dataset.id, *found)


def judged_lately(session: Session, dataset: Dataset, at_most: int = 2000) -> Judged:
    """Return what the newest labels say of the drawn rows of a dataset.

    As `verified`, at a cost that does not grow with the dataset: of the newest `at_most` verdicts
    on drawn rows of its role, those on rows that stand in it.
    """
    asked = {"dataset": dataset.id, "role": dataset.role, "at_most": at_most}
    return Judged(*session.execute(_JUDGED_LATELY, asked).one())


def _reviewer(said: Any, held: Any) -> Reviewer:
    timed, seconds = said["n_timed"], said["total_s"]
    return Reviewer(
        reviewer=said["reviewer"],
        n_labels=said["n_labels"],
        n_skipped=said["n_skipped"],
        n_undone=said["n_undone"],
        actions=_counts(said["actions"] or ()),
        median_s=said["median_s"],
        labels_per_hour=3600 * timed / seconds if seconds else None,
        n_leased=held.n_leased if held else 0,
        n_assigned=held.n_assigned if held else 0,
        last_at=said["last_at"],
    )


def _newcomer(held: Any) -> Reviewer:
    return Reviewer(held.reviewer, 0, 0, 0, {}, None, None, held.n_leased, held.n_assigned, None)


def _counts(words: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


_OF_ROLE = "(CAST(:role AS text) IS NULL OR item.role = :role)"

_WAITING = text(
    f"""
    SELECT role, kind, reason,
        count(*) FILTER (WHERE status = 'open' AND NOT is_labelled) AS open,
        count(*) FILTER (WHERE status = 'open' AND is_labelled) AS second,
        count(*) FILTER (WHERE status = 'open' AND leased_until > clock_timestamp()) AS leased,
        count(*) FILTER (WHERE status = 'done') AS done,
        count(*) FILTER (WHERE status = 'withdrawn') AS withdrawn,
        min(created_at) FILTER (WHERE status = 'open') AS oldest
    FROM (
        SELECT item.*, status = 'open' AND n_wanted > 1 AND EXISTS (
            SELECT 1 FROM review_label AS label WHERE label.item_id = item.id
              AND label.undone_at IS NULL AND label.action <> 'skip'
        ) AS is_labelled
        FROM review_item AS item WHERE {_OF_ROLE} AND (:settled OR status = 'open')
    ) AS item
    GROUP BY role, kind, reason ORDER BY role, kind, reason
    """
)

_SAID = text(
    """
    SELECT reviewer,
        count(*) FILTER (WHERE counts) AS n_labels,
        count(*) FILTER (WHERE undone_at IS NULL AND action = 'skip') AS n_skipped,
        count(*) FILTER (WHERE undone_at IS NOT NULL) AS n_undone,
        array_agg(action) FILTER (WHERE counts) AS actions,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE is_timed) AS median_s,
        count(*) FILTER (WHERE is_timed) AS n_timed,
        sum(seconds) FILTER (WHERE is_timed) AS total_s,
        max(created_at) AS last_at
    FROM (
        SELECT label.*, undone_at IS NULL AND action <> 'skip' AS counts,
            undone_at IS NULL AND action <> 'skip' AND seconds <= :longest AS is_timed
        FROM review_label AS label
        WHERE (CAST(:role AS text) IS NULL OR EXISTS (
            SELECT 1 FROM review_item AS item WHERE item.id = label.item_id AND item.role = :role
        )) AND (CAST(:since AS timestamptz) IS NULL OR label.created_at >= :since)
        ORDER BY label.created_at DESC LIMIT CAST(:at_most AS bigint)
    ) AS said
    GROUP BY reviewer ORDER BY n_labels DESC, reviewer
    """
)

_HELD = text(
    f"""
    SELECT reviewer, sum(leased)::int AS n_leased, sum(assigned)::int AS n_assigned
    FROM (
        SELECT leased_by AS reviewer, 1 AS leased, 0 AS assigned FROM review_item AS item
        WHERE status = 'open' AND leased_until > clock_timestamp() AND {_OF_ROLE}
        UNION ALL
        SELECT assigned_to, 0, 1 FROM review_item AS item
        WHERE status = 'open' AND assigned_to IS NOT NULL AND {_OF_ROLE}
    ) AS held
    GROUP BY reviewer ORDER BY reviewer
    """
)

_VERIFIED = text(
    f"""
    SELECT count(*), count(item_id), count(is_good), count(*) FILTER (WHERE is_good)
    FROM (
        SELECT item.id AS item_id, (
            SELECT bool_and(label.action = 'accept') FROM review_label AS label
            WHERE label.item_id = item.id AND label.undone_at IS NULL
              AND label.action IN ('accept', 'reject', 'edit')
        ) AS is_good
        FROM (SELECT row_id FROM {OWN_ROWS}) AS own
        LEFT JOIN review_item AS item ON item.kind = 'example'
          AND item.subject_id = own.row_id AND item.reason = 'random'
    ) AS drawn
    """
)

_JUDGED_LATELY = text(
    """
    SELECT count(*), count(*) FILTER (WHERE is_good)
    FROM (
        SELECT said.subject_id, bool_and(said.action = 'accept') AS is_good
        FROM (
            SELECT item.subject_id, label.action FROM review_label AS label
            JOIN review_item AS item ON item.id = label.item_id
            WHERE item.role = :role AND item.kind = 'example' AND item.reason = 'random'
              AND label.undone_at IS NULL AND label.action IN ('accept', 'reject', 'edit')
            ORDER BY label.created_at DESC LIMIT :at_most
        ) AS said
        GROUP BY said.subject_id
    ) AS judged
    CROSS JOIN LATERAL (  -- row by row: a join would read the whole dataset
        SELECT 1 FROM shard_row JOIN dataset_shard ON shard_row.shard = dataset_shard.shard
        WHERE shard_row.row_id = judged.subject_id AND dataset_shard.dataset_id = :dataset
          AND dataset_shard.origin = 'log'
        LIMIT 1
    ) AS stands
    """
)
