"""Trainings: runs with live curves, their recipes beside each other, and what they made."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from admin.rendering import Reading, render

routes = APIRouter(prefix="/trainings")


@dataclass(frozen=True)
class Page:
    """What the page shows."""


@routes.get("", name="trainings.list")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the page."""
    return render(request, "trainings/index.html", Page())
