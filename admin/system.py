"""System: the books of capture, spools, partitions, retention, versions."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/system")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="system")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "system/index.html", Page())
