"""Interactions: the log as a list that is searched, and one call with everything known about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, select
from sqlmodel import Session, col

from admin.calls import detail
from admin.listing import EXPORT_PAGE, Asked, Column, Find, Head, Listing
from admin.log_filters import OUTCOMES, WITH, WITHOUT, Filters
from admin.log_rows import PREVIEW_CHARACTERS, Row, rows_of
from admin.log_walk import Budget, Walked, is_one_of, walk
from admin.paging import WITHIN
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import see
from collector.scrub import kept_name, server_rules
from collector.tables import CUT, ERROR, SUCCESS, Interaction
from curation.tables import Example
from foundation.errors import BadInput, NotFound
from foundation.settings import get_settings
from router.tables import Experiment
from trainer.tables import ModelVersion

__all__ = ["PREVIEW_CHARACTERS", "Filters", "Interaction"]

routes = APIRouter(prefix="/interactions")

EPISODE_LIMIT: Final = 60
RECENT: Final = 1_000
CHOICES: Final = 40
"""Newest versions and experiments that filters offer."""
EXPORT_BUDGET: Final = Budget(calls=200_000, seconds=20.0)
"""Of each page of an export: nobody waits for it before a screen."""

LISTING: Listing[Row] = Listing(
    [
        Column("started_at", "When", lambda row: row.call.started_at, col(Interaction.started_at)),
        Column("role", "Role", lambda row: row.call.role, col(Interaction.role), first="up"),
        Column("texts", "Asked and answered"),
        Column("model", "Model", lambda row: row.model),
        Column("outcome", "Outcome", lambda row: row.outcome),
        Column(
            "latency_ms",
            "Took",
            lambda row: row.call.latency_ms,
            col(Interaction.latency_ms),
            numeric=True,
        ),
        Column(
            "input_tokens",
            "In",
            lambda row: row.call.gen_ai_usage_input_tokens,
            col(Interaction.gen_ai_usage_input_tokens),
            numeric=True,
        ),
        Column(
            "output_tokens",
            "Out",
            lambda row: row.call.gen_ai_usage_output_tokens,
            col(Interaction.gen_ai_usage_output_tokens),
            numeric=True,
        ),
        Column(
            "cost_usd",
            "Cost",
            lambda row: row.call.cost_usd,
            col(Interaction.cost_usd),
            numeric=True,
        ),
        Column("id", "", lambda row: str(row.call.id)),
        Column("status", "", lambda row: row.call.status),
        Column("task_type", "", lambda row: row.call.task_type),
        Column("project", "", lambda row: row.call.project),
        Column("episode_id", "", lambda row: row.call.episode_id and str(row.call.episode_id)),
        Column("unit_id", "", lambda row: row.call.unit_id),
        Column("arm", "", lambda row: row.call.arm),
        Column("source", "", lambda row: row.call.source),
        Column("error_type", "", lambda row: row.call.error_type),
        Column("ttft_ms", "", lambda row: row.call.ttft_ms),
        Column("finish_reasons", "", lambda row: row.call.gen_ai_response_finish_reasons),
        Column("key", "", lambda row: row.call.key),
        Column("response_id", "", lambda row: row.call.gen_ai_response_id),
        Column("asked", "", lambda row: row.asked),
        Column("answered", "", lambda row: row.answered),
    ],
    key=col(Interaction.id),
    name="interactions",
)


@dataclass(frozen=True)
class Choices:
    """Values the filters offer: configured roles, and words of the most recent calls."""

    roles: Sequence[str] = ()
    sources: Sequence[str] = ()
    task_types: Sequence[str] = ()
    models: Sequence[str] = ()
    projects: Sequence[str] = ()
    arms: Sequence[str] = ()
    experiments: Sequence[Experiment] = ()
    statuses: Sequence[str] = (SUCCESS, ERROR, CUT)
    outcomes: Sequence[str] = OUTCOMES
    within: Sequence[str] = tuple(WITHIN)
    scrubbed: Sequence[str] = (WITH, WITHOUT)


@dataclass(frozen=True)
class Searched:
    """How far a search came before its budget was spent, and the address that goes on."""

    back_to: datetime | None
    n_calls: int
    """Calls that were looked at, those of the pages before included."""
    further: dict[str, str]
    goes_on: bool
    """Whether it goes on by itself, having been told to and found nothing yet."""


@dataclass(frozen=True)
class Listed:
    """A page of the log: a table, and where a search for more goes on."""

    rows: Sequence[Row]
    heads: Sequence[Head]
    query: dict[str, str]
    older: dict[str, str] | None = None
    searched: Searched | None = None
    window: int | None = None
    """Of a table in another order: the newest calls that fit and were sorted, if not all."""
    looked_back_to: datetime | None = None
    """Of a table in another order: how far was looked, if not to the end."""

    @property
    def width(self) -> int:
        """How many columns it has."""
        return len(self.heads)


@dataclass(frozen=True)
class ListPage:
    """The list of interactions."""

    filters: Filters
    table: Listed
    choices: Choices
    address: str = ""
    """Of this service, for the lines that wrap an agent's client."""

    @property
    def has_more_filters(self) -> bool:
        """Whether a filter is set that is not among the first."""
        return bool(self.filters.query.keys() - {"q", "role", "outcome", "within"})

    @property
    def other_experiment(self) -> bool:
        """Whether the experiment asked for is not among those offered."""
        offered = {str(one.id) for one in self.choices.experiments}
        return self.filters.experiment not in {"", *offered}


@routes.get("", name="interactions.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
    looked: Annotated[int, Query(ge=0, le=10**12)] = 0,
    hunt: bool = False,
) -> Response:
    """Show the log, newest first."""
    if asked.format:
        return _export(filters, asked)
    table = list_rows(session, filters, asked, looked, hunt)
    choices = Choices() if wants_rows(request) else recent_choices(session)
    template = "interactions/_rows.html" if wants_rows(request) else "interactions/list.html"
    address = str(request.base_url).removesuffix("/").removesuffix("/admin")
    return render(request, template, ListPage(filters, table, choices, address))


@routes.get("/find", name="interactions.find")
def find(request: Request, session: Reading, id: str = "") -> Response:
    """Lead to the call or the episode of an id, a caller's key or a provider's response id."""
    route, identifier = whose(session, id.strip())
    return see(link_to(request, route, id=identifier))


@routes.get("/{id}", name="interactions.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one call."""
    return render(request, "interactions/detail.html", detail(session, id))


def list_rows(
    session: Session,
    filters: Filters,
    asked: Asked | None = None,
    looked: int = 0,
    hunt: bool = False,
) -> Listed:
    """Return one page of calls that fit.

    Args:
        session: to read by.
        filters: what must fit.
        asked: order and cursor; None: the first page, newest first.
        looked: calls that the pages before have looked at in vain.
        hunt: whether to go on by itself while nothing is found.

    Raises:
        BadInput: a filter, the order or the cursor is none.
    """
    asked = asked or Asked("", "", "")
    if asked.sort:
        return _sorted(session, filters, asked)
    before = _id(asked.before) if asked.before else None
    walked = walk(session, filters, before, LISTING.size + 1)
    ids = walked.ids[: LISTING.size]
    table = Listed(
        rows_of(session, ids, filters.words), LISTING.heads(asked, filters.query), filters.query
    )
    if len(walked.ids) > LISTING.size:
        return replace(table, older={**filters.query, "before": str(ids[-1])})
    if walked.ended:
        return table
    n = looked + walked.n_looked
    further = {**filters.query, "before": str(walked.until), "looked": str(n), "hunt": "1"}
    return replace(table, searched=Searched(walked.reached, n, further, hunt and not ids))


def _sorted(session: Session, filters: Filters, asked: Asked) -> Listed:
    """Return a page in another order: that of the newest calls that fit and were found in time."""
    walked = walk(session, filters, None, LISTING.window)
    ids, older = LISTING.rows(session, _these(filters, walked), asked, LISTING.size)
    query = {**filters.query, "sort": asked.sort}
    is_cut = len(walked.ids) == LISTING.window
    return Listed(
        rows_of(session, ids, filters.words),
        LISTING.heads(asked, filters.query),
        query,
        {**query, "before": older} if older else None,
        window=len(walked.ids) if is_cut or not walked.ended else None,
        looked_back_to=None if walked.ended or is_cut else walked.reached,
    )


def _these(filters: Filters, walked: Walked) -> Select[Any]:
    """Return the query of the ids found, within their range: few partitions are planned for."""
    ids, key = walked.ids, col(Interaction.id)
    query = select(key)
    if filters.conditions() or filters.words or not ids:
        query = query.where(is_one_of(Interaction, ids))
    return query.where(key.between(ids[-1], ids[0])) if ids else query


def _export(filters: Filters, asked: Asked) -> Response:
    """Answer with every call that fits; in another order, those that its page would sort."""

    def newest_first(session: Session, before: str) -> tuple[list[Any], str | None]:
        at = _id(before) if before else None
        walked = walk(session, filters, at, EXPORT_PAGE, EXPORT_BUDGET)
        if walked.ended:
            return list(walked.ids), None
        is_full = len(walked.ids) == EXPORT_PAGE
        return list(walked.ids), str(walked.ids[-1] if is_full else walked.until)

    def in_order(session: Session, before: str) -> tuple[list[Any], str | None]:
        walked = walk(session, filters, None, LISTING.window, EXPORT_BUDGET)
        wanted = Asked(asked.sort, before, "")
        return LISTING.rows(session, _these(filters, walked), wanted, EXPORT_PAGE)

    def read(session: Session, ids: Sequence[UUID]) -> Sequence[Row]:
        return rows_of(session, ids)

    finder: Find = in_order if asked.sort else newest_first
    return LISTING.export(select(Interaction), asked, read, finder)


def whose(session: Session, name: str) -> tuple[str, UUID]:
    """Return the route and id of what goes by `name`: a call, an episode, an example, a key.

    Raises:
        NotFound: nothing does, or not any more.
    """
    try:
        identifier = UUID(name)
    except ValueError:
        return "interactions.detail", _of_name(session, name)
    if session.get(Interaction, identifier) is not None:
        return "interactions.detail", identifier
    in_episode = select(col(Interaction.id)).where(col(Interaction.episode_id) == identifier)
    if session.scalars(in_episode.limit(1)).first() is not None:
        return "episodes.detail", identifier
    example = session.get(Example, identifier)
    if example is not None:
        return "interactions.detail", example.interaction_id
    raise _nobody(name)


def _of_name(session: Session, name: str) -> UUID:
    """Return the newest call of a caller's key or a provider's response id, as they are kept."""
    if not name or "\0" in name:
        raise _nobody(name)
    rules = server_rules()
    for column, kind in (
        (Interaction.key, "key"),
        (Interaction.gen_ai_response_id, "response_id"),
    ):
        kept = kept_name(kind, name, rules)
        query = select(col(Interaction.id)).where(col(column) == kept)
        found = session.scalars(query.order_by(col(Interaction.id).desc()).limit(1)).first()
        if found is not None:
            return found
    raise _nobody(name)


def _nobody(name: str) -> NotFound:
    return NotFound(
        "id",
        name,
        "that of a call, episode or example that is still kept, a key or a response id",
        "Copy it whole; or look for a text in the list of interactions.",
    )


def _id(cursor: str) -> UUID:
    try:
        return UUID(cursor)
    except ValueError:
        raise BadInput(
            "before", cursor, "the cursor of a page of this table", "Begin without it."
        ) from None


def recent_choices(session: Session) -> Choices:
    """Return what the filters offer, looking at the last calls only, never at the whole log."""
    columns = ("role", "source", "task_type", "gen_ai_response_model", "project", "arm")
    recent = session.execute(
        select(*(col(getattr(Interaction, name)) for name in columns))
        .order_by(col(Interaction.id).desc())
        .limit(RECENT)
    ).all()
    roles, *others = ({row[place] for row in recent} - {None} for place in range(len(columns)))
    sources, task_types, models, projects, arms = (sorted(values) for values in others)
    versions = session.scalars(
        select(col(ModelVersion.name)).order_by(col(ModelVersion.id).desc()).limit(CHOICES)
    ).all()
    experiments = session.scalars(
        select(Experiment).order_by(col(Experiment.id).desc()).limit(CHOICES)
    ).all()
    return Choices(
        tuple(dict.fromkeys([*get_settings().roles, *sorted(roles)])),
        sources,
        task_types,
        tuple(dict.fromkeys([*models, *versions])),
        projects,
        arms,
        experiments,
    )
