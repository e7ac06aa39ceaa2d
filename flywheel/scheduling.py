"""Train by itself: what happened since, whether that is enough, and one order at a time per role.

Once per tick and role: settle what ended, count what is new (by transactions: the cost goes by new
rows), ask `trainer.schedule`, and order the run. All of it is one transaction that holds the
schedule's row, so two schedulers order nothing twice, and a kill leaves it as it was.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, select

from collector.feedback.sources import is_heard
from evaluator.drift import reports
from evaluator.suites import load_suite
from flywheel.scheduling_tasks import SCHEDULED_TURN
from foundation.database import session_scope
from foundation.decisions import as_json, decide
from foundation.errors import Conflict
from foundation.runs import enqueue, get_run
from foundation.snapshots import NOW, last_look, watermark
from foundation.tables import CANCELLED, DONE, FAILED, Decision, Run, now
from router.experiment import plan_from
from trainer import schedule
from trainer.schedule import (
    RULE,
    WAIT,
    Orders,
    ScheduleInputs,
    Triggers,
    get_schedule,
    triggers_of,
)
from trainer.tables import TrainingSchedule

_ENDED: Final = (DONE, FAILED, CANCELLED)
_LABELS_OVERLAP: Final = timedelta(minutes=10)
"""Labels of reviewers carry no transaction: so far back, ids tell new ones from seen ones."""


def tick() -> list[str]:
    """Look at every schedule once; return the roles that a training was ordered for."""
    with session_scope() as session:
        roles = session.exec(select(TrainingSchedule.role).order_by(TrainingSchedule.role)).all()
    return [role for role in roles if _tick_role(role)]


def _tick_role(role: str) -> bool:
    with session_scope() as session:
        row = session.exec(
            select(TrainingSchedule)
            .where(TrainingSchedule.role == role)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:  # somebody else looks at it, or it is being changed
            return False
        moment = now()
        settle(session, row, moment)
        if not row.is_on:
            return False
        look(session, row, moment)
        return fire(session, row, moment) is not None


def set_schedule(
    session: Session, role: str, triggers: Triggers, orders: Orders, *, actor: str = "flywheel"
) -> TrainingSchedule:
    """Store a schedule; what happens from now on counts.

    Raises:
        BadInput: as `trainer.schedule`.
        NotFound: no such suite or experiment plan: better now than after a training.
    """
    for suite in filter(None, (orders.suite, orders.general)):
        load_suite(session, suite)
    plan_from(orders.experiment)
    row = schedule.set_schedule(session, role, triggers, orders, actor=actor)
    look(session, row, now())
    return row


def run_now(session: Session, role: str, actor: str = "flywheel") -> TrainingSchedule:
    """Order what a role's schedule says, whatever its triggers say; also of one that is off.

    Raises:
        NotFound: the role has no schedule.
        Conflict: one is under way.
    """
    row, moment = get_schedule(session, role), now()
    settle(session, row, moment)
    look(session, row, moment)
    if fire(session, row, moment, asked_by=actor) is None:
        raise Conflict(
            f"training of {role}",
            f"run {row.run_id} is under way",
            "one at a time",
            "Wait for it, or cancel it: flywheel run cancel ID",
        )
    return row


def settle(session: Session, row: TrainingSchedule, moment: datetime) -> None:
    """Take note of how the run that was ordered ended, if it has.

    One that is done has answered what it was ordered for. One that failed or was cancelled has not:
    it is due again, after a wait that doubles.
    """
    seen = deepcopy(row.seen)
    taken = seen.get("taken")
    if taken is None or row.run_id is None:
        return
    run = get_run(session, row.run_id)
    if run.status not in _ENDED:
        return
    seen.pop("taken")
    seen.pop("iteration", None)
    if run.status == DONE:
        for name in ("n_new_examples", "n_corrections"):
            seen[name] = max(0, seen.get(name, 0) - taken[name])
        if taken["alarm"] is not None:
            seen["answered_alarm"] = taken["alarm"]
        if not seen["n_corrections"] or seen.get("corrected_at") == taken["corrected_at"]:
            seen["corrected_at"] = None
        seen |= {"failures": 0, "failed_at": None}
        if row.due_at is not None and row.due_at <= moment:
            row.due_at = schedule.next_time(row.every, moment)
    else:
        seen |= {"failures": seen.get("failures", 0) + 1, "failed_at": moment.isoformat()}
    seen["last"] = _account_of(row, run, taken)
    row.seen = seen
    session.add(row)
    session.flush()


def _account_of(row: TrainingSchedule, run: Run, taken: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the last iteration went, and how long it took from what it answered."""
    ended, result = run.finished_at or now(), run.result or {}
    corrected_at = taken["corrected_at"]
    failed = (run.error or run.status).strip().splitlines()[-1] if run.status != DONE else None
    return {
        "run_id": str(run.id),
        "trigger": taken["trigger"],
        "status": run.status,
        "outcome": result.get("outcome"),
        "reasons": [failed] if failed else result.get("reasons", []),
        "candidate": result.get("candidate"),
        "parts_s": result.get("parts_s", {}),
        "iteration_s": round((ended - row.fired_at).total_seconds(), 1) if row.fired_at else None,
        "since_correction_s": (
            round((ended - datetime.fromisoformat(corrected_at)).total_seconds(), 1)
            if corrected_at
            else None
        ),
        "ended_at": ended.isoformat(),
    }


def look(session: Session, row: TrainingSchedule, moment: datetime) -> None:
    """Count what is new since the last look; the first one only begins to count."""
    seen = deepcopy(row.seen)
    is_first = "watermark" not in seen
    found = _new(session, row.role, seen.get("watermark", {}), is_first)
    labels = _new_labels(session, row.role, seen.get("labels", {}), moment, is_first)
    corrected = [*found.corrected_at, *labels.new]
    seen |= {
        "watermark": found.watermark,
        "labels": labels.kept,
        "n_new_examples": seen.get("n_new_examples", 0) + found.n_examples,
        "n_corrections": seen.get("n_corrections", 0) + found.n_corrections + len(labels.new),
    }
    if corrected and not seen.get("corrected_at"):
        seen["corrected_at"] = min(corrected)
    row.seen = seen
    session.add(row)
    session.flush()


@dataclass(frozen=True)
class _New:
    """What a look found."""

    n_examples: int
    n_corrections: int
    corrected_at: list[str]
    watermark: dict[str, Any]


_NEW = """
    WITH said AS (
        SELECT f.ingested_at FROM feedback f
        WHERE {is_word} AND {new_said} AND EXISTS (
            SELECT 1 FROM interaction i WHERE i.role = :role AND {about})
        UNION ALL
        SELECT i.ingested_at FROM interaction i JOIN feedback f ON {about}
        WHERE i.role = :role AND {is_word} AND {new_call} AND {said_before}
    )
    SELECT
        (SELECT count(*) FROM interaction i WHERE i.role = :role AND i.status = 'success'
            AND i.completed AND coalesce(i.arm, '') <> 'shadow' AND {new_call}),
        (SELECT count(*) FROM said), (SELECT min(ingested_at) FROM said), {now}
"""
_IS_WORD: Final = f"""f.source IN ('human', 'user') AND f.derived_from IS NULL AND (
    f.kind IN ('correction', 'preference') OR f.kind = 'rating' AND f.value <= 2)
    AND {is_heard("f")}"""
_ABOUT: Final = """(i.id = f.interaction_id
    OR f.interaction_id IS NULL AND f.episode_id IS NOT NULL AND i.episode_id = f.episode_id)"""


def _new(session: Session, role: str, mark: dict[str, Any], is_first: bool) -> _New:
    if is_first:
        snapshot, at = session.execute(text(f"SELECT {NOW}")).one()
        return _New(0, 0, [], watermark(snapshot, at))
    last = last_look(session, mark)
    query = _NEW.format(
        is_word=_IS_WORD,
        about=_ABOUT,
        new_said=last.is_new("f"),
        new_call=last.is_new("i"),
        said_before=last.was_seen("f"),
        now=NOW,
    )
    n_examples, n_words, first, snapshot, at = session.execute(
        text(query), {"role": role, **last.values}
    ).one()
    corrected_at = [first.isoformat()] if first is not None else []
    return _New(n_examples, n_words, corrected_at, watermark(snapshot, at))


@dataclass(frozen=True)
class _Labels:
    """Edits of reviewers: moments of the new ones, and what the next look must know."""

    new: list[str]
    kept: dict[str, Any]


_EDITS = text(
    """
    SELECT l.id, l.created_at FROM review_label l JOIN review_item r ON r.id = l.item_id
    WHERE l.created_at >= :since AND l.action = 'edit' AND l.undone_at IS NULL AND r.role = :role
    ORDER BY l.created_at
    """
)


def _new_labels(
    session: Session, role: str, kept: Mapping[str, Any], moment: datetime, is_first: bool
) -> _Labels:
    until = datetime.fromisoformat(kept["at"]) if kept else moment
    since = until - _LABELS_OVERLAP
    known = set(kept.get("ids", ()))
    rows = session.execute(_EDITS, {"since": since, "role": role}).all()
    new = [] if is_first else [at.isoformat() for label, at in rows if str(label) not in known]
    recent = [str(label) for label, at in rows if at >= moment - _LABELS_OVERLAP]
    return _Labels(new, {"at": moment.isoformat(), "ids": recent})


def fire(
    session: Session, row: TrainingSchedule, moment: datetime, asked_by: str | None = None
) -> Decision | None:
    """Order a training if one is due; return the Decision, None to wait."""
    inputs, limits = inputs_of(session, row, moment, asked_by), triggers_of(row)
    ruling = schedule.schedule_rule(as_json(inputs), as_json(limits))
    if ruling.outcome == WAIT:
        return None
    run = enqueue(
        session, SCHEDULED_TURN, {"role": row.role, "trigger": ruling.outcome}, role=row.role
    )
    decision = decide(session, RULE, inputs, limits, role=row.role, subject_id=run.id)
    row.run_id, row.fired_at = run.id, moment
    row.fired_because = " ".join(ruling.reasons)
    row.seen = {
        **row.seen,
        "taken": {
            "trigger": ruling.outcome,
            "n_new_examples": inputs.n_new_examples,
            "n_corrections": inputs.n_corrections,
            "corrected_at": row.seen.get("corrected_at"),
            "alarm": inputs.drift_alarm,
        },
    }
    session.add(row)
    session.flush()
    return decision


def inputs_of(
    session: Session, row: TrainingSchedule, moment: datetime, asked_by: str | None = None
) -> ScheduleInputs:
    """Return what the rule reads of a schedule as it was last looked at."""
    seen = row.seen
    under_way = "taken" in seen and row.run_id is not None
    return ScheduleInputs(
        moment=moment.isoformat(),
        due_at=row.due_at.isoformat() if row.due_at else None,
        n_new_examples=seen.get("n_new_examples", 0),
        n_corrections=seen.get("n_corrections", 0),
        drift_alarm=_alarm(session, row),
        under_way=str(row.run_id) if under_way else None,
        failures=seen.get("failures", 0),
        failed_at=seen.get("failed_at"),
        asked_by=asked_by,
    )


def _alarm(session: Session, row: TrainingSchedule) -> str | None:
    """Return the newest alarm on who serves that no training has answered yet."""
    alarms = [
        str(one.alarm_decision_id) for one in reports(session, row.role) if one.alarm_decision_id
    ]
    return next((alarm for alarm in alarms if alarm != row.seen.get("answered_alarm")), None)


def explain(session: Session, row: TrainingSchedule) -> dict[str, Any]:
    """Return a schedule as JSON values: when, what, what has come since, how the last one went."""
    inputs = inputs_of(session, row, now())
    again = schedule.retry_at(inputs, triggers_of(row))
    return {
        "role": row.role,
        "is_on": row.is_on,
        "every": row.every,
        "triggers": row.triggers,
        "training": row.training,
        "due_at": inputs.due_at,
        "n_new_examples": inputs.n_new_examples,
        "n_corrections": inputs.n_corrections,
        "under_way": inputs.under_way,
        "failures": inputs.failures,
        "retry_at": again.isoformat() if again else None,
        "fired_at": row.fired_at.isoformat() if row.fired_at else None,
        "fired_because": row.fired_because,
        "last": row.seen.get("last"),
        "changed_by": row.changed_by,
        "changed_at": row.changed_at.isoformat(),
    }


def list_explained(session: Session) -> list[dict[str, Any]]:
    """Return all schedules as JSON values, by role."""
    return [explain(session, row) for row in schedule.list_schedules(session)]
