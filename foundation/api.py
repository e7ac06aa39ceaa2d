"""HTTP door of long jobs: look at one, cancel it, queue it again."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter

from foundation import runs
from foundation.database import explain_row, session_scope

routes = APIRouter(prefix="/v1/runs", tags=["runs"])


@routes.get("/{run_id}")
def read_run(run_id: UUID) -> dict[str, Any]:
    """Return a job with its progress, and its result or error."""
    with session_scope() as session:
        return explain_row(runs.get_run(session, run_id))


@routes.post("/{run_id}/cancel")
def cancel_run(run_id: UUID) -> dict[str, Any]:
    """Cancel a queued or running job; its worker stops at its next safe point."""
    with session_scope() as session:
        return explain_row(runs.cancel(session, run_id))


@routes.post("/{run_id}/retry")
def retry_run(run_id: UUID) -> dict[str, Any]:
    """Queue a failed, cancelled or lost job again, as the same run."""
    with session_scope() as session:
        return explain_row(runs.retry(session, run_id))
