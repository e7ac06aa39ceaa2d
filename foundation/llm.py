"""The one door to litellm: every provider's models in the OpenAI shape.

litellm costs seconds to import and, unless told otherwise, asks the network for a price map; so it
is imported on first use and with the local map. Nothing else in this repository imports it.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import lru_cache, wraps
from typing import Any

from foundation.errors import FlywheelError, MissingExtra
from foundation.settings import get_settings

Request = dict[str, Any]
"""An OpenAI chat completion request: model, messages and parameters."""


class ProviderError(FlywheelError):
    """The provider refused or failed; `http_status` is its own."""

    def __init__(self, model: str, kind: str, message: str, status: int) -> None:
        self.model, self.kind, self.status = model, kind, status
        super().__init__(f"model {model!r}: {kind}: {message}")


@lru_cache(maxsize=1)
def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise MissingExtra("litellm", "service") from error
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


def _openai() -> Any:
    """Return the openai package: litellm's errors are its errors."""
    import openai

    return openai


def custom_logger_base() -> type[Any]:
    """Return litellm's `CustomLogger`, the base class of its callbacks."""
    _litellm()
    from litellm.integrations.custom_logger import CustomLogger

    logger: type[Any] = CustomLogger
    return logger


def watch_streams(watch: Callable[[Any], None]) -> None:
    """Have `watch(stream)` called with every stream that litellm makes from now on.

    litellm has no hook for this, and tells its callbacks nothing of a stream that is abandoned.
    """
    _streams_watched().append(watch)


@lru_cache(maxsize=1)
def _streams_watched() -> list[Callable[[Any], None]]:
    """Return those who watch streams; the class of streams tells them from now on."""
    _litellm()
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

    watchers: list[Callable[[Any], None]] = []
    make = CustomStreamWrapper.__init__

    @wraps(make)
    def make_watched(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        for watch in watchers:
            watch(self)

    CustomStreamWrapper.__init__ = make_watched
    return watchers


def price_per_mtok(model: str) -> tuple[float, float] | None:
    """Return a model's price as litellm knows it; None if it does not.

    Returns:
        Dollars per million tokens of input and of output.
    """
    known = _litellm().model_cost
    entry = known.get(model) or known.get(model.rpartition("/")[2]) or {}
    asked, said = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
    return None if asked is None or said is None else (asked * 1e6, said * 1e6)


def cost_usd(model: str, response: Mapping[str, Any]) -> float | None:
    """Return what a response cost by its stated usage; None if the model's price is not known."""
    price, usage = price_per_mtok(model), response.get("usage") or {}
    if price is None:
        return None
    asked, said = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return float((asked * price[0] + said * price[1]) / 1e6)


def connection_of(model: str) -> dict[str, Any]:
    """Return how litellm calls the model: at the upstream of the settings that names it, if any."""
    for entry in get_settings().upstreams.values():
        if model in (entry.get("models") or []):
            key = entry.get("api_key") or "none"
            return {"model": f"openai/{model}", "api_base": entry["base_url"], "api_key": key}
    return {"model": model}


def complete(request: Request, **connection: Any) -> dict[str, Any]:
    """Send a chat request and return the OpenAI-shaped response.

    Args:
        request: model, messages and parameters.
        connection: `api_base`, `api_key`, `timeout` (seconds), litellm's own names.

    Raises:
        ProviderError: the provider failed.
    """
    litellm, openai = _litellm(), _openai()
    try:
        response = litellm.completion(**request, **connection)
    except openai.OpenAIError as error:
        raise _provider_error(request, error) from error
    plain: dict[str, Any] = response.model_dump(mode="json", exclude_none=True)
    return plain


def stream(request: Request, **connection: Any) -> Iterator[dict[str, Any]]:
    """Send a streaming chat request and yield OpenAI-shaped chunks; raises as `complete`."""
    litellm, openai = _litellm(), _openai()
    try:
        for chunk in litellm.completion(**{**request, "stream": True}, **connection):
            yield chunk.model_dump(mode="json", exclude_none=True)
    except openai.OpenAIError as error:
        raise _provider_error(request, error) from error


async def acomplete(request: Request, **connection: Any) -> dict[str, Any]:
    """Async twin of `complete`, for the gateway."""
    litellm, openai = _litellm(), _openai()
    try:
        response = await litellm.acompletion(**request, **connection)
    except openai.OpenAIError as error:
        raise _provider_error(request, error) from error
    plain: dict[str, Any] = response.model_dump(mode="json", exclude_none=True)
    return plain


async def astream(request: Request, **connection: Any) -> AsyncIterator[dict[str, Any]]:
    """Async twin of `stream`, for the gateway."""
    litellm, openai = _litellm(), _openai()
    try:
        chunks = await litellm.acompletion(**{**request, "stream": True}, **connection)
        async for chunk in chunks:
            yield chunk.model_dump(mode="json", exclude_none=True)
    except openai.OpenAIError as error:
        raise _provider_error(request, error) from error


def _provider_error(request: Request, error: Exception) -> ProviderError:
    status = int(getattr(error, "status_code", None) or 502)
    return ProviderError(str(request.get("model")), type(error).__name__, str(error), status)
