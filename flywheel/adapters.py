"""Keep the engine's adapters loaded: whoever serves, or is in an experiment, can be asked."""

import logging

from sqlmodel import col, select

from foundation.database import session_scope
from foundation.settings import get_settings
from serving.backends.openai_compatible import EngineUnavailable, ensure_adapter, list_models
from trainer.registry import ADAPTER, version_folder
from trainer.tables import EXPERIMENTAL, PRODUCTION, ModelVersion

log = logging.getLogger(__name__)


def keep_adapters_loaded() -> list[str]:
    """Load the adapters of serving and experimental versions that the engine lacks.

    An engine that does not answer is left for the next time. Returns the names loaded now.
    """
    settings = get_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    with session_scope() as session:
        wanted = session.exec(
            select(ModelVersion).where(
                ModelVersion.kind == ADAPTER,
                col(ModelVersion.stage).in_((PRODUCTION, EXPERIMENTAL)),
            )
        ).all()
    if not wanted:
        return []
    try:
        present = {model.name for model in list_models(settings.engine_base_url, key)}
        missing = [version for version in wanted if version.name not in present]
        for version in missing:
            ensure_adapter(settings.engine_base_url, version.name, version_folder(version), key)
    except EngineUnavailable as error:
        log.warning("adapters are not loaded: %s", error)
        return []
    return [version.name for version in missing]
