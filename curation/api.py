"""Datasets over HTTP: list, read, compare and download versions, ask for a new one."""

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field
from sqlmodel import col, select
from starlette.background import BackgroundTask

from curation.export import card_page, get_dataset, write_export
from curation.publish.diff import diff
from curation.publish.formats import PARQUET
from curation.recipe import CurationRecipe
from curation.tables import Dataset
from curation.tasks import ask_for_build
from foundation.database import explain_row, session_scope
from foundation.lone_page import CONTENT_POLICY

routes = APIRouter(prefix="/v1/datasets", tags=["datasets"])


class BuildRequest(BaseModel):
    """What to build: a role, and the recipe's fields that differ from their defaults."""

    role: str
    recipe: dict[str, Any] = Field(default_factory=dict)
    kind: Literal["sft", "preference", "eval"] = "sft"
    helpers: int = Field(default=0, ge=0, le=64, description="Workers that may work along.")


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


@routes.get("/{dataset_id}/card")
def read_card_page(dataset_id: UUID) -> HTMLResponse:
    """Return the card of a version as a page of its own."""
    with session_scope() as session:
        page = card_page(session, dataset_id)
    return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_POLICY})


@routes.get("/{dataset_id}/diff")
def compare_datasets(dataset_id: UUID, with_id: UUID) -> dict[str, Any]:
    """Return what the version has that version `with_id`, the older one, has not, and so on."""
    with session_scope() as session:
        return diff(session, with_id, dataset_id).as_json()


@routes.get("/{dataset_id}/download")
def download(dataset_id: UUID, format: str = PARQUET) -> FileResponse:
    """Return a version as a zip file, in one of the formats of `flywheel dataset export`."""
    folder = Path(mkdtemp(prefix="flywheel-download-"))
    try:
        with session_scope() as session:
            dataset = get_dataset(session, dataset_id)
            name = f"{dataset.role}-{dataset.kind}-v{dataset.number}-{format}"
            write_export(session, dataset_id, folder / "files", format)
        archive = shutil.make_archive(str(folder / "archive"), "zip", folder / "files")
    except BaseException:
        shutil.rmtree(folder)
        raise
    return FileResponse(
        archive,
        filename=f"{name}.zip",
        media_type="application/zip",
        background=BackgroundTask(shutil.rmtree, folder),
    )


@routes.post("", status_code=202)
def start_build(wanted: BuildRequest) -> dict[str, Any]:
    """Queue a build and return its run."""
    recipe = CurationRecipe.from_json(wanted.recipe)
    with session_scope() as session:
        run = ask_for_build(session, wanted.role, recipe, wanted.kind, wanted.helpers)
    return explain_row(run)
