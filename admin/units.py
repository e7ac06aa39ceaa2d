"""Units of an experiment: each with its arm, what became of it, and what it took.

A unit is an episode, or a user or agent who keeps one arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Select, case, select
from sqlmodel import Session, col

from admin.experiments import Row as ExperimentRow
from admin.experiments import with_versions
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import see
from collector.tables import Interaction
from foundation.errors import NotFound
from foundation.ids import first_id_at
from router import experiment as experiments
from router.tables import CONTROL, EPISODE, TREATMENT, Assignment, Experiment

routes = APIRouter(prefix="/experiments/{id}/units")

SUCCEEDED, FAILED, TIMED_OUT, OPEN = "success", "failed", "timed out", "open"
"""Outcomes of a unit in words; a unit that timed out has failed."""
CALLS_LOOKED_AT = 1_000
"""Of an episode, to find its newest."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    arm: str = ""
    outcome: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Row:
    """One unit."""

    unit: Assignment

    @property
    def outcome(self) -> str:
        """What became of it; of a sticky unit how many of its tasks succeeded."""
        if self.unit.n_tasks:
            return f"{self.unit.n_successes} of {self.unit.n_tasks}"
        if self.unit.outcome is None:
            return OPEN
        if self.unit.timed_out and not self.unit.outcome:
            return TIMED_OUT
        return SUCCEEDED if self.unit.outcome else FAILED

    @property
    def episode(self) -> UUID | None:
        """The episode it is, where its name is the id of one."""
        try:
            return UUID(self.unit.unit)
        except ValueError:
            return None


_U = Assignment
_OUTCOME = case(
    (col(_U.outcome).is_(None), 0),
    (col(_U.timed_out).is_(True), 1),
    (col(_U.outcome).is_(True), 3),
    else_=2,
)

LISTING: Listing[Row] = Listing(
    [
        Column("unit", "Unit", lambda row: row.unit.unit, col(_U.unit), first="up"),
        Column("arm", "Arm", lambda row: row.unit.arm, col(_U.arm), first="up"),
        Column("phase", "Phase", lambda row: row.unit.phase, col(_U.phase), numeric=True),
        Column("stratum", "", lambda row: row.unit.stratum),
        Column("outcome", "Outcome", lambda row: row.outcome, _OUTCOME),
        Column("score", "", lambda row: row.unit.score),
        Column("calls", "Calls", lambda row: row.unit.n_calls, col(_U.n_calls), numeric=True),
        Column("errors", "Errors", lambda row: row.unit.n_errors, col(_U.n_errors), numeric=True),
        Column("slow", "Slow", lambda row: row.unit.n_slow, col(_U.n_slow), numeric=True),
        Column("cost_usd", "Cost", lambda row: row.unit.cost_usd, col(_U.cost_usd), numeric=True),
        Column("tokens", "", lambda row: row.unit.tokens),
        Column("assigned_at", "Assigned", lambda row: row.unit.assigned_at, col(_U.assigned_at)),
        Column("outcome_at", "", lambda row: row.unit.outcome_at),
        Column("id", "", lambda row: str(row.unit.id)),
    ],
    key=col(_U.id),
    name="units",
)


@dataclass(frozen=True)
class UnitsPage:
    """The units of one experiment, newest first."""

    row: ExperimentRow
    filters: Filters
    table: Table[Row]
    phases: Sequence[str]
    arms: Sequence[str] = (TREATMENT, CONTROL)
    outcomes: Sequence[str] = (SUCCEEDED, FAILED, TIMED_OUT, OPEN)

    @property
    def are_episodes(self) -> bool:
        """Whether a unit is an episode, whose calls can be shown."""
        return self.row.experiment.unit_kind == EPISODE


@routes.get("", name="experiments.units")
def show_units(
    request: Request,
    session: Reading,
    id: UUID,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show the units of an experiment."""
    experiment = experiments.get_experiment(session, id)
    if asked.format:
        return LISTING.export(_matching(experiment, filters), asked, _rows)
    template = "experiments/_units.html" if wants_rows(request) else "experiments/units.html"
    return render(request, template, units_page(session, experiment, filters, asked))


@routes.get("/{unit}/calls", name="experiments.unit")
def show_calls(request: Request, session: Reading, id: UUID, unit: UUID) -> Response:
    """Lead to the calls of a unit: the newest one, whose page shows its episode around it."""
    assignment = session.get(Assignment, unit)
    if assignment is None or assignment.experiment_id != id:
        raise NotFound("unit", str(unit), "a unit of this experiment", "See the list.")
    call = newest_call(session, experiments.get_experiment(session, id), assignment)
    if call is None:
        raise NotFound(
            "calls of a unit",
            assignment.unit,
            "a unit whose calls are still in the log",
            "They have left it at the end of their time, or were never recorded.",
        )
    return see(link_to(request, "interactions.detail", id=call))


def newest_call(session: Session, experiment: Experiment, unit: Assignment) -> UUID | None:
    """Return the newest call of a unit since the experiment began; None if none is stored."""
    if experiment.unit_kind != EPISODE:
        query = select(col(Interaction.id)).where(
            col(Interaction.id) >= first_id_at(experiment.started_at),
            col(Interaction.role) == experiment.role,
            col(Interaction.unit_id) == unit.unit,
        )
        return session.scalars(query.order_by(col(Interaction.id).desc()).limit(1)).first()
    episode = Row(unit).episode
    if episode is None:
        return None
    # Found by the episode alone and ordered here: its calls are few, and the log is long.
    mine = session.scalars(
        select(col(Interaction.id))
        .where(col(Interaction.episode_id) == episode, col(Interaction.role) == experiment.role)
        .limit(CALLS_LOOKED_AT)
    ).all()
    alone = select(col(Interaction.id)).where(col(Interaction.id) == episode)
    return max(mine, default=None) or session.scalars(alone).first()


def units_page(
    session: Session, experiment: Experiment, filters: Filters, asked: Asked
) -> UnitsPage:
    """Return one page of the units of an experiment."""
    (row,) = with_versions(session, [experiment])
    query = _matching(experiment, filters)
    table = LISTING.page(session, query, asked, filters.query, _rows)
    shares = experiments.plan_of(experiment).shares
    return UnitsPage(row, filters, table, [str(number) for number in range(len(shares))])


def _rows(session: Session, found: Sequence[Assignment]) -> list[Row]:
    return [Row(unit) for unit in found]


def _matching(experiment: Experiment, filters: Filters) -> Select[Any]:
    query = select(Assignment).where(col(_U.experiment_id) == experiment.id)
    if filters.arm:
        query = query.where(col(_U.arm) == filters.arm)
    if filters.phase.isdecimal():
        query = query.where(col(_U.phase) == min(int(filters.phase), 1_000))
    outcomes = {
        OPEN: col(_U.outcome).is_(None),
        SUCCEEDED: col(_U.outcome).is_(True),
        FAILED: col(_U.outcome).is_(False) & col(_U.timed_out).is_(False),
        TIMED_OUT: col(_U.outcome).is_(False) & col(_U.timed_out),
    }
    if filters.outcome in outcomes:
        query = query.where(outcomes[filters.outcome])
    return query
