"""An episode in time: one lane for each role, and below it the calls in order with what was said.

Bounded: a page has `AT_ONCE` calls, and totals count the first `COUNTED`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlmodel import Session, col

from admin.formats import duration
from admin.log_rows import PREVIEW_CHARACTERS, outcomes_of
from admin.paging import Count
from admin.rendering import Reading, render
from collector.tables import ERROR, Feedback, Interaction, InteractionPayload
from foundation.errors import NotFound

routes = APIRouter(prefix="/episodes")

AT_ONCE: Final = 100
COUNTED: Final = 5_000
SAID: Final = 300
DEEPEST: Final = 4
"""Calls that were caused by others are indented so often at most."""
LEAST_WIDTH: Final = 0.4
"""Percent of the picture that the shortest call takes, to be seen."""
TICKS: Final = 4


@dataclass(frozen=True)
class Step:
    """One call of an episode: when it began in it, what it was about, what was said of it."""

    number: int
    call: Interaction
    asked: str
    answered: str
    tools: Sequence[str]
    offset_s: float
    depth: int
    said: Sequence[Feedback]

    @property
    def took_s(self) -> float:
        """Seconds that it took; 0 where nobody measured."""
        return (self.call.latency_ms or 0.0) / 1000


@dataclass(frozen=True)
class Bar:
    """A call as the picture shows it; across in percent."""

    x: float
    width: float
    is_bad: bool
    title: str


@dataclass(frozen=True)
class Lane:
    """The calls of one role."""

    role: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Tick:
    """A mark of the time since the first call of the picture."""

    x: float
    label: str


@dataclass(frozen=True)
class Timeline:
    """The picture: lanes over a common time."""

    lanes: Sequence[Lane]
    ticks: Sequence[Tick]


@dataclass(frozen=True)
class Totals:
    """What the episode amounts to."""

    calls: Count
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    failed: int
    began: datetime
    ended: datetime
    """When the last call that was counted had its answer."""

    @property
    def wall_s(self) -> float:
        """Seconds from the first call to the end of the last."""
        return (self.ended - self.began).total_seconds()


@dataclass(frozen=True)
class EpisodePage:
    """One episode, or a part of a long one."""

    id: UUID
    totals: Totals
    worked: bool | None
    steps: Sequence[Step]
    timeline: Timeline
    said: Sequence[Feedback]
    """Of the episode as a whole."""
    first: int
    """Number of the first call shown."""
    next: UUID | None
    is_later: bool
    """Whether calls before these are on another page."""
    roles: Mapping[str, int] = field(default_factory=dict)


@routes.get("/{id}", name="episodes.detail")
def show(request: Request, session: Reading, id: UUID, after: UUID | None = None) -> HTMLResponse:
    """Show an episode in time."""
    return render(request, "episodes/detail.html", episode_page(session, id, after))


def episode_page(session: Session, identifier: UUID, after: UUID | None = None) -> EpisodePage:
    """Return an episode's calls after `after` (None: from the first); raises NotFound."""
    totals = totals_of(session, identifier)
    found = _calls(session, identifier, after)
    if totals is None or not found:
        raise NotFound(
            "episode",
            str(identifier),
            "the id of an episode with calls that are still kept",
            "Old calls leave with their partition.",
        )
    calls = [one[0] for one in found[:AT_ONCE]]
    said = _said(session, identifier, calls)
    first = 1 if after is None else 1 + _n_until(session, identifier, after)
    steps = _steps(found[:AT_ONCE], totals.began, said, first)
    worked = outcomes_of(session, calls[:1])
    return EpisodePage(
        identifier,
        totals,
        worked.get(identifier),
        steps,
        timeline(steps),
        said.get(None, ()),
        first,
        calls[-1].id if len(found) > AT_ONCE else None,
        after is not None,
    )


def totals_of(session: Session, identifier: UUID) -> Totals | None:
    """Return the sums over the first `COUNTED` calls; None where there is no call."""
    names = ("started_at", "latency_ms", "cost_usd", "status")
    tokens = ("gen_ai_usage_input_tokens", "gen_ai_usage_output_tokens")
    calls = (
        select(*(col(getattr(Interaction, name)) for name in (*names, *tokens)))
        .where(col(Interaction.episode_id) == identifier)
        .order_by(col(Interaction.id))
        .limit(COUNTED + 1)
        .subquery()
    ).c
    took = func.make_interval(0, 0, 0, 0, 0, 0, func.coalesce(calls.latency_ms, 0) / 1000.0)
    row = session.execute(
        select(
            func.count(),
            func.coalesce(func.sum(calls.gen_ai_usage_input_tokens), 0),
            func.coalesce(func.sum(calls.gen_ai_usage_output_tokens), 0),
            func.sum(calls.cost_usd),
            func.count().filter(calls.status == ERROR),
            func.min(calls.started_at),
            func.max(calls.started_at + took),
        )
    ).one()
    if not row[0]:
        return None
    n = int(row[0])
    count = Count(n) if n <= COUNTED else Count(COUNTED, "at least")
    return Totals(count, int(row[1]), int(row[2]), row[3], int(row[4]), row[5], row[6])


def timeline(steps: Sequence[Step]) -> Timeline:
    """Return calls as bars over the time that they took together; pure."""
    start = min(step.offset_s for step in steps)
    end = max(step.offset_s + step.took_s for step in steps)
    span = max(end - start, 1e-3)
    lanes: dict[str, list[Bar]] = {}
    for step in steps:
        width = max(100 * step.took_s / span, LEAST_WIDTH)
        x = min(100 * (step.offset_s - start) / span, 100 - width)
        title = f"{step.number}. {step.call.role}, {step.call.status}, {duration(step.took_s)}"
        bar = Bar(round(x, 3), round(width, 3), step.call.status != "success", title)
        lanes.setdefault(step.call.role, []).append(bar)
    ticks = [
        Tick(100 * place / TICKS, duration(start + span * place / TICKS) if place else "0")
        for place in range(TICKS + 1)
    ]
    if start:
        ticks[0] = Tick(0, duration(start))
    return Timeline([Lane(role, bars) for role, bars in lanes.items()], ticks)


def depths(calls: Sequence[Interaction]) -> list[int]:
    """Return how deep each call is caused by others of the sequence, `DEEPEST` at most; pure."""
    found: dict[UUID, int] = {}
    for call in calls:
        above = found.get(call.parent_id) if call.parent_id else None
        found[call.id] = 0 if above is None else min(above + 1, DEEPEST)
    return [found[call.id] for call in calls]


def _calls(session: Session, identifier: UUID, after: UUID | None) -> Sequence[Any]:
    """Return the next calls with how their texts begin and the tools that were called."""
    request, response = col(InteractionPayload.request), col(InteractionPayload.response)
    message = response["choices"][0]["message"]
    tools = func.jsonb_path_query_array(
        cast(message["tool_calls"], JSONB), cast("$[*].function.name", JSONPATH), type_=JSONB
    )
    key = col(Interaction.id)
    newest = (
        select(Interaction)
        .where(col(Interaction.episode_id) == identifier, *([key > after] if after else []))
        .order_by(key)
        .limit(AT_ONCE + 1)
    )
    calls = session.scalars(newest).all()
    if not calls:
        return []
    query = select(
        col(InteractionPayload.id),
        func.left(request["messages"][-1]["content"].astext, PREVIEW_CHARACTERS),
        func.left(message["content"].astext, PREVIEW_CHARACTERS),
        func.left(cast(tools, Text), 2_000),
    ).where(
        col(InteractionPayload.id).in_([call.id for call in calls]),
        col(InteractionPayload.id).between(calls[0].id, calls[-1].id),
    )
    texts = {row[0]: row for row in session.execute(query)}
    nothing = (None, None, None, None)
    return [(call, *texts.get(call.id, nothing)[1:]) for call in calls]


def _steps(
    found: Sequence[Any],
    began: datetime,
    said: Mapping[UUID | None, Sequence[Feedback]],
    first: int,
) -> list[Step]:
    indents = depths([one[0] for one in found])
    return [
        Step(
            first + place,
            call,
            asked or "",
            answered or "",
            _names(tools),
            max(0.0, (call.started_at - began) / timedelta(seconds=1)),
            indents[place],
            said.get(call.id, ()),
        )
        for place, (call, asked, answered, tools) in enumerate(found)
    ]


def _names(tools: str | None) -> list[str]:
    return [name.strip(' "')[:60] for name in (tools or "[]").strip("[]").split(",") if name][:12]


def _said(
    session: Session, identifier: UUID, calls: Sequence[Interaction]
) -> dict[UUID | None, list[Feedback]]:
    """Return what was said by the call spoken of; None: of the episode as a whole."""
    about = col(Feedback.interaction_id)
    of_episode = (col(Feedback.episode_id) == identifier) & about.is_(None)
    query = select(Feedback).where(about.in_([call.id for call in calls]) | of_episode)
    found: dict[UUID | None, list[Feedback]] = {}
    for one in session.scalars(query.order_by(col(Feedback.id)).limit(SAID)):
        found.setdefault(one.interaction_id, []).append(one)
    return found


def _n_until(session: Session, identifier: UUID, last: UUID) -> int:
    before = (
        select(col(Interaction.id))
        .where(col(Interaction.episode_id) == identifier, col(Interaction.id) <= last)
        .limit(100 * COUNTED)
    )
    return int(session.scalar(select(func.count()).select_from(before.subquery())) or 0)
