"""The audit log: what each person changed, with before and after."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/audit")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="audit.list")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "audit/index.html", Page())
