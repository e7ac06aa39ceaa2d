"""The roster: who can be asked right now, as one immutable picture of the database.

The gateway takes a new picture twice a second and answers every call from the last one, so a
call costs no query, and a database that is away leaves the last picture standing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlmodel import Session, col, select

from router.emergency import baselines
from router.experiments.running import running_experiments
from router.policy import list_policies
from router.specialist.classifier import Fit
from router.specialist.store import in_use
from router.tables import TREATMENT, Experiment, RoleServing
from router.upstreams import Upstream, upstream_of
from trainer import registry
from trainer.tables import ModelVersion


@dataclass(frozen=True)
class Target:
    """Where a call goes: the model's name there, the upstream (None: litellm), and our version."""

    model: str
    upstream: Upstream | None
    version_id: UUID | None = None
    version_name: str | None = None
    is_adapter: bool = False


@dataclass(frozen=True)
class LiveExperiment:
    """A running experiment and the targets of its arms."""

    row: Experiment
    control: Target
    treatment: Target

    def target_of(self, arm: str) -> Target:
        """Return where the calls of `arm` go."""
        return self.treatment if arm == TREATMENT else self.control


@dataclass(frozen=True)
class Roster:
    """Who serves each role, what runs, and every version by its name.

    Attributes:
        stages: of the versions, by their ids.
        access: by role, what its policy changes in who may ask for which stage by name.
        fits: by role, what was learned about which version suits which task, where that is used.
        stopped: roles that an emergency sends to their baselines.
    """

    serving: dict[str, Target] = field(default_factory=dict)
    experiments: dict[str, LiveExperiment] = field(default_factory=dict)
    versions: dict[str, Target] = field(default_factory=dict)
    upstreams: tuple[Upstream, ...] = ()
    stages: dict[UUID, str] = field(default_factory=dict)
    access: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()

    def find(self, model: str) -> Target | None:
        """Return the target of a plain model name, or None if nobody answers for it.

        Upstreams that name it come first, then our versions, then `*`; what is left goes to litellm
        if it says its provider (`provider/model`).
        """
        named = [upstream for upstream in self.upstreams if model in upstream.models]
        if not named and model in self.versions:
            return self.versions[model]
        upstream = upstream_of(model, self.upstreams)
        if upstream is not None or "/" in model:
            return Target(model, upstream)
        return None


def take(session: Session, engine: Upstream, upstreams: Sequence[Upstream]) -> Roster:
    """Read the roster; a version is where its kind says: the engine, or an upstream if external.

    A role that an emergency has stopped is served by its baseline and has no experiment.
    """
    versions = {row.id: row for row in session.exec(select(ModelVersion)).all()}
    targets = {key: _target(row, engine, upstreams) for key, row in versions.items()}
    serving = session.exec(select(RoleServing).order_by(col(RoleServing.role))).all()
    stopped = baselines(session)
    named = {row.name: targets[row.id] for row in versions.values()}
    named |= {targets[key].model: targets[key] for key in versions if not targets[key].is_adapter}
    return Roster(
        serving={row.role: targets[stopped.get(row.role, row.model_version_id)] for row in serving},
        experiments={
            row.role: LiveExperiment(
                row,
                targets[row.control_model_version_id],
                targets[row.treatment_model_version_id],
            )
            for row in running_experiments(session)
            if row.role not in stopped
        },
        versions=named,
        upstreams=tuple(upstreams),
        stages={key: row.stage for key, row in versions.items()},
        access={
            role: policy.settings["access"]
            for role, policy in list_policies(session).items()
            if policy.settings.get("access")
        },
        fits=in_use(session),
        stopped=frozenset(stopped),
    )


def _target(version: ModelVersion, engine: Upstream, upstreams: Sequence[Upstream]) -> Target:
    if version.kind == registry.EXTERNAL:
        upstream = upstream_of(version.base_model, upstreams)
        return Target(version.base_model, upstream, version.id, version.name)
    is_adapter = version.kind == registry.ADAPTER
    return Target(registry.served_name(version), engine, version.id, version.name, is_adapter)
