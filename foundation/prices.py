"""What a call costs by the public price list that litellm ships, read without importing litellm.

The list is looked at lazily and only for models that it names exactly, with or without their
provider. Surcharges (long contexts, priority, tools) are not counted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True)
class Price:
    """US dollars per token."""

    input: float
    output: float
    cached_input: float


def cost_usd(
    model: str,
    provider: str | None,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
) -> float | None:
    """Return the cost of a call, or None for a model without a price.

    Args:
        model: as the provider calls it, or `provider/model`.
        provider: who answered, where the model's name does not say.
        input_tokens: of the whole prompt, the cached ones among them.
        output_tokens: of the whole answer.
        cached_tokens: of the prompt, read from the provider's cache.
    """
    price = price_of(model, provider)
    if price is None:
        return None
    cached = min(cached_tokens, input_tokens)
    return (
        (input_tokens - cached) * price.input
        + cached * price.cached_input
        + output_tokens * price.output
    )


@lru_cache(maxsize=4096)
def price_of(model: str, provider: str | None = None) -> Price | None:
    """Return the price of a model, or None if the list does not name it."""
    listed = _price_list()
    for name in _names(model, provider):
        if name in listed:
            return listed[name]
    return None


def _names(model: str, provider: str | None) -> list[str]:
    names = [f"{provider}/{model}", model] if provider else [model]
    prefix, _, bare = model.partition("/")
    return [*names, bare] if bare and prefix in ("openai", "anthropic") else names


@lru_cache(maxsize=1)
def _price_list() -> Mapping[str, Price]:
    """Return the list of the installed litellm; empty where there is none."""
    spec = find_spec("litellm")  # finds, and does not import
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE
        if path.is_file():
            return _prices(json.loads(path.read_text("utf-8")))
    return {}


def _prices(listed: Mapping[str, Any]) -> dict[str, Price]:
    prices = {}
    for name, facts in listed.items():
        asked, said = facts.get("input_cost_per_token"), facts.get("output_cost_per_token")
        if isinstance(asked, int | float) and isinstance(said, int | float):
            cached = facts.get("cache_read_input_token_cost")
            known = isinstance(cached, int | float)
            prices[name] = Price(float(asked), float(said), float(cached if known else asked))
    return prices
