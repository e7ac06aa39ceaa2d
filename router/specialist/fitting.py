"""From the log of experiments to a classifier in use: read, fit, judge, decide, keep."""

from dataclasses import asdict

from sqlalchemy import text
from sqlmodel import Session

from foundation import decisions
from foundation.errors import BadInput, NotFound
from router.promote import require_role, serving_version
from router.specialist.classifier import Fit
from router.specialist.features import features_of
from router.specialist.learned import Outcome, Worth, fit, worth
from router.specialist.rule import RULE, SpecialistThresholds
from router.tables import SpecialistFit

_OUTCOMES = text(
    """
    WITH units AS (
        SELECT a.unit, a.outcome, a.stratum,
               CASE a.arm WHEN 'treatment' THEN e.treatment_model_version_id
                          ELSE e.control_model_version_id END AS version_id,
               e.id AS experiment_id
        FROM assignment a JOIN experiment e ON e.id = a.experiment_id
        WHERE e.role = :role AND e.unit_kind = 'episode' AND a.outcome IS NOT NULL
        ORDER BY a.sequence DESC LIMIT :most
    )
    SELECT units.unit, units.outcome, m.name AS model, units.stratum, i.task_type, p.request
    FROM units
    JOIN model_version m ON m.id = units.version_id
    JOIN LATERAL (
        SELECT id, task_type FROM interaction
        WHERE episode_id = CAST(units.unit AS uuid) AND role = :role
          AND experiment_id = units.experiment_id
        ORDER BY id LIMIT 1
    ) i ON true
    JOIN interaction_payload p ON p.id = i.id
    """
)
MOST_OUTCOMES = 5_000
"""The newest outcomes that are learned from."""


def read_outcomes(session: Session, role: str) -> list[Outcome]:
    """Return how the newest tasks of a role's experiments ended."""
    rows = session.execute(_OUTCOMES, {"role": role, "most": MOST_OUTCOMES}).all()
    return [
        Outcome(
            row.unit,
            features_of(row.request, row.task_type, _difficulty(row.stratum)),
            row.model,
            bool(row.outcome),
        )
        for row in rows
    ]


def _difficulty(stratum: str) -> str | None:
    """Return the difficulty in a stratum of task type, difficulty and day."""
    parts = stratum.split("|")
    return parts[1] if len(parts) == 3 and parts[1] != "any" else None


def learn(
    session: Session,
    role: str,
    limits: SpecialistThresholds | None = None,
    actor: str = "flywheel",
) -> SpecialistFit:
    """Fit the role's classifier anew and decide whether it is used; the Decision is its own.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
        BadInput: the experiments have not shown enough of two models to learn anything.
    """
    require_role(role)
    serving = serving_version(session, role)
    if serving is None:
        raise NotFound("role", role, "a role that somebody serves", "Promote a version first.")
    outcomes = read_outcomes(session, role)
    fitted = fit(outcomes, serving.name)
    judged = worth(fitted, outcomes) if fitted else None
    if fitted is None or judged is None:
        raise BadInput(
            f"outcomes of experiments of the role {role!r}",
            len(outcomes),
            f"at least 30 successes and failures of {serving.name} and of another version",
            "Let experiments run; they are what a choice can be learned from.",
        )
    return _keep(session, role, fitted, judged, len(outcomes), limits, actor)


def _keep(
    session: Session,
    role: str,
    fitted: Fit,
    judged: Worth,
    n_outcomes: int,
    limits: SpecialistThresholds | None,
    actor: str,
) -> SpecialistFit:
    row = SpecialistFit(
        role=role, n_outcomes=n_outcomes, fitted=fitted.as_json(), report=asdict(judged)
    )
    decision = decisions.decide(
        session,
        RULE,
        {**asdict(judged), "n_outcomes": n_outcomes},
        limits or SpecialistThresholds(),
        role=role,
        subject_id=row.id,
        actor=actor,
    )
    row.decision_id = decision.id
    row.report = {**row.report, "outcome": decision.outcome, "reasons": list(decision.reasons)}
    session.add(row)
    session.flush()
    return row
