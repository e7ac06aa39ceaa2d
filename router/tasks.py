"""The router's periodic duty, as a plain function for the scheduler and as a job for the queue."""

import logging
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from foundation.database import session_scope
from foundation.errors import FlywheelError
from foundation.runs import RunHandle, job
from router import experiment, guard
from serving import deploy

log = logging.getLogger(__name__)


def watch() -> dict[str, Any]:
    """Collect outcomes, decide every running experiment, and guard every served role.

    A version is made ready by its server before it is promoted.

    Each experiment and each role is a transaction of its own, and one that fails costs the others
    nothing: it is logged, and the next turn tries again.

    Returns:
        `{"outcomes": n, "experiments": {id: outcome}, "guards": {role: outcome}}`, decided only.
    """
    done: dict[str, Any] = {"outcomes": 0, "experiments": {}, "guards": {}}
    with session_scope() as session:
        running = [row.id for row in experiment.running_experiments(session)]
        roles = guard.watched_roles(session)
    for experiment_id in running:
        try:
            with session_scope() as session:
                row = experiment.get_experiment(session, experiment_id)
                done["outcomes"] += experiment.collect_outcomes(session, row)
            with session_scope() as session:
                row = experiment.get_experiment(session, experiment_id)
                decision = experiment.evaluate(session, row, deploy.prepare)
        except (FlywheelError, SQLAlchemyError):
            log.exception("experiment %s cannot be decided now", experiment_id)
            continue
        if decision is not None:
            done["experiments"][str(experiment_id)] = decision.outcome
    for role in roles:
        try:
            with session_scope() as session:
                decision = guard.watch(session, role)
        except (FlywheelError, SQLAlchemyError):
            log.exception("role %s cannot be guarded now", role)
            continue
        if decision is not None:
            done["guards"][role] = decision.outcome
    return done


@job("router.watch")
def watch_job(run: RunHandle) -> dict[str, Any]:
    """Do one turn of `watch` as a queued job."""
    run.check()
    return watch()
