"""The emergency stop: what it would do, the one button, and the way back; the banner of all pages.

Leads to `router.emergency`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin import banner
from admin.rendering import Reading, link_to, render
from admin.writing import ByOperator, Reason, see
from foundation.tables import Decision
from router import emergency, promote
from router.policy import policy_of
from router.tables import Experiment
from trainer.tables import ModelVersion

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
    return render(request, "emergency/index.html", Page(rows(session), role))


@routes.get("/banner", name="emergency.banner")
def show_banner(request: Request, session: Reading, shown: str = "") -> Response:
    """Answer the banner of an open page, or nothing where it shows what holds already."""
    if banner.names(request.state.stopped) == shown:
        return Response(status_code=204)
    return render(request, "emergency/_banner.html", None)


@routes.post("/stop", name="emergency.stop")
def stop(request: Request, by: ByOperator, reason: Reason, role: OneRole = "") -> Response:
    """Send everything of one role, or of all, to the baseline."""
    with by.changing("emergency.stop", "roles", role or "all", reason) as change:
        change.before(_stopped(change.session))
        emergency.stop(change.session, reason, by.name, role or None)
        change.after(_stopped(change.session))
    return see(link_to(request, "emergency"))


@routes.post("/resume", name="emergency.resume")
def resume(request: Request, by: ByOperator, reason: Reason, role: OneRole = "") -> Response:
    """Serve one role, or all, as before the stop."""
    with by.changing("emergency.resume", "roles", role or "all", reason) as change:
        change.before(_stopped(change.session))
        emergency.resume(change.session, reason, by.name, role or None)
        change.after(_stopped(change.session))
    return see(link_to(request, "emergency"))


def _stopped(session: Session) -> dict[str, Any]:
    """Return the stopped roles, as the audit log says it."""
    return {"stopped": sorted(emergency.baselines(session))}


def rows(session: Session) -> list[Row]:
    """Return the served roles by name."""
    return [_row(session, role) for role in emergency.served_roles(session)]


def _row(session: Session, role: str) -> Row:
    policy, serves = policy_of(session, role), promote.serving_version(session, role)
    assert serves is not None
    held = emergency.baselines(session).get(role)
    baseline = session.get(ModelVersion, held) if held else emergency.baseline_of(session, policy)
    return Row(
        role,
        serves,
        baseline or serves,
        promote.running_experiment(session, role),
        policy.emergency_since,
        _last_stop(session, role) if policy.emergency_since else None,
    )


def _last_stop(session: Session, role: str) -> Decision | None:
    return session.scalars(
        select(Decision)
        .where(
            col(Decision.kind) == "router.emergency",
            col(Decision.role) == role,
            col(Decision.outcome) == emergency.STOPPED_NOW,
        )
        .order_by(col(Decision.id).desc())
        .limit(1)
    ).first()
