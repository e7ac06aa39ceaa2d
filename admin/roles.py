"""Roles: who serves each, since when and why, what its router may do alone; and changes by hand.

Leads to `router.promote` and `router.policy`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin.rendering import Reading, link_to, render
from admin.writing import REASON_CHARACTERS, ByAdmin, ByOperator, Reason, see
from evaluator.tables import Evaluation, Verdict
from foundation.errors import BadInput, Conflict
from foundation.settings import get_settings
from router import experiment as experiments
from router import policy, promote
from router.guard import GuardThresholds
from router.tables import Experiment, Promotion, RolePolicy, RoleServing
from serving import deploy
from trainer import registry
from trainer.tables import QUARANTINED, ModelVersion

routes = APIRouter(prefix="/roles")

PROMOTIONS_SHOWN = 30
VERSIONS_OFFERED = 100
CANDIDATES_SHOWN = 12
VERDICTS_READ = 300

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

    @property
    def undo(self) -> str:
        """How to take it back, while it is the latest."""
        if self.before is None:
            return "It is the first version of the role: only another can take its place."
        if self.promotion.kind == promote.ROLLBACK:
            return (
                f"It cannot be taken back: {self.before.name} is quarantined. Another version can "
                f"be promoted; if it was rolled back wrongly, set {self.before.name} to retired on "
                "its page, then promote it."
            )
        return (
            f"To undo it, roll back: {self.before.name} serves again at once and "
            f"{self.after.name} is quarantined. Or promote {self.before.name}: then "
            f"{self.after.name} is only retired."
        )


@dataclass(frozen=True)
class Candidate:
    """A version that may be promoted, and what was last said of it on a benchmark."""

    version: ModelVersion
    verdict: Verdict | None


@dataclass(frozen=True)
class Limit:
    """One threshold of the guard: in percent where it is a share."""

    name: str
    label: str
    value: str
    """What was set; empty: the default holds."""
    default: str


@dataclass(frozen=True)
class Access:
    """Which kinds of keys may ask by name for a version of a stage."""

    stage: str
    allowed: Sequence[str]
    is_default: bool


@dataclass(frozen=True)
class DetailPage:
    """One role."""

    row: Row
    does: str
    """Its policy, in a sentence."""
    baseline: ModelVersion | None
    candidates: Sequence[Candidate]
    """Who may be promoted, newest first."""
    changes: Sequence[Change]
    limits: Sequence[Limit]
    access: Sequence[Access]
    modes: Sequence[str] = policy.AUTO_PROMOTE
    kinds: Sequence[str] = policy.KINDS

    @property
    def shown(self) -> Sequence[Candidate]:
        """The newest candidates; all of them can be chosen."""
        return self.candidates[:CANDIDATES_SHOWN]

    @property
    def offers_baseline(self) -> bool:
        """Whether the baseline of the policy is among those that can be chosen."""
        offered = [self.row.serves, *(one.version for one in self.candidates)]
        return self.baseline is not None and self.baseline.id in {v.id for v in offered if v}


@dataclass
class PolicyForm:
    """What a form says of a policy: all of it (`whole`), or only what it names."""

    auto_promote: Annotated[str | None, Form()] = None
    hold_back: Annotated[str, Form(max_length=40)] = ""
    """Percent."""
    baseline: Annotated[str, Form(max_length=200)] = ""
    error_limit: Annotated[str, Form(max_length=40)] = ""
    slow_limit_ms: Annotated[str, Form(max_length=40)] = ""
    slow_share: Annotated[str, Form(max_length=40)] = ""
    success_margin: Annotated[str, Form(max_length=40)] = ""
    min_predecessor: Annotated[str, Form(max_length=40)] = ""
    harm_e: Annotated[str, Form(max_length=40)] = ""
    access: Annotated[list[str] | None, Form()] = None
    """`stage:kind` for each that may."""
    whole: Annotated[bool, Form()] = False
    reason: Annotated[str, Form(max_length=REASON_CHARACTERS)] = ""

    @property
    def changes(self) -> dict[str, Any]:
        """What is changed, for `router.policy.set_policy`; raises BadInput."""
        found: dict[str, Any] = {"reason": self.reason.strip()}
        if self.auto_promote is not None:
            found["auto_promote"] = self.auto_promote
        if self.hold_back:
            found["hold_back_share"] = _number("hold-back, %", self.hold_back) / 100
        if self.whole:
            found |= {"baseline": self.baseline, "guard": self.guard, "access": self.opened}
        return found

    @property
    def guard(self) -> dict[str, float]:
        """Thresholds that are typed; an empty one is as it comes."""
        typed = {name: getattr(self, name).strip() for name in GUARDED}
        return {
            name: _number(label, said) / (100 if is_share else 1)
            for name, (label, is_share) in GUARDED.items()
            if (said := typed[name])
        }

    @property
    def opened(self) -> dict[str, list[str]]:
        """The stages whose access is otherwise than it comes; raises BadInput."""
        found: dict[str, list[str]] = {stage: [] for stage in policy.ACCESS}
        for said in self.access or ():
            stage, _, kind = said.partition(":")
            if stage not in found:
                raise BadInput("access", said[:60], "stage:kind", "Send the form again.")
            found[stage].append(kind)
        return {
            stage: kinds
            for stage, kinds in found.items()
            if set(kinds) != set(policy.ACCESS[stage])
        }


GUARDED: Final[Mapping[str, tuple[str, bool]]] = {
    "error_limit": ("Failed calls, %", True),
    "slow_limit_ms": ("Slow above, ms", False),
    "slow_share": ("Slow calls, %", True),
    "success_margin": ("Drop of success, points", True),
    "min_predecessor": ("Outcomes before, at least", False),
    "harm_e": ("E-value that rolls back", False),
}
"""Thresholds of the guard: how they are called, and whether they are shares."""


@routes.get("", name="roles.list")
def show_list(request: Request, session: Reading) -> HTMLResponse:
    """Show the roles."""
    served = session.scalars(select(col(RoleServing.role)).order_by(col(RoleServing.role)))
    names = dict.fromkeys([*get_settings().roles, *served])
    return render(request, "roles/list.html", ListPage(role_rows(session, list(names))))


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
        if seen:
            promote.require_servable(role, wanted)
            deploy.prepare(session, wanted)  # takes its time, so before the lock
            promote.lock_role(session, role)
            _require_seen(session, role, seen)
        change.before(_serving(session, role))
        promote.serve(session, role, wanted, reason=reason, actor=by.name)
        change.after(_serving(session, role))
    return see(
        link_to(request, "roles.detail", role=role), "It answers the calls of the role from now on."
    )


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
    return see(link_to(request, "roles.detail", role=role), "The version before it answers again.")


@routes.post("/{role}/policy", name="roles.policy")
def set_policy(
    request: Request, by: ByAdmin, role: str, form: Annotated[PolicyForm, Depends()]
) -> Response:
    """Set what the router may do for the role by itself, and who may call what."""
    changes = form.changes
    with by.changing("role.policy", "roles", role, changes["reason"] or None) as change:
        promote.require_role(role)
        change.before(policy.locked_policy(change.session, role))
        changed = policy.set_policy(change.session, role, actor=by.name, **changes)
        change.after(changed)
    return see(
        link_to(request, "roles.detail", role=role), "Set. The audit log keeps what held before."
    )


def _number(name: str, said: str) -> float:
    try:
        return float(said.strip().removesuffix("%"))
    except ValueError:
        raise BadInput(name, said, "a number", "Nothing was changed. Correct it.") from None


def _serving(session: Session, role: str) -> dict[str, Any]:
    """Return who serves, as the audit log says it."""
    version = promote.serving_version(session, role)
    return {"serves": version.name if version else None}


def role_rows(session: Session, names: Sequence[str]) -> list[Row]:
    """Return how roles stand, in a fixed number of queries."""
    serving = {
        row.role: (version, came)
        for row, version, came in session.execute(
            select(RoleServing, ModelVersion, Promotion)
            .join(ModelVersion, col(ModelVersion.id) == col(RoleServing.model_version_id))
            .join(Promotion, col(Promotion.id) == col(RoleServing.promotion_id))
            .where(col(RoleServing.role).in_(names))
        )
    }
    previous = promote.previous_versions(session, names)
    running = {row.role: row for row in experiments.running_experiments(session)}
    policies = policy.list_policies(session)
    return [
        Row(
            name,
            *serving.get(name, (None, None)),
            previous.get(name),
            running.get(name),
            policies.get(name) or RolePolicy(role=name),
        )
        for name in names
    ]


def role_row(session: Session, role: str) -> Row:
    """Return how a role stands."""
    return role_rows(session, [role])[0]


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
        limits_of(row.policy),
        access_of(row.policy),
    )


def limits_of(row: RolePolicy) -> list[Limit]:
    """Return the thresholds of a policy's guard."""
    given, defaults = row.settings.get("guard") or {}, GuardThresholds()
    scales = {name: 100 if is_share else 1 for name, (_, is_share) in GUARDED.items()}
    return [
        Limit(
            one.name,
            GUARDED[one.name][0],
            f"{given[one.name] * scales[one.name]:g}" if one.name in given else "",
            f"{getattr(defaults, one.name) * scales[one.name]:g}",
        )
        for one in fields(GuardThresholds)
        if one.name in GUARDED
    ]


def access_of(row: RolePolicy) -> list[Access]:
    """Return which kinds of keys may ask for a version of each stage."""
    given = row.settings.get("access") or {}
    return [
        Access(stage, given.get(stage, policy.ACCESS[stage]), stage not in given)
        for stage in policy.ACCESS
    ]


def _candidates(session: Session, row: Row) -> list[Candidate]:
    query = select(ModelVersion).where(
        col(ModelVersion.role) == row.role,
        col(ModelVersion.is_control).is_(False),
        col(ModelVersion.stage) != QUARANTINED,
    )
    if row.serves is not None:
        query = query.where(col(ModelVersion.id) != row.serves.id)
    versions = session.scalars(
        query.order_by(col(ModelVersion.id).desc()).limit(VERSIONS_OFFERED)
    ).all()
    verdicts = _verdicts(session, [version.id for version in versions])
    return [Candidate(version, verdicts.get(version.id)) for version in versions]


def _verdicts(session: Session, versions: Sequence[UUID]) -> dict[UUID, Verdict]:
    """Return the newest verdict about each of the versions that has one."""
    rows = session.execute(
        select(col(Evaluation.model_version_id), Verdict)
        .join(Verdict, col(Verdict.candidate_evaluation_id) == col(Evaluation.id))
        .where(col(Evaluation.model_version_id).in_(versions))
        .order_by(col(Verdict.id).desc())
        .limit(VERDICTS_READ)
    ).all()
    found: dict[UUID, Verdict] = {}
    for version, verdict in rows:
        found.setdefault(version, verdict)
    return found


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
