"""What users prefer: the choices they made between an answer of one version and one of another.

A thumb up or down is `success` feedback on a call and counts as its unit's outcome. A choice
between two shown answers is `preference` feedback: the call of the better answer, and the loser's.
Between the two versions of an experiment it is a pair that decides itself, so no arm is guessed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import is_heard, source_of
from router.tables import Experiment


@dataclass(frozen=True)
class Choice:
    """One person's choice, the first that came from its source on its task."""

    treatment_won: bool
    made_at: datetime
    task: str
    source: str
    heard_at: datetime


_CHOICES = text(
    f"""
    SELECT DISTINCT ON (task, source) won, created_at, task::text, source, ingested_at FROM (
        SELECT coalesce(winner.episode_id, loser.episode_id, winner.id) AS task,
               winner.model_version_id = :treatment AS won, said.created_at, said.id,
               {source_of("said")} AS source, said.ingested_at
        FROM feedback said
        JOIN interaction winner ON winner.id = said.interaction_id
        JOIN interaction loser ON loser.id = said.loser_interaction_id
        WHERE said.kind = 'preference' AND said.ingested_at >= :since
          AND said.source IN ('human', 'user') AND {is_heard("said")}
          AND winner.role = :role AND loser.role = :role
          AND (winner.model_version_id, loser.model_version_id)
              IN ((:treatment, :control), (:control, :treatment))
    ) made ORDER BY task, source, created_at, id
    """
)


def read_choices(session: Session, experiment: Experiment) -> Sequence[Choice]:
    """Return the choices between an experiment's two versions since its start, oldest first.

    Of several on one task the first counts: who chooses twice would count twice.
    """
    return first_choices(read_all_choices(session, experiment), lambda one: one.made_at)


def first_choices(
    choices: Iterable[Choice], order: Callable[[Choice], datetime]
) -> Sequence[Choice]:
    """Return the first choice on each task, the oldest first."""
    first: dict[str, Choice] = {}
    for choice in sorted(choices, key=order):
        first.setdefault(choice.task, choice)
    return list(first.values())


def read_all_choices(session: Session, experiment: Experiment) -> Sequence[Choice]:
    """Return of each task the first choice of each source, since an experiment's start."""
    rows = session.execute(
        _CHOICES,
        {
            "treatment": experiment.treatment_model_version_id,
            "control": experiment.control_model_version_id,
            "role": experiment.role,
            "since": experiment.started_at,
        },
    ).all()
    return [Choice(*row) for row in rows]
