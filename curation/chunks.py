"""The rows of a build's step, cut into chunks that any number of workers work off.

Whoever works on a chunk holds its row locked in the very transaction that stores the work and marks
the chunk done (`FOR UPDATE SKIP LOCKED`). So no two workers do the same chunk, and a worker that
dies leaves nothing behind: its lock and its half of the work vanish together.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from psycopg.errors import DeadlockDetected
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col

from curation.tables import CurationChunk
from foundation.database import session_scope
from foundation.tables import now

JUDGE, COMPARE = "judge", "compare"
UNITS: Final = {JUDGE: "interactions", COMPARE: "texts"}
"""What the rows of a step are."""
POLL_S: Final = 0.2
"""How often a worker without a chunk looks whether the others are done with theirs."""
SAMPLES_KEPT: Final = 20
"""Entries of a list (an alarm's samples) that are kept when counts are added up."""

Counts = dict[str, Any]
"""What came of some rows: numbers, which add up, counts of kinds, and lists of samples."""
Work = Callable[[Session, Sequence[str]], Counts]
"""Does the rows of some ids in the session's transaction."""
Check = Callable[[], None]
"""Raises when the work is to stop; called between chunks."""
Progress = Callable[..., Any]
"""Called as `progress(done, total, unit, **measures)`; `RunHandle.progress` is one."""


def cut(
    session: Session,
    build_id: UUID,
    step: str,
    query: str,
    parameters: Mapping[str, Any],
    rows_each: int,
) -> int:
    """Store the rows of a query as further chunks of a step; return how many rows they are.

    The ids never leave the server, so a step may have any number of rows.

    Args:
        session: its transaction stores the chunks.
        build_id: the build.
        step: `judge` or `compare`.
        query: SQL that selects one column named `id`.
        parameters: its parameters, by names other than build_id, step and rows_each.
        rows_each: rows of a chunk at most.
    """
    stored = session.execute(
        text(_CUT.format(query=query)),
        {**parameters, "build_id": build_id, "step": step, "rows_each": rows_each},
    )
    return sum(stored.scalars())


_CUT = """
    INSERT INTO curation_chunk (id, build_id, step, number, ids, n_rows, counts)
    SELECT gen_random_uuid(), :build_id, :step, taken.chunks + place,
           jsonb_agg(id::text ORDER BY id), count(*), '{{}}'
    FROM (
        SELECT id, (row_number() OVER (ORDER BY id) - 1) / :rows_each AS place
        FROM ({query}) AS found
    ) AS numbered, (
        SELECT coalesce(max(number) + 1, 0) AS chunks FROM curation_chunk
        WHERE build_id = :build_id AND step = :step
    ) AS taken
    GROUP BY taken.chunks, place
    RETURNING n_rows
"""


def work_off(
    build_id: UUID,
    step: str,
    work: Work,
    *,
    check: Check = lambda: None,
    progress: Progress | None = None,
) -> None:
    """Work off the chunks of a step until all are done, those included that others began.

    Raises:
        whatever `check`, `progress` or `work` raises; the chunks done until then stay done.
    """
    pace = _Pace(build_id, step, progress)
    while True:
        check()
        if work_on_one(build_id, step, work):
            pace.tell()
        elif _is_done(build_id, step):
            return
        else:
            time.sleep(POLL_S)  # others hold the rest, or have just died of it


def help_with(build_id: UUID, step: str, work: Work, *, check: Check = lambda: None) -> int:
    """Work off chunks of a step as long as there are some that nobody holds; return how many."""
    n_done = 0
    while work_on_one(build_id, step, work):
        n_done += 1
        check()
    return n_done


def work_on_one(build_id: UUID, step: str, work: Work) -> bool:
    """Do one chunk that nobody holds, in a transaction of its own; False if there is none."""
    try:
        with session_scope() as session:
            chunk = session.execute(_next_of(build_id, step)).scalar_one_or_none()
            if chunk is None:
                return False
            chunk.counts = work(session, chunk.ids)
            chunk.done_at = now()
            session.add(chunk)
    except OperationalError as error:
        if not isinstance(error.orig, DeadlockDetected):
            raise
        # Two chunks wrote the same rows in another order. The other one goes on, this one is free.
    return True


def open_ids(build_id: UUID, step: str) -> Iterator[list[str]]:
    """Yield the rows of each chunk that is not done, without taking it."""
    query = select(col(CurationChunk.id)).where(*_open(build_id, step))
    with session_scope() as session:
        found = session.execute(query.order_by(col(CurationChunk.number))).scalars().all()
    for chunk_id in found:
        with session_scope() as session:
            chunk = session.get(CurationChunk, chunk_id)
        yield chunk.ids if chunk is not None else []


def n_open(session: Session, build_id: UUID, step: str) -> int:
    """Return how many chunks of a step are not done."""
    query = select(func.count()).where(*_open(build_id, step))
    return int(session.execute(query).scalar_one())


def counts_of(session: Session, build_id: UUID) -> Counts:
    """Return what came of all chunks of a build, added up."""
    query = (
        select(col(CurationChunk.counts))
        .where(col(CurationChunk.build_id) == build_id)
        .order_by(col(CurationChunk.step), col(CurationChunk.number))
    )
    return added(session.execute(query).scalars())


def added(several: Iterable[Counts]) -> Counts:
    """Return the sum of several counts: numbers added, lists joined up to `SAMPLES_KEPT`."""
    total: Counts = {}
    for counts in several:
        for name, value in counts.items():
            if name not in total:
                total[name] = value
            elif isinstance(value, dict):
                total[name] = added([total[name], value])
            elif isinstance(value, list):
                total[name] = (total[name] + value)[:SAMPLES_KEPT]
            else:
                total[name] += value
    return total


def forget(session: Session, build_id: UUID) -> None:
    """Drop the ids of a build's chunks, and the chunks that are not done: the build has ended."""
    mine = col(CurationChunk.build_id) == build_id
    session.execute(delete(CurationChunk).where(mine, col(CurationChunk.done_at).is_(None)))
    session.execute(update(CurationChunk).where(mine).values(ids=[]))


def _is_done(build_id: UUID, step: str) -> bool:
    with session_scope() as session:
        return n_open(session, build_id, step) == 0


def _open(build_id: UUID, step: str) -> tuple[Any, ...]:
    return (
        col(CurationChunk.build_id) == build_id,
        col(CurationChunk.step) == step,
        col(CurationChunk.done_at).is_(None),
    )


def _next_of(build_id: UUID, step: str) -> Any:
    return (
        select(CurationChunk)
        .where(*_open(build_id, step))
        .order_by(col(CurationChunk.number))
        .limit(1)
        .with_for_update(skip_locked=True)
    )


@dataclass
class _Pace:
    """Tells how far a step is: rows done by everybody, rows a second, seconds left."""

    build_id: UUID
    step: str
    progress: Progress | None
    _began: float = field(default_factory=time.monotonic)
    _done_before: int | None = None

    def __post_init__(self) -> None:
        if self.progress is not None:
            self._done_before, _ = self._rows()

    def tell(self) -> None:
        if self.progress is None or self._done_before is None:
            return
        done, total = self._rows()
        rate = (done - self._done_before) / max(time.monotonic() - self._began, 1e-6)
        self.progress(
            done,
            total,
            UNITS[self.step],
            step=self.step,
            rows_per_s=round(rate, 1),
            eta_s=round((total - done) / rate, 1) if rate else None,
        )

    def _rows(self) -> tuple[int, int]:
        done = func.coalesce(
            func.sum(CurationChunk.n_rows).filter(col(CurationChunk.done_at).is_not(None)), 0
        )
        query = select(done, func.coalesce(func.sum(CurationChunk.n_rows), 0)).where(
            col(CurationChunk.build_id) == self.build_id, col(CurationChunk.step) == self.step
        )
        with session_scope() as session:
            rows = session.execute(query).one()
        return int(rows[0]), int(rows[1])
