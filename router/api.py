"""Routes of the router: experiments, who serves each role, its policy, and the emergency stop."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from foundation.database import explain_row, session_scope
from foundation.settings import get_settings
from router import emergency, experiment, policy, promote
from serving import deploy
from trainer import registry

routes = APIRouter(prefix="/v1", tags=["router"])


class StartExperiment(BaseModel):
    """Start comparing `treatment` (a version's name or id) with who serves `role`."""

    model_config = ConfigDict(extra="forbid")

    role: str
    treatment: str
    profile: str = "default"
    plan: dict[str, Any] = Field(default_factory=dict, description="Changed fields of the plan.")
    actor: str | None = None


class Reasoned(BaseModel):
    """A change by a person, and why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1)
    actor: str | None = None


class Accept(BaseModel):
    """Accept what an experiment proposes: the one click."""

    model_config = ConfigDict(extra="forbid")

    reason: str = "accepted"
    actor: str | None = None


class Promote(Reasoned):
    """Let `version` (a name or id) serve the role."""

    version: str


class Rollback(Reasoned):
    """Put the previous version back, or the one named by `to`."""

    to: str | None = None


class Policy(BaseModel):
    """Change what is given of a role's policy."""

    model_config = ConfigDict(extra="forbid")

    auto_promote: str | None = Field(default=None, description="off, assisted or on.")
    hold_back_share: float | None = Field(default=None, description="0-0.5; 0 holds nothing back.")
    baseline: str | None = Field(default=None, description="Version of an emergency stop.")
    guard: dict[str, Any] | None = Field(default=None, description="Changed guard thresholds.")
    access: dict[str, list[str]] | None = Field(
        default=None, description="Kinds of keys that may ask by name, by stage."
    )
    reason: str = ""
    actor: str | None = None


class Emergency(Reasoned):
    """Of one `role`, or of all."""

    role: str | None = None


@routes.get("/experiments")
def list_experiments(role: str | None = None) -> list[dict[str, Any]]:
    """List the experiments, newest first."""
    with session_scope() as session:
        return [explain_row(row) for row in experiment.list_experiments(session, role)]


@routes.get("/experiments/{experiment_id}")
def show_experiment(experiment_id: UUID) -> dict[str, Any]:
    """Show how an experiment stands now."""
    with session_scope() as session:
        row = experiment.get_experiment(session, experiment_id)
        return asdict(experiment.status(session, row))


@routes.post("/experiments", status_code=201)
def start_experiment(wanted: StartExperiment) -> dict[str, Any]:
    """Start an experiment."""
    plan = experiment.plan_from(wanted.profile, **wanted.plan)
    with session_scope() as session:
        treatment = registry.get_version(session, wanted.treatment)
        row = experiment.start(session, wanted.role, treatment, plan, _actor(wanted.actor))
        return explain_row(row)


@routes.post("/experiments/{experiment_id}/accept")
def accept_experiment(experiment_id: UUID, wanted: Accept) -> dict[str, Any]:
    """Promote what an experiment proposes; the Decision of its end, whichever that was."""
    with session_scope() as session:
        row = experiment.get_experiment(session, experiment_id)
        actor = _actor(wanted.actor)
        decision = experiment.accept(session, row, actor, wanted.reason, deploy.prepare)
        return explain_row(decision)


@routes.post("/experiments/{experiment_id}/stop")
def stop_experiment(experiment_id: UUID, wanted: Reasoned) -> dict[str, Any]:
    """Stop an experiment; the Decision of its end, whichever that was."""
    with session_scope() as session:
        row = experiment.get_experiment(session, experiment_id)
        return explain_row(experiment.stop(session, row, wanted.reason, _actor(wanted.actor)))


@routes.get("/roles/{role}/outlook")
def show_outlook(
    role: str, profile: str = "default", baseline: float | None = None
) -> dict[str, Any]:
    """Say what an experiment of a role could show at its traffic, and how soon."""
    plan = experiment.plan_from(profile)
    with session_scope() as session:
        return asdict(experiment.outlook(session, role, plan, baseline))


@routes.get("/roles/{role}/serving")
def show_serving(role: str) -> dict[str, Any]:
    """Show the version that serves a role (null before its first) and its running experiment."""
    promote.require_role(role)
    with session_scope() as session:
        version = promote.serving_version(session, role)
        running = promote.running_experiment(session, role)
        return {
            "role": role,
            "model_version": explain_row(version) if version else None,
            "experiment_id": str(running.id) if running else None,
            "is_stopped": promote.is_stopped(session, role),
        }


@routes.post("/roles/{role}/promote")
def promote_version(role: str, wanted: Promote) -> dict[str, Any]:
    """Let a version serve a role: its first one, or in place of the one that serves."""
    with session_scope() as session:
        version = registry.get_version(session, wanted.version)
        row = promote.serve(
            session,
            role,
            version,
            reason=wanted.reason,
            actor=_actor(wanted.actor),
            prepare=deploy.prepare,
        )
        return explain_row(row)


@routes.post("/roles/{role}/rollback")
def rollback_role(role: str, wanted: Rollback) -> dict[str, Any]:
    """Put the previous version back and quarantine the one that serves."""
    with session_scope() as session:
        target = registry.get_version(session, wanted.to) if wanted.to else None
        row = promote.rollback(
            session, role, reason=wanted.reason, actor=_actor(wanted.actor), to=target
        )
        return explain_row(row)


@routes.get("/roles/{role}/policy")
def show_policy(role: str) -> dict[str, Any]:
    """Show what the router may do for a role by itself."""
    promote.require_role(role)
    with session_scope() as session:
        return explain_row(policy.policy_of(session, role))


@routes.put("/roles/{role}/policy")
def set_policy(role: str, wanted: Policy) -> dict[str, Any]:
    """Change what the router may do for a role by itself."""
    with session_scope() as session:
        changes = wanted.model_dump(exclude={"actor"})
        row = policy.set_policy(session, role, actor=_actor(wanted.actor), **changes)
        return explain_row(row)


@routes.post("/emergency/stop")
def stop_all(wanted: Emergency) -> list[dict[str, Any]]:
    """Send everything of one role, or of all, to the baseline; the Decisions of those stopped."""
    with session_scope() as session:
        actor = _actor(wanted.actor)
        stopped = emergency.stop(session, wanted.reason, actor, wanted.role)
        return [explain_row(decision) for decision in stopped]


@routes.post("/emergency/resume")
def resume_all(wanted: Emergency) -> list[dict[str, Any]]:
    """Serve one role, or all, as before the stop; the Decisions of those resumed."""
    with session_scope() as session:
        actor = _actor(wanted.actor)
        resumed = emergency.resume(session, wanted.reason, actor, wanted.role)
        return [explain_row(decision) for decision in resumed]


def _actor(named: str | None) -> str:
    return named or get_settings().admin_user
