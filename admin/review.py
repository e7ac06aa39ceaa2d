"""The review queue: what waits for a person, one card at a time, and how reviewers agree."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/review")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="review")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "review/index.html", Page())
