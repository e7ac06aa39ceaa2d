"""Outcomes of units: what feedback says of them, and when waiting ends.

A look goes by what is new: statements that were written since the last one, and those on episodes
that new calls belong to. What is new is told by transactions, as in `curation.candidates`: the last
look's oldest open one is remembered, and all from it on are looked at again. A unit whose time is
over is looked up once more by itself.
"""

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import TextClause, text, update
from sqlmodel import Session, col

from collector.feedback.sources import is_heard
from foundation.tables import now
from router.experiments.plan import SCORE, plan_of
from router.tables import EPISODE, Assignment, Experiment

_UUID: Final = "^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$"  # formatted with the rest
_SETTLE = """
    WITH open AS NOT MATERIALIZED (
        SELECT id, unit FROM assignment WHERE experiment_id = :experiment AND {undecided}
    ), said AS MATERIALIZED (
        {said}
    ), found AS (
        SELECT open.id, 0 AS level, said.said_value, said.created_at, said.id AS said_id
        FROM open JOIN said ON said.episode_id::text = open.unit
        WHERE said.interaction_id IS NULL
        UNION ALL
        SELECT open.id, 1, said.said_value, said.created_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id AND i.role = :role
        JOIN open ON open.unit = i.episode_id::text
        UNION ALL
        SELECT open.id, 1, said.said_value, said.created_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id AND i.role = :role
        JOIN open ON open.unit = i.unit_id
    ), first AS (
        SELECT DISTINCT ON (id) id, said_value FROM found ORDER BY id, level, created_at, said_id
    ), held AS (  -- in the order of ids, as calls are counted: no deadlock
        SELECT assignment.id FROM assignment JOIN first USING (id)
        ORDER BY assignment.id FOR UPDATE OF assignment
    )
    UPDATE assignment SET
        outcome = first.said_value >= 0.5,
        score = {score},
        outcome_at = coalesce(outcome_at, :moment),
        late_at = CASE WHEN timed_out THEN CAST(:moment AS timestamptz) END
    FROM first JOIN held USING (id) WHERE assignment.id = first.id AND {undecided}
    """
"""Feedback on the episode as a whole speaks for it; else the first on one of the role's calls.

A unit that had timed out keeps its `outcome_at`, and so its pair its place in the evidence.
"""

_HEARD = f"""
        SELECT *, {{value}} AS said_value FROM feedback
        WHERE {{kind}} AND value IS NOT NULL AND ingested_at >= :since AND {is_heard("feedback")}
"""
_NEW = f"""
        WITH called AS MATERIALIZED (
            SELECT id, episode_id FROM interaction
            WHERE role = :role AND written_xid >= :from_xid AND written_xid < :to_xid
        )
        {_HEARD} AND written_xid >= :from_xid AND written_xid < :to_xid
        UNION ALL
        {_HEARD} AND interaction_id IN (
            SELECT id FROM called UNION
            SELECT i.id FROM called
            JOIN interaction i ON i.episode_id = called.episode_id AND i.role = :role)
        UNION ALL
        {_HEARD} AND episode_id IN (SELECT episode_id FROM called)
"""
"""A recorded call follows its assignment: what was said before of its episode is looked at, too."""
_OF_THOSE_DUE = f"""
        WITH due AS MATERIALIZED (
            SELECT CASE WHEN unit ~ '{_UUID}' THEN unit::uuid END AS id FROM assignment
            WHERE experiment_id = :experiment AND outcome IS NULL AND assigned_at <= :due
        )
        {_HEARD} AND episode_id IN (SELECT id FROM due)
        UNION ALL
        {_HEARD} AND interaction_id IN (
            SELECT i.id FROM due JOIN interaction i ON i.episode_id = due.id AND i.role = :role)
"""


def _settle(said: str, **kind_of_outcome: str) -> TextClause:
    return text(_SETTLE.format(said=said.format(**kind_of_outcome), **kind_of_outcome))


_SUCCESS: Final = {
    "value": "value",
    "kind": "kind = 'success'",
    "score": "score",
    "undecided": "(outcome IS NULL OR (timed_out AND late_at IS NULL))",
}
_SCORE: Final = {
    "value": """least(1.0, greatest(0.0,
            CASE WHEN kind = 'rating' THEN (value - 1) / 4 ELSE value END))""",
    "kind": """(kind = 'metric' AND name = CAST(:name AS text)
            OR kind = 'rating' AND CAST(:name AS text) = 'rating')""",
    "score": "first.said_value",
    "undecided": "outcome IS NULL",
}
"""A score that comes after the time-out changes nothing: it stays 0."""
_SETTLE_ALL, _SETTLE_NEW, _SETTLE_DUE = (
    {True: _settle(said, **_SCORE), False: _settle(said, **_SUCCESS)}
    for said in (_HEARD, _NEW, _OF_THOSE_DUE)
)
"""By whether outcomes are scores."""

_SETTLE_TASKS = text(
    f"""
    WITH said AS (
        SELECT * FROM feedback
        WHERE kind = 'success' AND value IS NOT NULL AND ingested_at >= :since
          AND {is_heard("feedback")}
    ), told AS (
        SELECT i.unit_id AS unit, coalesce(i.episode_id, i.id) AS task,
               said.value, 1 AS level, said.created_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id
        WHERE i.experiment_id = :experiment
        UNION ALL
        SELECT i.unit_id, i.episode_id, said.value, 0, said.created_at, said.id
        FROM said JOIN interaction i ON i.episode_id = said.episode_id
        WHERE said.interaction_id IS NULL AND i.experiment_id = :experiment
    ), first AS (
        SELECT DISTINCT ON (unit, task) unit, value FROM told
        ORDER BY unit, task, level, created_at, id
    ), counted AS (
        SELECT unit, count(*) AS tasks, count(*) FILTER (WHERE value >= 0.5) AS successes
        FROM first GROUP BY unit
    )
    UPDATE assignment SET n_tasks = counted.tasks, n_successes = counted.successes,
                          outcome_at = coalesce(outcome_at, :moment)
    FROM counted
    WHERE experiment_id = :experiment AND assignment.unit = counted.unit
      AND (n_tasks, n_successes) IS DISTINCT FROM (counted.tasks, counted.successes)
    """
)
"""A sticky unit has no outcome of its own: its tasks have, each by the first word on it."""


_LOOK = text(
    """
    SELECT seen_xid AS before, (pg_snapshot_xmin(snapshot)::text)::bigint AS oldest,
           greatest((pg_snapshot_xmax(snapshot)::text)::bigint,
                    (pg_current_xact_id_if_assigned()::text)::bigint + 1) AS to_xid
    FROM experiment, pg_current_snapshot() AS snapshot WHERE id = :experiment
    """
)
_LOOKED = text(
    """
    UPDATE experiment SET seen_xid = :oldest WHERE id = (
        SELECT id FROM experiment
        WHERE id = :experiment AND seen_xid IS NOT DISTINCT FROM CAST(:before AS bigint)
        FOR NO KEY UPDATE SKIP LOCKED)
    """
)
"""Waits for nobody, and holds nobody up while feedback is read; what is not noted is read again."""


def collect_outcomes(session: Session, experiment: Experiment) -> int:
    """Settle the open units that have feedback or waited too long; return how many.

    What feedback has settled is never changed. What a time-out has settled changes once, if
    feedback comes after all; `Evidence.readings` keeps the statistics honest. Feedback about
    another role's call of the same episode says nothing about this role. Of sticky units the tasks
    are counted anew; a task that nobody judged is not counted.
    """
    plan, moment = plan_of(experiment), now()
    due = moment - timedelta(seconds=plan.outcome_timeout_s)
    values: dict[str, Any] = {
        "experiment": experiment.id,
        "since": experiment.started_at,
        "moment": moment,
    }
    if experiment.unit_kind != EPISODE:
        return _changed(session, _SETTLE_TASKS, values)
    by_score = plan.outcome_kind == SCORE
    values |= {"role": experiment.role, **({"name": plan.score_name} if by_score else {})}
    look = session.execute(_LOOK, {"experiment": experiment.id}).one()
    if look.before is None or look.before > look.oldest:
        n_told = _changed(session, _SETTLE_ALL[by_score], values)
    else:
        told = {**values, "from_xid": look.before, "to_xid": look.to_xid}
        n_told = _changed(session, _SETTLE_NEW[by_score], told)
        n_told += _changed(session, _SETTLE_DUE[by_score], {**values, "due": due})
    late = session.execute(
        update(Assignment)
        .where(
            col(Assignment.experiment_id) == experiment.id,
            col(Assignment.outcome).is_(None),
            col(Assignment.assigned_at) <= due,
        )
        .values(
            outcome=False,
            outcome_at=moment,
            timed_out=True,
            score=0.0 if by_score else None,
        )
        .execution_options(synchronize_session=False)
    )
    noted = {"experiment": experiment.id, "before": look.before, "oldest": look.oldest}
    session.execute(_LOOKED, noted)
    return n_told + int(late.rowcount)  # type: ignore[attr-defined]


def forget_looks(session: Session, experiment: Experiment) -> None:
    """Let the next look go by all that was said since the experiment began."""
    session.execute(_FORGET, {"experiment": experiment.id})


_FORGET = text("UPDATE experiment SET seen_xid = NULL WHERE id = :experiment")


def _changed(session: Session, statement: TextClause, values: dict[str, Any]) -> int:
    return int(session.execute(statement, values).rowcount)  # type: ignore[attr-defined]
