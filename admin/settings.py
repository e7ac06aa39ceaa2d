"""Settings: the effective values, secrets masked."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/settings")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="settings")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "settings/index.html", Page())
