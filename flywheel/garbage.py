"""Collect garbage, with what the rooms above the trainer know of who is needed."""

import json
import re
from collections.abc import Iterator
from uuid import UUID

from sqlmodel import Session, col, select

from foundation.database import session_scope
from foundation.settings import get_settings
from router.promote import previous_versions
from router.specialist.store import in_use
from router.tables import RUNNING, Experiment, RolePolicy, RoleServing
from router.upstreams.config import read
from trainer import garbage
from trainer.garbage import Collected
from trainer.tables import ModelVersion


def collect(days: int = garbage.DAYS, *, remove: bool = False) -> Collected:
    """Find, and remove if asked to, what nobody needs; raises as `trainer.garbage.collect`."""
    with session_scope() as session:
        keep = needed(session)
    return garbage.collect(keep, days=days, remove=remove)


def needed(session: Session) -> dict[UUID, str]:
    """Return the versions that serve, may serve at any moment, or are compared, with the reason.

    Raises:
        BadSetting: the gateway's file, which may name some, cannot be read.
    """
    keep: dict[UUID, str] = {}
    serving = session.exec(select(RoleServing)).all()
    for row in serving:
        keep.setdefault(row.model_version_id, f"it serves {row.role}")
    for role, version in previous_versions(session, [row.role for row in serving]).items():
        keep.setdefault(version.id, f"{role} is rolled back to it")
    for experiment in session.exec(select(Experiment).where(Experiment.status == RUNNING)).all():
        for identifier in (
            experiment.control_model_version_id,
            experiment.treatment_model_version_id,
        ):
            keep.setdefault(identifier, f"an experiment of {experiment.role} compares it")
    with_baseline = select(RolePolicy).where(col(RolePolicy.baseline_model_version_id).is_not(None))
    for policy in session.exec(with_baseline).all():
        assert policy.baseline_model_version_id is not None
        keep.setdefault(policy.baseline_model_version_id, f"{policy.role} falls back to it")
    return _named(session) | keep


def _named(session: Session) -> dict[UUID, str]:
    """Return the versions that the deployment names: as specialists, in a consensus, as judges."""
    said = dict(_configured(session))
    versions = session.exec(
        select(ModelVersion).where(col(ModelVersion.artifact_uri).is_not(None))
    ).all()
    found: dict[UUID, str] = {}
    for version in versions:
        names = "|".join(map(re.escape, (version.name, str(version.id), str(version.artifact_uri))))
        is_named = re.compile(rf"(?<![\w-])({names})(?![\w-])").search
        for where, words in said.items():
            if is_named(words):
                found.setdefault(version.id, f"{where} names it")
    return found


def _configured(session: Session) -> Iterator[tuple[str, str]]:
    """Yield what may name a version: how that is called, and its text."""
    settings = get_settings()
    if settings.gateway_file is not None:
        yield "the gateway's file", read(settings.gateway_file).decode(errors="replace")
    places = settings.judge_models, settings.base_model, settings.engine_base, settings.upstreams
    yield "a setting", json.dumps(places, ensure_ascii=False)
    fitted = {role: list(fit.weights) for role, fit in in_use(session).items()}
    yield "a learned choice of specialists", json.dumps(fitted, ensure_ascii=False)
    policies = session.exec(select(RolePolicy)).all()
    yield "a role's policy", json.dumps([one.settings for one in policies], ensure_ascii=False)
