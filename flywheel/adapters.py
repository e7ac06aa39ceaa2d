"""Keep the model server ready: who serves, who is in an experiment, who served before."""

import logging

from sqlmodel import Session, col, select

from foundation.database import session_scope
from foundation.settings import get_settings
from router.promote import previous_version, serving_version
from serving.backends.door import Door, Files, NotServable
from serving.backends.kinds import engine_door
from serving.backends.openai_compatible import EngineRefused, EngineUnavailable
from serving.deploy import DeployFailed, files_of
from trainer.registry import ADAPTER, EXTERNAL, served_name
from trainer.tables import EXPERIMENTAL, PRODUCTION, ModelVersion

log = logging.getLogger(__name__)


def keep_adapters_loaded() -> list[str]:
    """Load the adapters that traffic may reach at any moment and that the server lacks.

    Those who serve or are in an experiment, and who served before: a rollback must not wait. One
    that fails is left for the next time, and the others are loaded. A server that keeps names of
    its own (Ollama) or one active adapter (llama.cpp) is told who serves.

    Returns the names loaded now.
    """
    with session_scope() as session:
        wanted = _wanted(session)
        serving = _serving(session)
    if not wanted:
        return []
    try:
        door = engine_door()
        present = {model.name for model in door.models()}
    except (EngineUnavailable, EngineRefused) as error:
        log.warning("adapters are not loaded: %s", error)
        return []
    missing = [version for version in wanted if version.name not in present]
    files = [_files(version) for version in missing]
    loaded = [one.name for one in files if one is not None and _load(door, one)]
    _tell(door, serving)
    return loaded


def _wanted(session: Session) -> list[ModelVersion]:
    """Return the adapters that serve, are in an experiment, or served their role before."""
    found = session.exec(
        select(ModelVersion).where(
            ModelVersion.kind == ADAPTER,
            col(ModelVersion.stage).in_((PRODUCTION, EXPERIMENTAL)),
        )
    ).all()
    before = [previous_version(session, role) for role in get_settings().roles]
    wanted = {version.id: version for version in found}
    wanted |= {version.id: version for version in before if version and version.kind == ADAPTER}
    return list(wanted.values())


def _serving(session: Session) -> dict[str, str]:
    """Return what the server calls who serves, by role; without those of other providers."""
    found = {role: serving_version(session, role) for role in get_settings().roles}
    return {
        role: served_name(version)
        for role, version in found.items()
        if version is not None and version.kind != EXTERNAL
    }


def _files(version: ModelVersion) -> Files | None:
    try:
        return files_of(version)
    except DeployFailed as error:
        log.warning("%s", error)
        return None


def _load(door: Door, files: Files) -> bool:
    try:
        return door.load(files)
    except (EngineUnavailable, EngineRefused, NotServable, OSError) as error:
        log.warning("%s is not loaded: %s", files.name, error)
        return False


def _tell(door: Door, serving: dict[str, str]) -> None:
    """Tell the server who serves, where it can be told so of every role that there is."""
    if door.aliases == "none" or (door.aliases == "one" and len(serving) != 1):
        return
    for role, name in serving.items():
        try:
            door.switch(role, name)
        except (EngineUnavailable, EngineRefused) as error:
            log.warning("%s: the server was not told that %s serves: %s", role, name, error)
