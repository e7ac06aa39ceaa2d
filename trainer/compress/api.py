"""HTTP door of compression: order a version with fewer bits, or with fewer heads or neurons."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from foundation.database import explain_row, session_scope
from trainer.compress.tasks import start_prune, start_quantize
from trainer.recipe import Recipe
from trainer.registry import get_version

routes = APIRouter(prefix="/v1", tags=["trainer"])


class QuantizeOrder(BaseModel):
    """Fewer bits per weight: int8, int4, nf4 or fp8."""

    to: str


class PruneOrder(BaseModel):
    """Fewer heads or neurons; `recover` is a recipe of the training afterwards."""

    what: str = "neurons"
    share: float = 0.3
    dataset_id: UUID | None = None
    recover: dict[str, Any] | None = None


@routes.post("/model-versions/{name_or_id}/quantize", status_code=202)
def order_quantized(name_or_id: str, order: QuantizeOrder) -> dict[str, Any]:
    """Queue a version with fewer bits per weight and return its run."""
    with session_scope() as session:
        return explain_row(start_quantize(session, get_version(session, name_or_id), order.to))


@routes.post("/model-versions/{name_or_id}/prune", status_code=202)
def order_pruned(name_or_id: str, order: PruneOrder) -> dict[str, Any]:
    """Queue a version with fewer heads or neurons and return its run."""
    recover = Recipe.from_dict(order.recover) if order.recover is not None else None
    with session_scope() as session:
        run = start_prune(
            session,
            get_version(session, name_or_id),
            order.share,
            what=order.what,
            dataset_id=order.dataset_id,
            recover=recover,
        )
        return explain_row(run)
