"""A round of preference learning from what people and tests said since: curate pairs, train on.

New feedback (preferences, corrections, ratings, outcomes) becomes a version of the role's
preference dataset, and DPO goes on with who serves the role. The result is a candidate like any
other: it is benchmarked, tried and promoted as such. Every step is a row: a round that is started
again finds its dataset, and the training that it ordered.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from curation.build import build_dataset
from curation.export import get_dataset
from curation.recipe import CurationRecipe
from curation.tables import PREFERENCE, Dataset
from foundation.database import session_scope
from foundation.errors import BadInput, NotFound
from foundation.runs import RunHandle, enqueue, job
from foundation.tables import CANCELLED, FAILED, Run
from router.promote import serving_version
from trainer.methods import ADAPTER, METHODS
from trainer.recipe import DPO, Recipe
from trainer.recipe.preference import PLAN_LR
from trainer.tables import ModelVersion, TrainingRun
from trainer.tasks import start_training

JOB: Final = "flywheel.preference_round"
ORDERED, NOTHING_NEW, TOO_FEW = "training", "nothing new", "too few pairs"
LEAST_PAIRS: Final = 20
"""Training pairs of a dataset that is worth a round."""


@dataclass(frozen=True)
class Ended:
    """What a round came to.

    Attributes:
        outcome: training, nothing new (who serves learned from these very pairs, or a training
            from it has), or too few pairs.
        dataset_id: the pairs.
        n_pairs: in its train split.
        training_run_id: of the training that was ordered, now or before; None: none was.
        training_job: its run.
    """

    outcome: str
    dataset_id: UUID
    n_pairs: int
    training_run_id: UUID | None = None
    training_job: UUID | None = None


def preference_round(
    session: Session,
    role: str,
    recipe: Recipe | None = None,
    least_pairs: int = LEAST_PAIRS,
    ordered_by: str = "person",
) -> Run:
    """Order a round and return its run; it is sent once the caller's transaction commits.

    Args:
        session: of the surrounding transaction.
        role: somebody must serve it.
        recipe: of the training; its method must learn from pairs. None: DPO at the plan's rate.
        least_pairs: training pairs below which nothing is trained.
        ordered_by: person, schedule, or the trigger that fired.

    Raises:
        NotFound: nobody serves the role.
        BadInput: a method that learns from no pairs or makes no adapter, or fewer than one pair.
    """
    recipe = recipe or replace(Recipe(), method=DPO, lr=PLAN_LR)
    method = METHODS[recipe.method]
    if (method.reads, method.makes) != (PREFERENCE, ADAPTER):
        raise BadInput("recipe.method", recipe.method, "dpo, kto or orpo", "Name one of them.")
    if least_pairs < 1:
        raise BadInput("least pairs", least_pairs, "at least 1", "Correct it.")
    _require_serving(session, role)
    params = {
        "role": role,
        "recipe": recipe.to_dict(),
        "least_pairs": least_pairs,
        "ordered_by": ordered_by,
    }
    return enqueue(session, JOB, params, role=role)


@job(JOB)
def do_round(
    run: RunHandle, *, role: str, recipe: dict[str, Any], least_pairs: int, ordered_by: str
) -> dict[str, Any]:
    """Curate the role's pairs, and order the training if there is anything new in them."""
    dataset = build_dataset(
        role,
        CurationRecipe(),
        kind=PREFERENCE,
        run_id=run.id,
        progress=run.progress,
        check=run.check,
    )
    with session_scope() as session:
        ended = _train(session, role, dataset.id, Recipe.from_dict(recipe), least_pairs, ordered_by)
    run.lines.say("INFO", f"{ended.outcome}: {ended.n_pairs:,} pairs to learn from")
    return {name: _plain(value) for name, value in asdict(ended).items()}


def _train(
    session: Session,
    role: str,
    dataset_id: UUID,
    recipe: Recipe,
    least_pairs: int,
    ordered_by: str,
) -> Ended:
    dataset, serving = get_dataset(session, dataset_id), _require_serving(session, role)
    if dataset.n_train < least_pairs:
        return Ended(TOO_FEW, dataset.id, dataset.n_train)
    known = _known(session, serving, dataset, recipe.method)
    if known is not None:
        return Ended(NOTHING_NEW, dataset.id, dataset.n_train, known.id, known.run_id)
    earlier = serving if serving.kind == ADAPTER else None
    training = start_training(
        session,
        role,
        dataset.id,
        serving.base_model,
        recipe,
        earlier=earlier,
        ordered_by=ordered_by,
    )
    return Ended(ORDERED, dataset.id, dataset.n_train, training.id, training.run_id)


def _known(
    session: Session, serving: ModelVersion, dataset: Dataset, method: str
) -> TrainingRun | None:
    """Return the training that learned, or is to learn, these pairs from this version.

    Who serves may itself be what these pairs made. A training that failed is no reason not to.
    """
    earlier = serving.id if serving.kind == ADAPTER else None
    from_here = col(TrainingRun.from_version_id).is_not_distinct_from(earlier)
    asked_for = from_here & (col(TrainingRun.method) == method)
    query = (
        select(TrainingRun)
        .join(Run, col(Run.id) == col(TrainingRun.run_id))
        .where(
            TrainingRun.dataset_id == dataset.id,
            asked_for | (col(TrainingRun.id) == serving.training_run_id),
            col(Run.status).not_in((FAILED, CANCELLED)),
        )
        .order_by(col(TrainingRun.id).desc())
    )
    return session.exec(query).first()


def _require_serving(session: Session, role: str) -> ModelVersion:
    serving = serving_version(session, role)
    if serving is None:
        raise NotFound(
            "version that serves",
            role,
            "a role that somebody serves",
            f"Train one and promote it first: flywheel train --role {role}",
        )
    return serving


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
