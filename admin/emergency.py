"""The emergency stop: what it would do, the one button, and the way back; the banner of all pages.

Leads to `router.emergency`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col

from admin import banner, roles
from admin.rendering import Reading, link_to, render, stopped_for
from admin.writing import ByOperator, Reason, see
from foundation.ids import first_id_at
from foundation.tables import Decision, now
from router import emergency
from router.tables import Experiment
from trainer.tables import QUARANTINED, ModelVersion

routes = APIRouter(prefix="/emergency")

OneRole = Annotated[str, Form()]
"""A role; empty: all."""


@dataclass(frozen=True)
class Row:
    """One served role: who answers now, and who would (or does) while it is stopped."""

    role: str
    serves: ModelVersion
    baseline: ModelVersion
    experiment: Experiment | None
    stopped_since: datetime | None
    decision: Decision | None
    """Of the stop that holds: why, and by whom."""


@dataclass(frozen=True)
class Page:
    """Every served role; `chosen` is the role that the form begins with, empty: all."""

    rows: Sequence[Row]
    chosen: str
    latest: Decision | None = None
    """Of the newest stop or resumption of the last day."""

    @property
    def resumed(self) -> Decision | None:
        """The newest change, where it was a resumption: then nothing more is to be undone."""
        is_over = self.latest is not None and self.latest.outcome == emergency.RESUMED
        return self.latest if is_over else None

    @property
    def running(self) -> Sequence[Row]:
        """Roles that can be stopped."""
        return [row for row in self.rows if row.stopped_since is None]

    @property
    def held(self) -> Sequence[Row]:
        """Roles that are stopped."""
        return [row for row in self.rows if row.stopped_since is not None]


@routes.get("", name="emergency")
def show(request: Request, session: Reading, role: str = "") -> HTMLResponse:
    """Show what a stop would do, or what the present one does."""
    return render(request, "emergency/index.html", Page(rows(session), role, _last_change(session)))


@routes.get("/banner", name="emergency.banner")
def show_banner(request: Request, session: Reading, shown: str = "") -> Response:
    """Answer the banner of an open page, or nothing where it shows what holds already."""
    if banner.names(stopped_for(request)) == shown:
        return Response(status_code=204)
    return render(request, "emergency/_banner.html", None)


@routes.post("/stop", name="emergency.stop")
def stop(request: Request, by: ByOperator, reason: Reason, role: OneRole = "") -> Response:
    """Send everything of one role, or of all, to the baseline."""
    with by.changing("emergency.stop", "roles", role or "all", reason) as change:
        change.alone("emergency")
        change.before(_stopped(change.session))
        emergency.stop(change.session, reason, by.name, role or None)
        change.after(_stopped(change.session))
    return see(link_to(request, "emergency"))


@routes.post("/resume", name="emergency.resume")
def resume(request: Request, by: ByOperator, reason: Reason, role: OneRole = "") -> Response:
    """Serve one role, or all, as before the stop."""
    with by.changing("emergency.resume", "roles", role or "all", reason) as change:
        change.alone("emergency")
        change.before(_stopped(change.session))
        emergency.resume(change.session, reason, by.name, role or None)
        change.after(_stopped(change.session))
    return see(link_to(request, "emergency"))


def _stopped(session: Session) -> dict[str, Any]:
    """Return the stopped roles, as the audit log says it."""
    return {"stopped": sorted(emergency.baselines(session))}


def rows(session: Session) -> list[Row]:
    """Return the served roles by name, in a fixed number of queries."""
    found = roles.role_rows(session, emergency.served_roles(session))
    held = emergency.baselines(session)
    named = {
        row.role: wanted
        for row in found
        if (wanted := held.get(row.role) or row.policy.baseline_model_version_id)
    }
    versions = {
        version.id: version
        for version in session.scalars(
            select(ModelVersion).where(col(ModelVersion.id).in_(list(named.values())))
        )
    }
    stops = _last_stops(session, list(held))
    return [
        _row(row, versions.get(named[row.role]) if row.role in named else None, stops)
        for row in found
    ]


def _row(row: roles.Row, named: ModelVersion | None, stops: Mapping[str, Decision]) -> Row:
    """Return a role with its baseline, as `router.emergency.baseline_of` finds it."""
    assert row.serves is not None
    is_stopped = row.policy.emergency_since is not None
    if named is not None and named.stage == QUARANTINED and not is_stopped:
        named = None
    return Row(
        row.role,
        row.serves,
        named or row.previous or row.serves,
        row.experiment,
        row.policy.emergency_since,
        stops.get(row.role),
    )


def _last_stops(session: Session, names: Sequence[str]) -> dict[str, Decision]:
    """Return the Decision of the stop that holds, of each of the roles."""
    found = session.scalars(
        select(Decision)
        .where(
            col(Decision.kind) == "router.emergency",
            col(Decision.role).in_(names),
            col(Decision.outcome) == emergency.STOPPED_NOW,
        )
        .ext(distinct_on(col(Decision.role)))
        .order_by(col(Decision.role), col(Decision.id).desc())
    ).all()
    return {decision.role: decision for decision in found if decision.role}


def _last_change(session: Session) -> Decision | None:
    """Return the Decision of the newest stop or resumption of a day."""
    return session.scalars(
        select(Decision)
        .where(
            col(Decision.kind) == "router.emergency",
            col(Decision.id) >= first_id_at(now() - timedelta(days=1)),
        )
        .order_by(col(Decision.id).desc())
        .limit(1)
    ).first()
