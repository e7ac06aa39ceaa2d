"""Which server is that, and the door that fits it."""

from typing import Final

from foundation.settings import get_settings
from serving.backends.door import Door
from serving.backends.openai_compatible import EngineUnavailable, send
from serving.backends.vllm import Embedded, Vllm

DOORS: Final[dict[str, type[Door]]] = {door.kind: door for door in (Embedded, Vllm)}

OWNERS: Final = {"agent-flywheel": "embedded", "vllm": "vllm"}
"""Kinds of servers by the `owned_by` that they write beside their models."""


def open_door(kind: str, base_url: str, api_key: str | None, base_name: str | None = None) -> Door:
    """Return the door to the server at `base_url`; raises EngineUnavailable for `auto`."""
    kind = detect(base_url, api_key) if kind == "auto" else kind
    return DOORS[kind](base_url, api_key, base_name)


def engine_door() -> Door:
    """Return the door to the deployment's own model server, as its settings say."""
    settings = get_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    kind = "embedded" if settings.engine_url is None else "auto"
    return open_door(kind, settings.engine_base_url, key)


def detect(base_url: str, api_key: str | None) -> str:
    """Return the kind of the server at `base_url` (…/v1); one that says nothing is taken for vLLM.

    Raises:
        EngineUnavailable: no answer, or not a list of models.
    """
    try:
        answer = send("GET", f"{base_url.rstrip('/')}/models", api_key, None).json()
        owners = {entry.get("owned_by") for entry in answer["data"]}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineUnavailable(base_url, "answers something else than models") from error
    known = [kind for owner, kind in OWNERS.items() if owner in owners]
    return known[0] if known else "vllm"
