"""Datasets over HTTP: list and read versions, ask for a new one."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import col, select

import curation.tasks  # noqa: F401  registers curation.build
from curation.build import require_logged_role
from curation.export import get_dataset
from curation.recipe import CurationRecipe
from curation.tables import Dataset
from foundation.database import explain_row, session_scope
from foundation.runs import enqueue

routes = APIRouter(prefix="/v1/datasets", tags=["datasets"])


class BuildRequest(BaseModel):
    """What to build: a role, and the recipe's fields that differ from their defaults."""

    role: str
    recipe: dict[str, Any] = Field(default_factory=dict)


@routes.get("")
def list_datasets(
    role: str | None = None, limit: int = Query(default=100, ge=1, le=1000)
) -> list[dict[str, Any]]:
    """Return dataset versions, newest first, without their cards."""
    query = select(Dataset).order_by(col(Dataset.created_at).desc()).limit(limit)
    if role is not None:
        query = query.where(col(Dataset.role) == role)
    with session_scope() as session:
        rows = [explain_row(dataset) for dataset in session.exec(query)]
    return [{name: value for name, value in row.items() if name != "card"} for row in rows]


@routes.get("/{dataset_id}")
def read_dataset(dataset_id: UUID) -> dict[str, Any]:
    """Return one dataset version with its card."""
    with session_scope() as session:
        return explain_row(get_dataset(session, dataset_id))


@routes.post("", status_code=202)
def start_build(wanted: BuildRequest) -> dict[str, Any]:
    """Queue a build and return its run."""
    recipe = CurationRecipe.from_json(wanted.recipe)
    with session_scope() as session:
        require_logged_role(session, wanted.role)
        params = {"role": wanted.role, "recipe": recipe.as_json()}
        run = enqueue(session, "curation.build", params, role=wanted.role)
    return explain_row(run)
