"""How the wheel stands: one row per role and stage, for `flywheel status` and scripts."""

from typing import Any

from sqlalchemy import text
from sqlmodel import col, select

from collector.dead_letters import open_by_code
from collector.reconcile import reconciliation
from foundation.database import session_scope
from foundation.settings import get_settings
from foundation.tables import QUEUED, RUNNING, Run
from router.experiment import running_experiments
from router.promote import serving_version

_COUNTS = text(
    """
    SELECT r.role,
      (SELECT count(*) FROM interaction i WHERE i.role = r.role) AS logged,
      (SELECT max(ingested_at) FROM interaction i WHERE i.role = r.role) AS last_logged,
      (SELECT max(number) FROM dataset d WHERE d.role = r.role AND variant = 'default') AS dataset,
      (SELECT count(*) FROM training_run t WHERE t.role = r.role) AS trainings,
      (SELECT count(*) FROM model_version m WHERE m.role = r.role) AS versions,
      (SELECT outcome FROM verdict v WHERE v.role = r.role ORDER BY id DESC LIMIT 1) AS verdict
    FROM unnest(CAST(:roles AS text[])) AS r(role)
    """
)


def newest_run(kind: str) -> Run | None:
    """Return the run of a kind that was created last."""
    with session_scope() as session:
        return session.exec(
            select(Run).where(Run.kind == kind).order_by(col(Run.id).desc()).limit(1)
        ).first()


def wheel_status() -> dict[str, Any]:
    """Return per role what was logged, learned and decided, the runs under way, and the books."""
    with session_scope() as session:
        roles: dict[str, dict[str, Any]] = {}
        for row in session.execute(_COUNTS, {"roles": get_settings().roles}).mappings():
            serving = serving_version(session, row["role"])
            roles[row["role"]] = {
                **{name: value for name, value in row.items() if name != "role"},
                "serving": serving.name if serving else None,
                "experiment": None,
            }
        for experiment in running_experiments(session):
            roles.setdefault(experiment.role, {})["experiment"] = str(experiment.id)
        runs = session.exec(
            select(Run).where(col(Run.status).in_((QUEUED, RUNNING))).order_by(col(Run.id))
        ).all()
        return {
            "roles": roles,
            "runs": [run.model_dump(mode="json") for run in runs],
            "capture": [books.as_dict() for books in reconciliation(session)],
            "dead_letters": open_by_code(session),
        }
