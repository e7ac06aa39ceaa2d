"""Named upstreams: the OpenAI-compatible servers that calls are forwarded to.

Our engine (`FLYWHEEL_ENGINE_URL`) runs the model versions; further ones come from
`FLYWHEEL_UPSTREAMS`, a JSON object: `{"expert": {"base_url", "api_key", "models": ["expert"]}}`.
A model that no upstream names goes to litellm, as `provider/model`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import BadSetting
from foundation.settings import Settings, get_settings

ENGINE = "engine"
ANY_MODEL = "*"


@dataclass(frozen=True)
class Upstream:
    """One OpenAI-compatible server; `models` are the names it answers for, `*` for every other."""

    name: str
    base_url: str
    api_key: str | None = None
    models: tuple[str, ...] = ()

    @property
    def chat_url(self) -> str:
        """Where chat completions are posted."""
        return f"{self.base_url}/chat/completions"


def engine(settings: Settings | None = None) -> Upstream:
    """Return the server of our own model versions."""
    settings = settings or get_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Upstream(ENGINE, settings.engine_base_url.rstrip("/"), key)


def configured(settings: Settings | None = None) -> tuple[Upstream, ...]:
    """Return the further upstreams in the order of the setting; empty if it is unset.

    Raises:
        BadSetting: an entry lacks `base_url`, or a field is of another kind.
    """
    settings = settings or get_settings()
    return tuple(_upstream(name, entry) for name, entry in settings.upstreams.items())


def _upstream(name: str, entry: dict[str, Any]) -> Upstream:
    base_url, key, models = entry.get("base_url"), entry.get("api_key"), entry.get("models", [])
    unknown = sorted(entry.keys() - {"base_url", "api_key", "models"})
    if unknown:
        raise _bad(name, unknown[0], "base_url, api_key or models")
    if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
        raise _bad(name, base_url, "a base_url that starts with http:// or https://")
    if key is not None and not isinstance(key, str):
        raise _bad(name, type(key).__name__, "a text as api_key")
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise _bad(name, models, "a list of model names as models")
    return Upstream(name, base_url.rstrip("/"), key, tuple(models))


def _bad(name: str, value: Any, expected: str) -> BadSetting:
    return BadSetting(f"FLYWHEEL_UPSTREAMS, {name}", value, expected, "See docs/settings.md.")


def upstream_of(model: str, upstreams: Sequence[Upstream]) -> Upstream | None:
    """Return the upstream that answers for `model`: one that names it, else one with `*`."""
    naming = (upstream for upstream in upstreams if model in upstream.models)
    anything = (upstream for upstream in upstreams if ANY_MODEL in upstream.models)
    return next(naming, None) or next(anything, None)
