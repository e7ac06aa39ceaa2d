"""Retention: what each part of the data is kept for, what is past it, and its end.

Three parts, each with days of its own: payloads (prompts and answers), metadata (calls, feedback,
logs of runs), artifacts (files and answers that nobody needs). Unset days keep a part for ever.
The log goes by whole weeks, and the pictures, sounds and files of prompts with its payloads;
examples and datasets have their own copy of the texts and stay. What
serves, is pinned, is compared or is rolled back to keeps its files, whatever its age.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, text
from sqlmodel import Session

from collector import media
from collector.partitions import (
    Expired,
    Part,
    count_outside,
    delete_outside,
    deleted,
    drop_week,
    expired,
    week_start,
)
from flywheel.garbage import collect
from foundation.database import get_engine, session_scope
from foundation.decisions import record
from foundation.settings import Settings
from foundation.tables import now

KIND: Final = "flywheel.retention"
PAYLOAD, METADATA, ARTIFACTS = "payload", "metadata", "artifacts"
_PARTS: Final[dict[str, Part]] = {PAYLOAD: "payload", METADATA: "interaction"}
_ROWS_AT_ONCE: Final = 5000


@dataclass(frozen=True)
class Policy:
    """Days that each part is kept; None: for ever."""

    payload_days: int | None = None
    metadata_days: int | None = None
    artifacts_days: int | None = None

    def days_of(self, part: str) -> int | None:
        """Return the days of a part; a payload never outlives its call."""
        if part == PAYLOAD:
            given = [days for days in (self.payload_days, self.metadata_days) if days is not None]
            return min(given, default=None)
        return self.metadata_days if part == METADATA else self.artifacts_days

    def end_of(self, part: str, moment: datetime) -> datetime | None:
        """Return the moment before which a part has expired; None: it is kept for ever."""
        days = self.days_of(part)
        return None if days is None else moment - timedelta(days=days)


@dataclass(frozen=True)
class Ending:
    """Something that is past its retention: a week, or rows of a table that logs.

    Attributes:
        part: payload, metadata or artifacts.
        what: name of the partition or table, or files.
        week: first day of the week; None: no partition.
        n_rows: of a week as PostgreSQL estimates it.
        n_bytes: that it frees; 0 where only rows go.
        is_done: whether it went.
        why: why it did not go, or what it is.
    """

    part: str
    what: str
    week: str | None
    n_rows: int
    n_bytes: int
    is_done: bool = False
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def policy_of(settings: Settings) -> Policy:
    """Return the policy that the settings say."""
    return Policy(
        settings.retention_payload_days,
        settings.retention_metadata_days,
        settings.retention_artifacts_days,
    )


def show(policy: Policy, moment: datetime | None = None) -> list[Ending]:
    """Return what is past its retention; changes nothing."""
    moment = moment or now()
    found: list[Ending] = []
    with session_scope() as session:
        for part, name in _PARTS.items():
            end = policy.end_of(part, moment)
            if end is not None:
                found += _weeks(session, part, name, end)
        for part, table, where in _LOGS:
            end = policy.end_of(part, moment)
            if end is not None and (n_rows := _count(session, table, where, end)):
                found.append(Ending(part, table, None, n_rows, 0))
    if (end := policy.end_of(PAYLOAD, moment)) is not None:
        found += _media(week_start(end), remove=False)
    if policy.artifacts_days is not None:
        found += _files(policy.artifacts_days, remove=False)
    return found


def apply(policy: Policy, moment: datetime | None = None) -> Iterator[Ending]:
    """End the retention of what is past it, one after the other; a Decision tells of each.

    A week that somebody keeps reading is left for the next time.
    """
    moment, engine = moment or now(), get_engine()
    for part, name in _PARTS.items():
        end = policy.end_of(part, moment)
        if end is not None:
            yield from _end_weeks(engine, policy, part, name, end)
    if (end := policy.end_of(PAYLOAD, moment)) is not None:
        for one in _media(week_start(end), remove=True):
            yield _told(policy, one)
    for part, table, where in _LOGS:
        end = policy.end_of(part, moment)
        if end is not None:
            query = text(_SOME.format(table=table, where=where, n=_ROWS_AT_ONCE))
            if n_rows := sum(deleted(engine, query, {"end": end})):
                yield _told(policy, Ending(part, table, None, n_rows, 0, is_done=True))
    if policy.artifacts_days is not None:
        for one in _files(policy.artifacts_days, remove=True):
            yield _told(policy, one)


def _weeks(session: Session, part: str, name: Part, end: datetime) -> Iterator[Ending]:
    for week in expired(session.connection(), name, end):
        yield _ending(part, week)
    if n_rows := count_outside(session.connection(), name, end):
        yield Ending(part, f"{name}, outside every week", None, n_rows, 0)


def _ending(part: str, week: Expired, *, is_done: bool = False, why: str = "") -> Ending:
    start = week.start.date().isoformat()
    return Ending(part, week.name, start, week.n_rows, week.n_bytes, is_done, why)


def _end_weeks(
    engine: Engine, policy: Policy, part: str, name: Part, end: datetime
) -> Iterator[Ending]:
    with engine.connect() as connection:
        weeks = expired(connection, name, end)
    for week in weeks:
        if drop_week(engine, week.name):
            yield _told(policy, _ending(part, week, is_done=True))
        else:
            yield _ending(part, week, why="a transaction that is under way reads it: next time")
    if n_rows := delete_outside(engine, name, end):
        what = f"{name}, outside every week"
        yield _told(policy, Ending(part, what, None, n_rows, 0, is_done=True))


def _media(since: datetime, *, remove: bool) -> list[Ending]:
    n_rows = n_bytes = 0
    for one in media.unseen(since):
        if not remove or media.let_go(one, since):
            n_rows, n_bytes = n_rows + 1, n_bytes + one.size_bytes
    why = "no payload that is kept came with it"
    return [Ending(PAYLOAD, "media", None, n_rows, n_bytes, remove, why)] if n_rows else []


def _files(days: int, *, remove: bool) -> list[Ending]:
    collected = collect(days, remove=remove)
    if not collected.pieces:
        return []
    n_pieces = len(collected.pieces)
    size, why = collected.size_bytes, "files that nobody needs; rows counts pieces"
    return [Ending(ARTIFACTS, "files", None, n_pieces, size, is_done=remove, why=why)]


def _told(policy: Policy, ending: Ending) -> Ending:
    with session_scope() as session:
        record(
            session,
            KIND,
            "dropped",
            [f"{ending.what} is past the {policy.days_of(ending.part)} days of {ending.part}."],
            inputs=ending.as_json(),
            thresholds=asdict(policy),
        )
    return ending


def _count(session: Session, table: str, where: str, end: datetime) -> int:
    query = text(f"SELECT count(*) FROM {table} WHERE {where}")
    return int(session.execute(query, {"end": end}).scalar_one())


_ENDED: Final = "run_id IN (SELECT id FROM run WHERE finished_at < :end)"
_LOGS: Final = (
    (METADATA, "feedback", "ingested_at < :end"),
    (METADATA, "dead_letter", "settled_at < :end"),
    (METADATA, "run_log", _ENDED),
    (METADATA, "run_measure", _ENDED),
    (
        METADATA,
        "curation_chunk",
        "build_id IN (SELECT id FROM curation_build WHERE finished_at < :end)",
    ),
    (METADATA, "budget_window", "starts_at < :end - interval '35 days'"),
    (METADATA, "review_draft", "saved_at < :end"),
    (ARTIFACTS, "cached_answer", "created_at < :end"),
)
"""What grows with use, beside the weeks: part, table, and which of its rows are past their end.

Kept for ever: the audit, decisions, verdicts, evaluations and their samples, datasets, sums of use,
erasures, the books of spools. Sessions, codes, leases and processes end by themselves.
"""
_SOME: Final = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {where} LIMIT {n}))
"""
