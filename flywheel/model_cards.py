"""Model cards with all that the house knows, and the HTTP door of cards and differences."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from foundation.database import session_scope
from foundation.lone_page import CONTENT_POLICY
from router.service_record import record_of
from trainer.card import card, page
from trainer.diff import diff
from trainer.registry import get_version

routes = APIRouter(prefix="/v1/model-versions", tags=["trainer"])


def whole_card(session: Session, name_or_id: str) -> dict[str, Any]:
    """Return a version's card with what became of it since; raises NotFound."""
    version = get_version(session, name_or_id)
    return card(session, version, record_of(session, version))


@routes.get("/{name_or_id}/card")
def read_card(name_or_id: str) -> dict[str, Any]:
    """Return a version's card."""
    with session_scope() as session:
        return whole_card(session, name_or_id)


@routes.get("/{name_or_id}/card.html", response_class=HTMLResponse)
def read_card_page(name_or_id: str) -> HTMLResponse:
    """Return a version's card as a page of its own."""
    with session_scope() as session:
        shown = page(whole_card(session, name_or_id))
    return HTMLResponse(shown, headers={"Content-Security-Policy": CONTENT_POLICY})


@routes.get("/{name_or_id}/diff/{other}")
def read_difference(name_or_id: str, other: str) -> dict[str, Any]:
    """Return what differs from one version to another."""
    with session_scope() as session:
        pair = get_version(session, name_or_id), get_version(session, other)
        return diff(session, *pair).as_json()
