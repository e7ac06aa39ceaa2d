"""Keys to the gateway: shown once, rotated, revoked."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/keys")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="keys.list")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "keys/index.html", Page())
