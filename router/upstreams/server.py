"""One upstream: an OpenAI-compatible server, and the upstreams that the settings name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from foundation.errors import BadSetting
from foundation.settings import LOOPBACK, Settings, get_settings
from router.http1 import Timeouts

ENGINE = "engine"
LITELLM = "litellm"
"""What calls without an upstream are booked under: each model goes to its own provider."""
ANY_MODEL = "*"

CONNECT_S, ANSWER_S, IDLE_S = 5.0, 600.0, 600.0

CHAT, COMPLETIONS, EMBEDDINGS = "chat", "completions", "embeddings"
RESPONSES, MESSAGES = "responses", "messages"
EVERYBODYS = (CHAT, COMPLETIONS, EMBEDDINGS)
"""What every OpenAI-compatible server is taken to understand."""


@dataclass(frozen=True)
class Upstream:
    """One OpenAI-compatible server; `models` are the names it answers for, `*` for every other.

    Args:
        dialects: ways of asking that it understands natively; others are translated for it.
        weight: its share where several may answer, against theirs.
        connect_timeout_s: longest wait for a connection.
        answer_timeout_s: longest wait for the first byte of an answer, the connection included.
        idle_timeout_s: longest wait between two parts of an answer.
    """

    name: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ()
    dialects: tuple[str, ...] = EVERYBODYS
    weight: float = 1.0
    connect_timeout_s: float = CONNECT_S
    answer_timeout_s: float = ANSWER_S
    idle_timeout_s: float = IDLE_S

    @property
    def chat_url(self) -> str:
        """Where chat completions are posted."""
        return f"{self.base_url}/chat/completions"

    @property
    def models_url(self) -> str:
        """Where its models are listed: the cheapest question that it can be asked."""
        return f"{self.base_url}/models"

    @cached_property
    def timeouts(self) -> Timeouts:
        """How long its answers are waited for."""
        return Timeouts(self.connect_timeout_s, self.answer_timeout_s, self.idle_timeout_s)

    @cached_property
    def proxy(self) -> str | None:
        """The environment's proxy for it; calls to this machine never take one."""
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        if host in LOOPBACK or proxy_bypass(host):
            return None
        return getproxies().get(parts.scheme)


def engine(settings: Settings | None = None) -> Upstream:
    """Return the server of our own model versions."""
    settings = settings or get_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Upstream(ENGINE, settings.engine_base_url.rstrip("/"), key)


def configured(settings: Settings | None = None) -> tuple[Upstream, ...]:
    """Return the upstreams of FLYWHEEL_UPSTREAMS in their order; empty if it is unset.

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
    if not is_address(base_url):
        raise _bad(name, base_url, "a base_url that starts with http:// or https://")
    if key is not None and not isinstance(key, str):
        raise _bad(name, type(key).__name__, "a text as api_key")
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise _bad(name, models, "a list of model names as models")
    return Upstream(name, str(base_url).rstrip("/"), key, tuple(models))


def is_address(value: Any) -> bool:
    """Return whether `value` can be a server's base URL."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _bad(name: str, value: Any, expected: str) -> BadSetting:
    return BadSetting(f"FLYWHEEL_UPSTREAMS, {name}", value, expected, "See docs/settings.md.")


def upstream_of(model: str, upstreams: Sequence[Upstream]) -> Upstream | None:
    """Return the upstream that answers for `model`: one that names it, else one with `*`."""
    naming = (upstream for upstream in upstreams if model in upstream.models)
    anything = (upstream for upstream in upstreams if ANY_MODEL in upstream.models)
    return next(naming, None) or next(anything, None)
