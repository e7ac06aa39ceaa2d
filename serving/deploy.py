"""Before a version may serve: load it, and see that it answers by itself and not as its base.

Promotion has two halves. This one makes the version answerable and changes nobody's traffic: files
whole, loaded, told apart from the base by a probe. The other (`router.promote`) is one row of the
database, which the gateway's roster reads; the version before stays loaded, so going back is that
row again. What fails here leaves everything as it was.
"""

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session

from foundation.errors import BadInput, Conflict, FlywheelError, NotFound
from serving.backends import probe
from serving.backends.door import Door, Files, NotServable
from serving.backends.kinds import engine_door
from serving.backends.openai_compatible import EngineRefused, EngineUnavailable
from trainer import registry
from trainer.tables import EXPERIMENTAL, PRODUCTION, ModelVersion

log = logging.getLogger(__name__)

_SERVER_ERRORS = (EngineUnavailable, EngineRefused, NotServable)
_BUSY_STAGES = (PRODUCTION, EXPERIMENTAL)


class DeployFailed(FlywheelError):
    """A version cannot serve; nothing was switched.

    Attributes:
        version: its name.
        reason: what was found.
        is_server_down: whether the model server did not answer at all, so that trying again later
            may help.
    """

    http_status = 409

    def __init__(self, version: str, reason: str, *, is_server_down: bool = False) -> None:
        self.version, self.reason, self.is_server_down = version, reason, is_server_down
        super().__init__(
            f"deployment of {version}: {reason.rstrip('.')}. "
            f"Nobody was switched. Look again with: flywheel model deploy {version}"
        )


@dataclass(frozen=True)
class Prepared:
    """A version that can serve now.

    Attributes:
        version_id: of the version.
        model: what its server calls it.
        server: kind and address; an external version's is `upstream`.
        loaded: whether it was loaded just now; False if it was there already.
        differs: whether its answers are told apart from the base's; None where nothing is to be
            compared (a base, an external model) or the server does not let it be told.
        reason: the figures behind `differs`, in a sentence.
        took_s: seconds.
    """

    version_id: UUID
    model: str
    server: str
    loaded: bool
    differs: bool | None
    reason: str
    took_s: float

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, for the inputs of a Decision."""
        return {**asdict(self), "version_id": str(self.version_id)}


def prepare(session: Session, version: ModelVersion) -> Prepared:
    """Load a version and verify that it answers by itself. Call it before locking anything.

    An external version is its provider's to load; a base version must be what the server runs.
    Preparing what is prepared changes nothing.

    Args:
        session: only read; no row is locked while the server is waited for.
        version: to serve soon.

    Raises:
        DeployFailed: files that are gone or damaged, a server that is away or refuses, or a version
            whose log-probabilities are the base's.
    """
    version = registry.get_version(session, version.id)
    started = time.monotonic()
    model = registry.served_name(version)
    if version.kind == registry.EXTERNAL:
        return Prepared(
            version.id, model, "upstream", False, None, "its provider answers for it", 0.0
        )
    try:
        door = engine_door()
        loaded, found = _load_and_check(door, version, model)
    except (*_SERVER_ERRORS, OSError) as error:  # OSError: no room for a server's own files
        away = isinstance(error, EngineUnavailable)
        raise DeployFailed(version.name, str(error), is_server_down=away) from error
    if found.differs is False:
        if loaded:
            _forget(door, version.name)
        raise DeployFailed(version.name, f"the server answers as the base does: {found.reason}")
    took_s = round(time.monotonic() - started, 3)
    server = f"{door.kind} {door.base_url}"
    return Prepared(version.id, model, server, loaded, found.differs, found.reason, took_s)


def warm(session: Session, version: ModelVersion) -> bool:
    """Have a version loaded so that traffic may come (back) to it at any time; never raises for it.

    For a rollback, which must not be held up by a probe. Returns whether it is loaded now.
    """
    version = registry.get_version(session, version.id)
    if version.kind in (registry.BASE, registry.EXTERNAL):
        return True
    try:
        engine_door().load(files_of(version))
    except (DeployFailed, *_SERVER_ERRORS, OSError) as error:
        log.warning("%s is not loaded: %s", version.name, error)
        return False
    return True


def undeploy(session: Session, version: ModelVersion) -> str:
    """Have the model server forget a version that nobody is sent to; return kind and address.

    Raises:
        Conflict: it serves, or is in an experiment.
        BadInput: a base or external model, which was not loaded by us.
        EngineUnavailable: no answer.
        EngineRefused: the server's own refusal.
    """
    version = registry.get_version(session, version.id)
    if version.kind in (registry.BASE, registry.EXTERNAL):
        raise BadInput(
            "model version", version.name, "an adapter or a whole model of ours", "Stop its server."
        )
    if version.stage in _BUSY_STAGES:
        raise Conflict(
            "undeployment",
            f"{version.name} ({version.stage})",
            "a version that neither serves nor is in an experiment",
            "Roll it back or stop its experiment first.",
        )
    door = engine_door()
    door.unload(version.name)
    return f"{door.kind} {door.base_url}"


def files_of(version: ModelVersion) -> Files:
    """Return what a version is made of, whole: the content is what the registry wrote down.

    Raises:
        DeployFailed: its files are gone, or not those that were registered.
    """
    try:
        folder = registry.version_folder(version)
    except (NotFound, Conflict) as error:
        raise DeployFailed(version.name, f"its files are gone: {error}") from error
    except (registry.Untrusted, BadInput) as error:
        raise DeployFailed(version.name, f"its files may not be read: {error}") from error
    is_adapter = version.kind == registry.ADAPTER
    return Files(version.name, folder, version.base_model, is_adapter)


def _load_and_check(door: Door, version: ModelVersion, model: str) -> tuple[bool, probe.Check]:
    if version.kind == registry.BASE:
        return door.load_base(model), _answers(door, model)
    files = files_of(version)
    loaded = door.load(files)
    if not files.is_adapter:
        return loaded, _answers(door, model)
    base = door.base_of(files)
    if base is None:
        return loaded, probe.Check(None, "the server does not say what it calls the base model")
    return loaded, probe.check(door, files.name, base)


def _answers(door: Door, model: str) -> probe.Check:
    """Ask the server for short answers; there is nothing to compare a base with."""
    probe.greedy_texts(door, model)
    return probe.Check(None, "it answers; there is no base to compare it with")


def _forget(door: Door, name: str) -> None:
    try:
        door.unload(name)
    except _SERVER_ERRORS as error:
        log.warning("%s stays loaded, though it was refused: %s", name, error)
