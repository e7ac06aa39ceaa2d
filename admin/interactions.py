"""Interactions: the log as a list with filters, and one call with everything known about it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import Reading, render, wants_rows
from collector.tables import CUT, ERROR, SUCCESS, Feedback, Interaction, InteractionPayload
from curation.tables import Dataset, DatasetExample, Example
from foundation import chat
from foundation.errors import NotFound
from foundation.ids import first_id_at
from foundation.settings import get_settings
from foundation.tables import now
from router.tables import Experiment
from trainer.tables import ModelVersion

routes = APIRouter(prefix="/interactions")

PREVIEW_CHARACTERS = 220
EPISODE_LIMIT = 60
RECENT = 1_000
WITHIN = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}
"""Names of the time filter, as ranges of the UUIDv7 id, so that whole partitions are skipped."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What a list of interactions is narrowed to; empty means all."""

    role: str = ""
    status: str = ""
    source: str = ""
    task_type: str = ""
    within: str = ""

    def apply(self, query: Select[Any]) -> Select[Any]:
        """Return `query` narrowed to these filters."""
        for column, value in (
            (Interaction.role, self.role),
            (Interaction.status, self.status),
            (Interaction.source, self.source),
            (Interaction.task_type, self.task_type),
        ):
            if value:
                query = query.where(col(column) == value)
        if self.within in WITHIN:
            query = query.where(col(Interaction.id) >= first_id_at(now() - WITHIN[self.within]))
        return query


@dataclass(frozen=True)
class Row:
    """One line of the list: the call, how its texts begin, which version answered, and if it did.

    `worked` is what was said of the call itself, else of its episode; None while nobody has.
    """

    call: Interaction
    asked: str
    answered: str
    version: str | None = None
    worked: bool | None = None


@dataclass(frozen=True)
class Choices:
    """Values the filters offer: configured roles, and words of the most recent calls."""

    roles: Sequence[str]
    sources: Sequence[str]
    task_types: Sequence[str]
    statuses: Sequence[str] = (SUCCESS, ERROR, CUT)
    within: Sequence[str] = tuple(WITHIN)


@dataclass(frozen=True)
class ListPage:
    """The list of interactions."""

    filters: Filters
    rows: Slice[Row]
    choices: Choices


@dataclass(frozen=True)
class Lineage:
    """Where a call went: its examples, the datasets they are in, the models made of these."""

    examples: Sequence[Example] = ()
    datasets: Sequence[Dataset] = ()
    models: Sequence[ModelVersion] = ()


@dataclass(frozen=True)
class DetailPage:
    """One interaction with its payload, feedback, episode and lineage."""

    call: Interaction
    payload: InteractionPayload | None
    messages: Sequence[chat.Message]
    answer: str
    tool_calls: Sequence[dict[str, Any]]
    feedback: Sequence[Feedback]
    episode: Sequence[Interaction]
    experiment: Experiment | None
    model: ModelVersion | None
    lineage: Lineage = field(default_factory=Lineage)

    @property
    def removed(self) -> list[tuple[str, Any]]:
        """What scrubbing removed from this call, counted by kind."""
        return sorted((self.call.scrub or {}).items())


@routes.get("", name="interactions.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show the log, newest first."""
    rows = list_rows(session, filters, before)
    choices = Choices((), (), ()) if wants_rows(request) else recent_choices(session)
    template = "interactions/_rows.html" if wants_rows(request) else "interactions/list.html"
    return render(request, template, ListPage(filters, rows, choices))


@routes.get("/{id}", name="interactions.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one call."""
    return render(request, "interactions/detail.html", detail(session, id))


def list_rows(session: Session, filters: Filters, before: UUID | None = None) -> Slice[Row]:
    """Return one page of calls; the texts are cut in the database, so long prompts stay there."""
    request, response = col(InteractionPayload.request), col(InteractionPayload.response)
    asked = request["messages"][-1]["content"].astext
    answered = response["choices"][0]["message"]["content"].astext
    query = select(
        Interaction, func.left(asked, PREVIEW_CHARACTERS), func.left(answered, PREVIEW_CHARACTERS)
    ).outerjoin(InteractionPayload, col(InteractionPayload.id) == col(Interaction.id))
    page = newest_first(session, filters.apply(query), col(Interaction.id), before)
    calls = [found[0] for found in page.rows]
    versions, worked = versions_of(session, calls), outcomes_of(session, calls)
    return page.map(
        lambda found: Row(
            found[0],
            found[1] or "",
            found[2] or "",
            versions.get(found[0].model_version_id),
            worked.get(found[0].id, worked.get(found[0].episode_id)),
        )
    )


def versions_of(session: Session, calls: Sequence[Interaction]) -> dict[UUID | None, str]:
    """Return the names of the model versions that answered `calls`, by id."""
    ids = {call.model_version_id for call in calls} - {None}
    query = select(col(ModelVersion.id), col(ModelVersion.name))
    return {row[0]: row[1] for row in session.execute(query.where(col(ModelVersion.id).in_(ids)))}


def outcomes_of(session: Session, calls: Sequence[Interaction]) -> dict[UUID | None, bool]:
    """Return whether `calls` worked, by the id of the call or of the episode spoken of.

    The first word stands, as it does for experiments.
    """
    about, episode = col(Feedback.interaction_id), col(Feedback.episode_id)
    episodes = {call.episode_id for call in calls} - {None}
    query = (
        select(func.coalesce(about, episode), col(Feedback.value))
        .where(col(Feedback.kind) == "success", col(Feedback.value).is_not(None))
        .where(about.in_([call.id for call in calls]) | (about.is_(None) & episode.in_(episodes)))
        .order_by(col(Feedback.created_at).desc(), col(Feedback.id).desc())
    )
    return {row[0]: row[1] >= 0.5 for row in session.execute(query)}


def recent_choices(session: Session) -> Choices:
    """Return what the filters offer, looking at the last calls only, never at the whole log."""
    recent = session.execute(
        select(col(Interaction.role), col(Interaction.source), col(Interaction.task_type))
        .order_by(col(Interaction.id).desc())
        .limit(RECENT)
    ).all()
    roles = dict.fromkeys([*get_settings().roles, *sorted({row[0] for row in recent})])
    return Choices(
        tuple(roles),
        sorted({row[1] for row in recent}),
        sorted({row[2] for row in recent if row[2]}),
    )


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return everything known about one call.

    Raises:
        NotFound: no such interaction; its partition may have been dropped.
    """
    call = session.get(Interaction, identifier)
    if call is None:
        raise NotFound(
            "interaction",
            str(identifier),
            "the id of a call that is still kept",
            "Old calls leave with their partition; their examples keep a copy.",
        )
    payload = session.get(InteractionPayload, identifier)
    return DetailPage(
        call=call,
        payload=payload,
        messages=chat.prompt_messages(payload.request) if payload else (),
        answer=chat.answer_text(payload.response) if payload else "",
        tool_calls=chat.tool_calls(payload.response) if payload else (),
        feedback=feedback_on(session, call),
        episode=episode_of(session, call),
        experiment=session.get(Experiment, call.experiment_id) if call.experiment_id else None,
        model=session.get(ModelVersion, call.model_version_id) if call.model_version_id else None,
        lineage=lineage_of(session, identifier),
    )


def feedback_on(session: Session, call: Interaction) -> Sequence[Feedback]:
    """Return what was said about the call or its episode as a whole, oldest first."""
    about = col(Feedback.interaction_id) == call.id
    if call.episode_id is not None:
        of_episode = col(Feedback.episode_id) == call.episode_id
        about = about | (of_episode & col(Feedback.interaction_id).is_(None))
    query = select(Feedback).where(about).order_by(col(Feedback.id)).limit(EPISODE_LIMIT)
    return session.scalars(query).all()


def episode_of(session: Session, call: Interaction) -> Sequence[Interaction]:
    """Return the calls of the same episode in order; only the call itself when it has none."""
    if call.episode_id is None:
        return [call]
    return session.scalars(
        select(Interaction)
        .where(col(Interaction.episode_id) == call.episode_id)
        .order_by(col(Interaction.id))
        .limit(EPISODE_LIMIT)
    ).all()


def lineage_of(session: Session, identifier: UUID) -> Lineage:
    """Follow a call into examples, datasets and models; empty if it was never used."""
    examples = session.scalars(
        select(Example).where(col(Example.interaction_id) == identifier)
    ).all()
    if not examples:
        return Lineage()
    datasets = session.scalars(
        select(Dataset)
        .join(DatasetExample, col(DatasetExample.dataset_id) == col(Dataset.id))
        .where(col(DatasetExample.example_id).in_([example.id for example in examples]))
        .order_by(col(Dataset.id).desc())
        .limit(EPISODE_LIMIT)
    ).all()
    models = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.dataset_id).in_([dataset.id for dataset in datasets]))
        .order_by(col(ModelVersion.id).desc())
    ).all()
    return Lineage(examples, datasets, models)
