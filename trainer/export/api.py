"""HTTP door of exports: order them, merges and combinations; list what is published."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from foundation.database import explain_row, session_scope
from trainer.export import FORMATS
from trainer.export.tasks import list_exports, start_combine, start_export, start_merge
from trainer.registry import get_version

routes = APIRouter(prefix="/v1", tags=["trainer"])


class ExportOrder(BaseModel):
    """A version in a format of others; `suite` to compare pass rates, too."""

    format: str
    suite: str | None = None


class CombineOrder(BaseModel):
    """Adapters with their weights, by name."""

    weights: dict[str, float]
    role: str
    how: str = "cat"
    rank: int | None = None


@routes.get("/export-formats")
def list_formats() -> dict[str, dict[str, Any]]:
    """Return the formats by name, with the kinds of versions that can be written so."""
    return {name: {"kinds": f.kinds, "about": f.about} for name, f in FORMATS.items()}


@routes.post("/model-versions/{name_or_id}/exports", status_code=202)
def order_export(name_or_id: str, order: ExportOrder) -> dict[str, Any]:
    """Queue an export and return its run."""
    with session_scope() as session:
        version = get_version(session, name_or_id)
        return explain_row(start_export(session, version, order.format, order.suite))


@routes.get("/model-versions/{name_or_id}/exports")
def read_exports(name_or_id: str) -> list[dict[str, Any]]:
    """Return what is published of a version, newest first."""
    with session_scope() as session:
        version = get_version(session, name_or_id)
        return [explain_row(export) for export in list_exports(session, version)]


@routes.post("/model-versions/{name_or_id}/merge", status_code=202)
def order_merge(name_or_id: str) -> dict[str, Any]:
    """Queue a merge and return its run."""
    with session_scope() as session:
        return explain_row(start_merge(session, get_version(session, name_or_id)))


@routes.post("/model-versions/combine", status_code=202)
def order_combination(order: CombineOrder) -> dict[str, Any]:
    """Queue a combination and return its run."""
    with session_scope() as session:
        versions = [get_version(session, name) for name in order.weights]
        weights = list(order.weights.values())
        run = start_combine(session, versions, weights, order.how, order.role, order.rank)
        return explain_row(run)
