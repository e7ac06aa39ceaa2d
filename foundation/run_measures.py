"""What a run measures on its way, as rows: the curves that are looked at while it works.

A run may report thousands of times a second. Reports wait in memory and are written together, at
most once a second, and a long run's rows are thinned, the closest ones first.
"""

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from foundation.tables import RunMeasure, now

WRITE_EVERY_S: Final = 1.0
AT_ONCE: Final = 20
"""Points of one write: what came between is not drawn."""
MOST_ROWS: Final = 2_000
"""Of one run; where they become more, every second of the older half goes."""


class RunMeasures:
    """The measures of one start of a run; its job's thread and its heartbeat use it together."""

    def __init__(self, run_id: UUID, attempt: int) -> None:
        self.run_id, self.attempt = run_id, attempt
        self._waiting: dict[float, dict[str, Any]] = {}
        self._last: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._written_at = -math.inf
        self._n_rows: int | None = None

    def add(self, done: float, measures: Mapping[str, Any]) -> None:
        """Note what is new of `measures` at `done`; nothing new makes no point."""
        with self._lock:
            new = {k: v for k, v in measures.items() if k not in self._last or self._last[k] != v}
            if not new:
                return
            self._last.update(new)
            self._waiting.setdefault(float(done), {}).update(new)
            if len(self._waiting) > 2 * AT_ONCE:
                self._waiting = _spread(self._waiting, AT_ONCE)

    @property
    def due(self) -> bool:
        """Whether something waits, and the last write was long enough ago."""
        return bool(self._waiting) and time.monotonic() - self._written_at >= WRITE_EVERY_S

    def write(self, session: Session) -> None:
        """Write what waits; what an earlier start had measured from here on is replaced."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._written_at = time.monotonic()
        if not waiting:
            return
        if len(waiting) > AT_ONCE:
            waiting = _spread(waiting, AT_ONCE)
        if self._n_rows is None:
            self._n_rows = self._begin(session, min(waiting))
        self._upsert(session, waiting)
        self._n_rows += len(waiting)
        if self._n_rows > MOST_ROWS:
            self._n_rows = self._thin(session)

    def _begin(self, session: Session, start: float) -> int:
        """Forget what an earlier start measured from `start` on; return how many rows stay."""
        mine = col(RunMeasure.run_id) == self.run_id
        session.execute(delete(RunMeasure).where(mine, col(RunMeasure.done) >= start))
        return session.scalar(select(func.count()).where(mine)) or 0

    def _upsert(self, session: Session, points: Mapping[float, Mapping[str, Any]]) -> None:
        common = {"run_id": self.run_id, "attempt": self.attempt, "measured_at": now()}
        made = insert(RunMeasure).values(
            [{"done": done, "measures": dict(points[done]), **common} for done in sorted(points)]
        )
        session.execute(
            made.on_conflict_do_update(
                index_elements=["run_id", "done"],
                set_={
                    # A step's loss and its validation loss come one after the other.
                    "measures": col(RunMeasure.measures).op("||")(made.excluded.measures),
                    "attempt": made.excluded.attempt,
                    "measured_at": made.excluded.measured_at,
                },
            )
        )

    def _thin(self, session: Session) -> int:
        """Let the closest rows go, their measures into the next; return how many stay."""
        mine = col(RunMeasure.run_id) == self.run_id
        query = select(col(RunMeasure.done), col(RunMeasure.measures)).where(mine)
        points = {done: measures for done, measures in session.execute(query)}
        kept = _spread(points, MOST_ROWS // 2)
        session.execute(
            delete(RunMeasure).where(mine, col(RunMeasure.done).in_(points.keys() - kept.keys()))
        )
        for done in kept:
            if kept[done] != points[done]:
                session.execute(
                    update(RunMeasure)
                    .where(mine, col(RunMeasure.done) == done)
                    .values(measures=kept[done])
                )
        return len(kept)


def finite(measures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measures as JSON takes them: what is no finite number is None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in measures.items()
    }


def _spread(points: Mapping[float, dict[str, Any]], most: int) -> dict[float, dict[str, Any]]:
    """Return about `most` points, evenly far apart, with the first and the last.

    Each has the measures of those left out since the one before, so that a rare one is not lost.
    """
    ordered = sorted(points.items())
    first, last = ordered[0][0], ordered[-1][0]
    step = (last - first) / most or 1.0
    kept: dict[float, dict[str, Any]] = {}
    carried: dict[str, Any] = {}
    for place, (done, measures) in enumerate(ordered):
        carried = {**carried, **measures}
        following = ordered[place + 1][0] if place + 1 < len(ordered) else math.inf
        if place == 0 or (done - first) // step != (following - first) // step:
            kept[done], carried = carried, {}
    return kept
