"""What asks for a person: work that waits, and alarms; each with the page where it is settled.

A fixed number of queries, each of them bounded: this is on the first page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import and_, func, select
from sqlmodel import Session, col

from admin import evaluations, experiments, traffic
from admin.formats import counted, number, words
from admin.paging import bounded_count
from admin.system import disk
from collector.feedback.anomalies import AGAIN_AFTER
from collector.reconcile import Books, reconciliation, total
from collector.tables import DeadLetter
from curation.tables import ReviewItem
from foundation.ids import first_id_at
from foundation.settings import get_settings
from foundation.tables import FAILED, QUEUED, RUNNING, Decision, Run, now

COUNTED: Final = 1_000
DAY: Final = timedelta(days=1)
UNATTENDED: Final = timedelta(minutes=2)
"""How long a job waits before somebody is told that no worker takes it."""
SHOWN: Final = 5
"""Alarms of one kind that are named; the page behind them has the others."""

BAD, WARN = "bad", "warn"


@dataclass(frozen=True)
class Notice:
    """One thing that asks for a person."""

    title: str
    words: str
    route: str
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    tone: str = "calm"


@dataclass(frozen=True)
class Attention:
    """Everything that asks for a person."""

    waiting: Sequence[Notice]
    alarms: Sequence[Notice]
    lost: int
    """Records that nobody accounts for."""


def attention(session: Session) -> Attention:
    """Return what waits and what is wrong, the worst first."""
    sources = reconciliation(session)
    lost = sum(books.unaccounted for books in sources)
    of_experiments = experiments.alarms(session)
    proposed = [alarm for alarm in of_experiments if alarm.what == "proposed"]
    alarms = [
        *_records(total(sources), lost),
        *_disk(),
        *_drift(session),
        *_sources(session),
        *_ended(of_experiments),
        *_budgets(session),
        *_jobs(session),
    ]
    waiting = [*_proposals(proposed), *_reviews(session), *_letters(session)]
    return Attention(waiting, sorted(alarms, key=lambda notice: notice.tone != BAD), lost)


def _reviews(session: Session) -> list[Notice]:
    waits = bounded_count(
        session, select(col(ReviewItem.id)).where(col(ReviewItem.status) == "open"), COUNTED
    )
    if not waits.n:
        return []
    title = f"{number(waits.n)}{waits.mark} to review"
    return [Notice(title, "Examples and pairs that wait for a judgement.", "review")]


def _proposals(proposed: Sequence[experiments.Alarm]) -> list[Notice]:
    return [
        Notice(
            f"{alarm.experiment.role}: a better version is proposed",
            alarm.words,
            "experiments.detail",
            {"id": alarm.experiment.id},
        )
        for alarm in proposed[:SHOWN]
    ]


def _letters(session: Session) -> list[Notice]:
    waits = bounded_count(
        session, select(col(DeadLetter.id)).where(col(DeadLetter.settled_at).is_(None)), COUNTED
    )
    if not waits.n:
        return []
    title = f"{counted(waits.n, 'record', waits.mark)} refused"
    return [Notice(title, "They are kept until their cause is mended.", "capture")]


def _records(books: Books, lost: int) -> list[Notice]:
    found = []
    if lost:
        found.append(
            Notice(
                f"{counted(lost, 'record')} lost", "The books do not close.", "capture", tone=BAD
            )
        )
    if books.n_dropped:
        said = f"{counted(books.n_dropped, 'record')} given up by writers, each for a reason."
        found.append(Notice("Records were dropped", said, "capture", tone=WARN))
    if books.held or books.damaged:
        said = f"{number(books.held)} held back, {number(books.damaged)} damaged on a disk."
        found.append(Notice("Spools hold records back", said, "capture", tone=WARN))
    return found


def _disk() -> list[Notice]:
    seen = disk(get_settings().home)
    if not seen.is_low:
        return []
    said = f"{seen.free_bytes / seen.total_bytes:.0%} is free where {seen.folder} is."
    return [Notice("The disk is nearly full", said, "system", tone=BAD)]


def _sources(session: Session) -> list[Notice]:
    """Return which roles' feedback had a source that stood out this week."""
    since = now() - AGAIN_AFTER
    rows = session.execute(
        select(col(Decision.id), col(Decision.role), col(Decision.reasons))
        .where(col(Decision.kind) == "collector.source_anomaly", col(Decision.created_at) >= since)
        .order_by(col(Decision.id).desc())
        .limit(SHOWN)
    ).all()
    return [
        Notice(
            f"{role}: a source of feedback stands out",
            str(reasons[0]) if reasons else "",
            "decisions.detail",
            {"id": identifier},
            tone=WARN,
        )
        for identifier, role, reasons in rows
    ]


def _drift(session: Session) -> list[Notice]:
    return [
        Notice(
            f"{alarm.role}: answers got worse",
            f"{alarm.version} fails more often than it did when it was measured.",
            "decisions.detail" if alarm.alarm_decision_id else "evaluations.list",
            {"id": alarm.alarm_decision_id} if alarm.alarm_decision_id else {},
            tone=BAD,
        )
        for alarm in evaluations.drift_alarms(session)[:SHOWN]
    ]


def _ended(alarms: Sequence[experiments.Alarm]) -> list[Notice]:
    ended = [alarm for alarm in alarms if alarm.what != "proposed"]
    return [
        Notice(
            f"{alarm.experiment.role}: an experiment was {words(alarm.what)}",
            alarm.words,
            "experiments.detail",
            {"id": alarm.experiment.id},
            tone=WARN,
        )
        for alarm in ended[:SHOWN]
    ]


def _budgets(session: Session) -> list[Notice]:
    return [
        Notice(
            "A budget is spent" if alarm.is_over else "A budget is nearly spent",
            alarm.words,
            "traffic",
            tone=BAD if alarm.is_over else WARN,
        )
        for alarm in traffic.budget_alarms(session)[:SHOWN]
    ]


def _jobs(session: Session) -> list[Notice]:
    moment = now()
    silent_since = moment - timedelta(seconds=get_settings().lost_after_s)
    failed_since = first_id_at(moment - DAY)
    is_silent = and_(col(Run.status) == RUNNING, col(Run.heartbeat_at) < silent_since)
    waits = and_(col(Run.status) == QUEUED, col(Run.created_at) < moment - UNATTENDED)
    row = session.execute(
        select(
            func.count().filter(is_silent).label("silent"),
            func.count().filter(waits).label("waiting"),
            func.count()
            .filter(and_(col(Run.status) == RUNNING, col(Run.heartbeat_at) >= silent_since))
            .label("working"),
        ).where(col(Run.status).in_((QUEUED, RUNNING)))
    ).one()
    failed = bounded_count(
        session,
        select(col(Run.id)).where(col(Run.status) == FAILED, col(Run.id) >= failed_since),
        COUNTED,
    )
    found = []
    if row.waiting and not row.working:
        said = (
            f"{counted(row.waiting, 'job')} in the queue and no worker is heard of: flywheel worker"
        )
        found.append(Notice("Nobody does the jobs", said, "runs.list", tone=BAD))
    if row.silent:
        said = f"No word of {counted(row.silent, 'job')}; what is lost is queued again."
        found.append(Notice("Workers fell silent", said, "runs.list", tone=WARN))
    if failed.n:
        title = f"{counted(failed.n, 'job', failed.mark)} failed since yesterday"
        found.append(
            Notice(title, "Look why, then retry.", "runs.list", query={"status": FAILED}, tone=WARN)
        )
    return found
