"""Erase a call or its episode, for good: first what it would reach, then a reason and a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from psycopg.errors import LockNotAvailable, QueryCanceled
from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col

from admin.access.people import ADMIN
from admin.calls import get_call
from admin.rendering import Reading, link_to, render
from admin.writing import ByAdmin, Reason, needs, see
from collector.erase import EPISODE, INTERACTION, Subject, interactions_of, n_neighbours
from collector.tables import Feedback, Interaction
from curation import erase as erasing
from curation.tables import Dataset, DatasetExample, Erasure, Example, PreferencePair
from foundation.errors import BadInput, Conflict, NotFound
from router.erase import erase as erase_everywhere
from router.erase import sought_of
from router.erase_proof import certificate, prove
from trainer.lineage import learned_from

routes = APIRouter(prefix="/interactions")

WORD: Final = "ERASE"
LOCK_MS: Final = 10_000
"""How long an erasure waits for the builds at work, which it must hold."""
LONGEST_MS: Final = 120_000
SEARCH_MS: Final = 20_000
"""How long the search for what is left may take in one table."""
SHOWN: Final = 100

Scope = Literal["interaction", "episode"]


@dataclass(frozen=True)
class ErasePage:
    """What an erasure would reach."""

    call: Interaction
    scope: Scope
    n_calls: int
    n_neighbours: int
    """Other calls of the episode, which may quote it."""
    n_feedback: int
    n_examples: int
    n_pairs: int
    datasets: Sequence[Dataset]
    models: Sequence[str]
    word: str = WORD


@dataclass(frozen=True)
class ErasedPage:
    """What an erasure did."""

    erasure: Erasure
    datasets: Sequence[Dataset]
    counts: Sequence[tuple[str, int]]
    n_neighbours: int
    remaining: Sequence[tuple[str, int]] | None
    """Rows that still say it, by table; None: nobody searched to the end."""


@routes.get("/erased/{id}", name="erasing.done", dependencies=[Depends(needs(ADMIN))])
def show_done(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show what an erasure did."""
    erasure = _erasure(session, id)
    remaining = (erasure.proof or {}).get("remaining")
    ids = [UUID(one) for one in erasure.dataset_ids[:SHOWN]]
    counts = {
        name: n
        for name, n in erasure.counts.items()
        if name not in (erasing.FILES, erasing.NEIGHBOURS)
    }
    page = ErasedPage(
        erasure,
        _datasets(session, ids),
        sorted(counts.items()),
        int(erasure.counts.get(erasing.NEIGHBOURS, 0)),
        None if remaining is None else sorted(remaining.items()),
    )
    return render(request, "interactions/erased.html", page)


@routes.get(
    "/erased/{id}/certificate.json",
    name="erasing.certificate",
    dependencies=[Depends(needs(ADMIN))],
)
def download_certificate(session: Reading, id: UUID) -> JSONResponse:
    """Answer the certificate of an erasure, which names nobody."""
    said = certificate(session, _erasure(session, id))
    name = f'attachment; filename="erasure-{id}.json"'
    return JSONResponse(said, headers={"Content-Disposition": name})


@routes.get("/{id}/erase", name="erasing.ask", dependencies=[Depends(needs(ADMIN))])
def ask(request: Request, session: Reading, id: UUID, scope: Scope = "interaction") -> HTMLResponse:
    """Show what erasing a call, or all calls of its episode, would reach."""
    return render(request, "interactions/erase.html", erase_page(session, id, scope))


@routes.post("/{id}/erase", name="erasing.erase")
def erase(
    request: Request,
    by: ByAdmin,
    id: UUID,
    scope: Annotated[Scope, Form()],
    word: Annotated[str, Form(max_length=40)],
    reason: Reason,
) -> Response:
    """Erase for good, through the stages' own erasure; the audit log keeps what was said of it."""
    if word.strip() != WORD:
        raise BadInput("word", word, WORD, "Nothing was erased. Write it in capitals.")
    try:
        with by.changing("interaction.erase", scope, "", reason) as change:
            session = change.session
            session.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
            session.execute(text(f"SET LOCAL statement_timeout = {LONGEST_MS}"))
            subject = subject_of(get_call(session, id), scope)
            change.about(scope, subject.digest)
            sought = sought_of(session, subject)
            account = erase_everywhere(session, subject, actor=by.name, reason=reason)
            change.after(
                {
                    "erasure": str(account.id),
                    "counts": {k: n for k, n in account.counts.items() if k != erasing.FILES},
                    "datasets": account.dataset_ids,
                    "models": account.model_versions,
                }
            )
    except DBAPIError as error:
        if not isinstance(error.orig, (LockNotAvailable, QueryCanceled)):
            raise
        raise Conflict(
            "erasure",
            scope,
            "no build of curation at work",
            "Nothing was erased. Try again when it is done, or let flywheel erase wait for it.",
        ) from error
    prove(account, sought, longest_ms=SEARCH_MS)
    return see(link_to(request, "erasing.done", id=account.id))


def _erasure(session: Session, identifier: UUID) -> Erasure:
    erasure = session.get(Erasure, identifier)
    if erasure is None:
        raise NotFound("erasure", str(identifier), "the id of an erasure", "See the audit log.")
    return erasure


def subject_of(call: Interaction, scope: Scope) -> Subject:
    """Return what is to be erased; raises BadInput if the call has no episode."""
    if scope == INTERACTION:
        return Subject(INTERACTION, (str(call.id),))
    if call.episode_id is None:
        raise BadInput("episode", None, "a call with an episode", "Erase the call.")
    return Subject(EPISODE, (str(call.episode_id),))


def erase_page(session: Session, identifier: UUID, scope: Scope) -> ErasePage:
    """Return what an erasure would reach, read only: nothing is tried out, no build is held."""
    call = get_call(session, identifier)
    ids = interactions_of(session, subject_of(call, scope))
    examples = session.scalars(
        select(col(Example.id)).where(col(Example.interaction_id).in_(ids))
    ).all()
    pairs = session.scalars(
        select(col(PreferencePair.id)).where(
            col(PreferencePair.winner_id).in_(ids) | col(PreferencePair.loser_id).in_(ids)
        )
    ).all()
    about: ColumnElement[bool] = col(Feedback.interaction_id).in_(ids)
    if scope == EPISODE:
        about = about | (col(Feedback.episode_id) == call.episode_id)
    held_by = select(col(DatasetExample.dataset_id)).where(
        col(DatasetExample.example_id).in_([*examples, *pairs])
    )
    versions = sorted(session.scalars(held_by.distinct()).all())
    return ErasePage(
        call,
        scope,
        len(ids),
        n_neighbours(session, ids),
        int(session.scalar(select(func.count()).select_from(Feedback).where(about)) or 0),
        len(examples),
        len(pairs),
        _datasets(session, versions[-SHOWN:]),
        learned_from(session, versions),
    )


def _datasets(session: Session, ids: Sequence[UUID]) -> Sequence[Dataset]:
    query = select(Dataset).where(col(Dataset.id).in_(ids)).order_by(col(Dataset.id).desc())
    return session.scalars(query).all()
