"""What users prefer: the choices they made between an answer of one version and one of another.

A thumb up or down is `success` feedback on a call and counts as its unit's outcome. A choice
between two shown answers is `preference` feedback: the call of the better answer, and the loser's.
Between the two versions of an experiment it is a pair that decides itself, so no arm is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlmodel import Session

from router.tables import Experiment


@dataclass(frozen=True)
class Choice:
    """One person's choice, the first on its task."""

    treatment_won: bool
    made_at: datetime


_CHOICES = text(
    """
    SELECT DISTINCT ON (task) won, created_at FROM (
        SELECT coalesce(winner.episode_id, loser.episode_id, winner.id) AS task,
               winner.model_version_id = :treatment AS won, said.created_at, said.id
        FROM feedback said
        JOIN interaction winner ON winner.id = said.interaction_id
        JOIN interaction loser ON loser.id = said.loser_interaction_id
        WHERE said.kind = 'preference' AND said.ingested_at >= :since
          AND said.source IN ('human', 'user')
          AND winner.role = :role AND loser.role = :role
          AND (winner.model_version_id, loser.model_version_id)
              IN ((:treatment, :control), (:control, :treatment))
    ) made ORDER BY task, created_at, id
    """
)


def read_choices(session: Session, experiment: Experiment) -> Sequence[Choice]:
    """Return the choices between an experiment's two versions since its start, oldest first.

    Of several on one task the first counts: who chooses twice would count twice.
    """
    rows = session.execute(
        _CHOICES,
        {
            "treatment": experiment.treatment_model_version_id,
            "control": experiment.control_model_version_id,
            "role": experiment.role,
            "since": experiment.started_at,
        },
    ).all()
    return sorted((Choice(*row) for row in rows), key=lambda choice: choice.made_at)
