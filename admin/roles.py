"""Roles: who serves each, since when and why, what its router may do alone; and changes by hand.

Leads to `router.promote` and `router.policy`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin.rendering import Reading, link_to, render
from admin.writing import ByAdmin, ByOperator, Reason, see
from foundation.errors import Conflict
from foundation.settings import get_settings
from router import policy, promote
from router.tables import Experiment, Promotion, RolePolicy, RoleServing
from serving import deploy
from trainer import registry
from trainer.tables import QUARANTINED, ModelVersion

routes = APIRouter(prefix="/roles")

PROMOTIONS_SHOWN = 30
VERSIONS_OFFERED = 100

Seen = Annotated[str, Form()]
"""Id of the version that the page showed as serving; empty: it showed none."""


@dataclass(frozen=True)
class Row:
    """One role: who serves it, what runs, and its policy."""

    role: str
    serves: ModelVersion | None
    came: Promotion | None
    """The promotion that the serving version came by."""
    previous: ModelVersion | None
    """Who would serve after a rollback."""
    experiment: Experiment | None
    policy: RolePolicy

    @property
    def rolled_back(self) -> bool:
        """Whether it serves because a later version broke."""
        return self.came is not None and self.came.kind == promote.ROLLBACK


@dataclass(frozen=True)
class ListPage:
    """The configured roles and those that are served."""

    rows: Sequence[Row]


@dataclass(frozen=True)
class Change:
    """A promotion with the names of both versions."""

    promotion: Promotion
    before: ModelVersion | None
    after: ModelVersion


@dataclass(frozen=True)
class DetailPage:
    """One role."""

    row: Row
    does: str
    """Its policy, in a sentence."""
    baseline: ModelVersion | None
    candidates: Sequence[ModelVersion]
    """Who may be promoted, newest first."""
    changes: Sequence[Change]
    modes: Sequence[str] = policy.AUTO_PROMOTE

    @property
    def settings(self) -> dict[str, Any]:
        """What else the policy says, without what an emergency stop notes there for itself."""
        said = self.row.policy.settings.items()
        return {name: value for name, value in said if not name.startswith("emergency_")}


@routes.get("", name="roles.list")
def show_list(request: Request, session: Reading) -> HTMLResponse:
    """Show the roles."""
    served = session.scalars(select(col(RoleServing.role)).order_by(col(RoleServing.role)))
    names = dict.fromkeys([*get_settings().roles, *served])
    page = ListPage([role_row(session, name) for name in names])
    return render(request, "roles/list.html", page)


@routes.get("/{role}", name="roles.detail")
def show_detail(request: Request, session: Reading, role: str) -> HTMLResponse:
    """Show one role."""
    return render(request, "roles/detail.html", detail(session, role))


@routes.post("/{role}/promote", name="roles.promote")
def promote_version(
    request: Request,
    by: ByOperator,
    role: str,
    version: Annotated[UUID, Form()],
    reason: Reason,
    seen: Seen = "",
) -> Response:
    """Let a version serve the role, its first one or in place of the one that serves."""
    with by.changing("role.promote", "roles", role, reason) as change:
        session = change.session
        _require_seen(session, role, seen)
        wanted = registry.get_version(session, str(version))
        change.before(_serving(session, role))
        promote.serve(session, role, wanted, reason=reason, actor=by.name, prepare=deploy.prepare)
        change.after(_serving(session, role))
    return see(link_to(request, "roles.detail", role=role))


@routes.post("/{role}/rollback", name="roles.rollback")
def roll_back(
    request: Request,
    by: ByOperator,
    role: str,
    to: Annotated[UUID, Form()],
    reason: Reason,
    seen: Seen = "",
) -> Response:
    """Put the version before back and quarantine the one that serves."""
    with by.changing("role.rollback", "roles", role, reason) as change:
        session = change.session
        promote.lock_role(session, role)
        _require_seen(session, role, seen)
        target = registry.get_version(session, str(to))
        change.before(_serving(session, role))
        promote.rollback(session, role, reason=reason, actor=by.name, to=target)
        change.after(_serving(session, role))
    return see(link_to(request, "roles.detail", role=role))


@routes.post("/{role}/policy", name="roles.policy")
def set_policy(
    request: Request, by: ByAdmin, role: str, auto_promote: Annotated[str, Form()]
) -> Response:
    """Set what the router does with a candidate that is proven better."""
    with by.changing("role.policy", "roles", role) as change:
        change.before(policy.policy_of(change.session, role))
        changed = policy.set_policy(change.session, role, actor=by.name, auto_promote=auto_promote)
        change.after(changed)
    return see(link_to(request, "roles.detail", role=role))


def _serving(session: Session, role: str) -> dict[str, Any]:
    """Return who serves, as the audit log says it."""
    version = promote.serving_version(session, role)
    return {"serves": version.name if version else None}


def role_row(session: Session, role: str) -> Row:
    """Return how a role stands."""
    serving = session.get(RoleServing, role)
    return Row(
        role,
        promote.serving_version(session, role),
        session.get(Promotion, serving.promotion_id) if serving else None,
        promote.previous_version(session, role),
        promote.running_experiment(session, role),
        policy.policy_of(session, role),
    )


def detail(session: Session, role: str) -> DetailPage:
    """Return the page of one role; raises NotFound."""
    promote.require_role(role)
    row = role_row(session, role)
    named = row.policy.baseline_model_version_id
    return DetailPage(
        row,
        policy.in_words(row.policy),
        session.get(ModelVersion, named) if named else None,
        _candidates(session, row),
        _changes(session, role),
    )


def _candidates(session: Session, row: Row) -> Sequence[ModelVersion]:
    query = select(ModelVersion).where(
        col(ModelVersion.role) == row.role,
        col(ModelVersion.is_control).is_(False),
        col(ModelVersion.stage) != QUARANTINED,
    )
    if row.serves is not None:
        query = query.where(col(ModelVersion.id) != row.serves.id)
    return session.scalars(
        query.order_by(col(ModelVersion.id).desc()).limit(VERSIONS_OFFERED)
    ).all()


def _changes(session: Session, role: str) -> list[Change]:
    promotions = session.scalars(
        select(Promotion)
        .where(col(Promotion.role) == role)
        .order_by(col(Promotion.id).desc())
        .limit(PROMOTIONS_SHOWN)
    ).all()
    wanted = {
        identifier
        for p in promotions
        for identifier in (p.from_model_version_id, p.to_model_version_id)
        if identifier is not None
    }
    versions = {
        row.id: row
        for row in session.scalars(select(ModelVersion).where(col(ModelVersion.id).in_(wanted)))
    }
    return [
        Change(
            p,
            versions[p.from_model_version_id] if p.from_model_version_id else None,
            versions[p.to_model_version_id],
        )
        for p in promotions
    ]


def _require_seen(session: Session, role: str, seen: str) -> None:
    """Check that who serves is who the page showed: what was confirmed was about that one."""
    serves = promote.serving_version(session, role)
    if seen == (str(serves.id) if serves else ""):
        return
    raise Conflict(
        "who serves",
        serves.name if serves else None,
        "the version that the page showed",
        "It has changed meanwhile, and nothing was done. Look at the role again.",
    )
