"""HTTP door of the room: order and follow trainings, read the model registry."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlmodel import col, select

from foundation.database import explain_row, session_scope
from foundation.runs import get_run
from trainer.launch import Launch
from trainer.methods import METHODS
from trainer.recipe import PRESETS, Recipe
from trainer.recipe.by_role import recipe_of
from trainer.registry import get_training, get_version, list_versions, require_role
from trainer.tables import TrainingRun
from trainer.tasks import start_training

routes = APIRouter(prefix="/v1", tags=["trainer"])


class TrainingOrder(BaseModel):
    """A training to start; `recipe` is a set of recipe fields, `preset` among them.

    Without `recipe` it is the role's own. `dataset_id` is needed but for methods that answer the
    tasks of a `suite`; `from_version` is the name or id of a version to go on from. `launch`
    spreads it over several processes. An unknown field is refused.
    """

    model_config = ConfigDict(extra="forbid")
    role: str
    dataset_id: UUID | None = None
    suite: str | None = None
    base_model: str | None = None
    from_version: str | None = None
    recipe: dict[str, Any] = {}
    is_control: bool = False
    launch: Launch | None = None


@routes.post("/trainings", status_code=202)
def order_training(order: TrainingOrder) -> dict[str, Any]:
    """Queue a training and return its row."""
    require_role(order.role)
    recipe = Recipe.from_dict(order.recipe) if order.recipe else recipe_of(order.role)
    with session_scope() as session:
        training = start_training(
            session,
            order.role,
            order.dataset_id,
            order.base_model,
            recipe,
            is_control=order.is_control,
            suite=order.suite,
            earlier=get_version(session, order.from_version) if order.from_version else None,
            launch=order.launch,
        )
        return explain_row(training)


@routes.get("/trainings")
def list_trainings(role: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """Return the latest trainings, newest first, without their histories."""
    query = select(TrainingRun).order_by(col(TrainingRun.id).desc()).limit(limit)
    if role is not None:
        query = query.where(TrainingRun.role == role)
    with session_scope() as session:
        return [row.model_dump(mode="json", exclude={"history"}) for row in session.exec(query)]


@routes.get("/trainings/{training_id}")
def read_training(training_id: UUID) -> dict[str, Any]:
    """Return a training with the state of its run."""
    with session_scope() as session:
        training = get_training(session, training_id)
        run = get_run(session, training.run_id)
        return {**explain_row(training), "run": explain_row(run)}


@routes.get("/recipes")
def list_recipes() -> dict[str, dict[str, Any]]:
    """Return the recipe presets by name."""
    return {name: recipe.to_dict() for name, recipe in PRESETS.items()}


@routes.get("/methods")
def list_methods() -> dict[str, dict[str, Any]]:
    """Return the training methods by name: what each reads and makes."""
    return {name: asdict(method) for name, method in METHODS.items()}


@routes.get("/model-versions")
def list_model_versions(role: str | None = None, stage: str | None = None) -> list[dict[str, Any]]:
    """Return the versions of one role or stage, or all, newest first."""
    with session_scope() as session:
        return [explain_row(version) for version in list_versions(session, role, stage)]


@routes.get("/model-versions/{name_or_id}")
def read_model_version(name_or_id: str) -> dict[str, Any]:
    """Return one version by name or id."""
    with session_scope() as session:
        return explain_row(get_version(session, name_or_id))
