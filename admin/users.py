"""Users: who may sign in, as what."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/users")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="users.list")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "users/index.html", Page())
