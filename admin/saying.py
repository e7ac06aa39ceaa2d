"""Feedback in place: a reviewer's word on a call or its episode, by the collector's door."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from fastapi import APIRouter, Form, Request, Response

from admin.calls import get_call
from admin.rendering import link_to
from admin.writing import ByReviewer, see
from collector.feedback import of_statements
from collector.ingest import DUPLICATE, REJECTED, store
from collector.tables import Feedback, Interaction
from foundation.errors import BadInput

routes = APIRouter(prefix="/interactions")

SOURCE: Final = "admin"
"""What the books of capture count statements of the admin view under."""
TEXT_CHARACTERS: Final = 200_000

About = Literal["call", "episode"]


@routes.post("/{id}/feedback", name="interactions.say")
def say(
    request: Request,
    by: ByReviewer,
    id: UUID,
    said: Annotated[str, Form(max_length=40)],
    statement: Annotated[UUID, Form()],
    about: Annotated[About, Form()] = "call",
    text: Annotated[str, Form(max_length=TEXT_CHARACTERS)] = "",
    name: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Store one statement: kind and value in one word, such as `success:1`."""
    with by.changing("feedback.add", "interactions", id) as change:
        call = get_call(change.session, id)
        record = record_of(call, about, said, text, name) | {"actor": by.name}
        key = "\x1f".join((str(id), about, said, name, text))
        record["id"] = str(uuid5(statement, key))
        delivery = of_statements([record], SOURCE)
        (result,) = store(change.session, delivery, keep_refused=False)
        if result.status == REJECTED:
            raise BadInput("feedback", record["kind"], "a statement", result.reason or "")
        kept = change.session.get(Feedback, UUID(result.id))
        change.after(
            {
                "feedback": result.id,
                "kind": record["kind"],
                "value": record.get("value"),
                "about": about,
                "again": result.status == DUPLICATE,
                "characters": len(kept.text or "") if kept else 0,
            }
        )
    return see(
        f"{link_to(request, 'interactions.detail', id=id)}#feedback", "Noted under your name."
    )


def record_of(call: Interaction, about: About, said: str, text: str, name: str) -> dict[str, Any]:
    """Return a feedback record of what a form says; the collector checks the rest. Pure.

    Raises:
        BadInput: the call has no episode to speak of, or the value is no number.
    """
    kind, _, value = said.partition(":")
    if about == "episode" and (call.episode_id is None or kind == "correction"):
        expected = "the call" if call.episode_id is None else "a call: it corrects its answer"
        raise BadInput("subject of feedback", about, expected, "Speak of the call.")
    record: dict[str, Any] = {
        "kind": kind,
        "source": "human",
        "interaction_id": str(call.id) if about == "call" else None,
        "episode_id": str(call.episode_id) if call.episode_id else None,
        "name": name.strip() or None,
        "text": text.replace("\r\n", "\n").strip("\n") if text.strip() else None,
    }
    if value:
        try:
            record["value"] = float(value)
        except ValueError:
            raise BadInput("value of feedback", value, "a number", "Choose a button.") from None
    return {column: one for column, one in record.items() if one is not None}
