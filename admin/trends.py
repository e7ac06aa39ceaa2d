"""How each stage of the wheel went lately: a short series per stage, at a cost that does not grow.

Calls of a day are counted up to a limit and estimated beyond it (`admin.paging.about`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, func, select
from sqlmodel import Session, col

from admin.charts import Trend, trend
from admin.paging import about
from collector.tables import Feedback, Interaction
from curation.recipe import DEFAULT
from curation.tables import SFT, Dataset
from evaluator.tables import Verdict
from foundation.ids import first_id_at
from foundation.tables import now
from router.promote import PROMOTE
from router.tables import Promotion
from trainer.tables import ModelVersion

DAYS: Final = 14
WEEKS: Final = 8
LOOKED_AT: Final = 500
"""Newest rows of a small table that a series is made of."""
SAID: Final = 5_000
"""Newest feedback that the share of successes is made of."""


@dataclass(frozen=True)
class Trends:
    """A small line per stage; None where there is too little to draw."""

    collector: Trend | None
    curation: Trend | None
    trainer: Trend | None
    evaluator: Trend | None
    router: Trend | None
    agents: Trend | None


def trends(session: Session) -> Trends:
    """Return how the stages went, in six queries."""
    return Trends(
        trend(calls_by_day(session), label=f"calls a day, last {DAYS} days"),
        trend(kept_by_version(session), label="examples in the newest datasets"),
        trend(
            _by_week(
                _newest(session, ModelVersion, col(ModelVersion.training_run_id).is_not(None))
            ),
            label=f"models trained a week, last {WEEKS} weeks",
        ),
        trend(gains(session), label="points gained by candidates, newest last"),
        trend(
            _by_week(_newest(session, Promotion, col(Promotion.kind) == PROMOTE)),
            label=f"promotions a week, last {WEEKS} weeks",
        ),
        trend(success_by_day(session), label="share of answers that worked, by day"),
    )


def calls_by_day(session: Session) -> list[float | None]:
    """Return about how many calls each of the last days logged, today's last so far."""
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [today - timedelta(days=back) for back in range(DAYS - 1, -2, -1)]
    days = [
        select(col(Interaction.id)).where(
            col(Interaction.id) >= first_id_at(low), col(Interaction.id) < first_id_at(high)
        )
        for low, high in zip(starts, starts[1:], strict=False)
    ]
    return [float(count.n) for count in about(session, days)]


def kept_by_version(session: Session) -> list[float | None]:
    """Return how many examples the newest datasets of all roles held after each new version."""
    rows = session.execute(
        select(
            col(Dataset.role),
            col(Dataset.n_train) + col(Dataset.n_validation) + col(Dataset.n_test),
        )
        .where(col(Dataset.kind) == SFT, col(Dataset.variant) == DEFAULT)
        .order_by(col(Dataset.id).desc())
        .limit(LOOKED_AT)
    ).all()
    newest: dict[str, float] = {}
    series: list[float | None] = []
    for role, n in reversed(rows):
        newest[role] = float(n)
        series.append(sum(newest.values()))
    return series


def gains(session: Session) -> list[float | None]:
    """Return the points of the newest verdicts, oldest first."""
    rows = session.scalars(
        select(col(Verdict.improvement_points)).order_by(col(Verdict.id).desc()).limit(30)
    ).all()
    return list(reversed(rows))


def success_by_day(session: Session) -> list[float | None]:
    """Return the share in 0-1 of answers that worked by day, of what was said last."""
    said = (
        select(col(Feedback.kind), col(Feedback.value), col(Feedback.created_at))
        .order_by(col(Feedback.id).desc())
        .limit(SAID)
        .subquery()
    )
    day = func.date_trunc("day", said.c.created_at, "UTC")  # whatever zone the database is set to
    worked = func.avg(case((said.c.value >= 0.5, 1.0), else_=0.0))
    rows = session.execute(
        select(worked)
        .where(said.c.kind == "success", said.c.value.is_not(None))
        .group_by(day)
        .order_by(day)
    ).scalars()
    return [float(share) for share in rows]


def _newest(session: Session, table: Any, condition: Any) -> Sequence[datetime]:
    since = now() - timedelta(weeks=WEEKS)
    query = select(table.created_at).where(condition, table.id >= first_id_at(since))
    return session.scalars(query.order_by(table.id.desc()).limit(LOOKED_AT)).all()


def _by_week(moments: Iterable[datetime]) -> list[float | None]:
    """Count moments by week back from now, the oldest week first."""
    present = now()
    weeks = Counter((present - moment).days // 7 for moment in moments)
    return [float(weeks[back]) for back in range(WEEKS - 1, -1, -1)] if weeks else []
