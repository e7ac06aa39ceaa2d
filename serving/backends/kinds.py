"""Which server is that, and the door that fits it."""

from pathlib import Path
from typing import Final

from foundation.settings import get_settings
from serving.backends.door import Door
from serving.backends.llama_cpp import LlamaCpp
from serving.backends.ollama import Ollama
from serving.backends.openai_compatible import EngineRefused, EngineUnavailable, send
from serving.backends.plain import Plain
from serving.backends.vllm import Embedded, Vllm

DOORS: Final[dict[str, type[Door]]] = {
    door.kind: door for door in (Embedded, Vllm, Ollama, LlamaCpp, Plain)
}
AUTO: Final = "auto"

OWNERS: Final = {"agent-flywheel": "embedded", "vllm": "vllm", "llamacpp": "llama_cpp"}
"""Kinds of servers by the `owned_by` that they write beside their models."""

_WORDS: Final = (
    ("/", "Ollama is running", "ollama"),
    ("/props", '"role":"router"', "llama_cpp"),  # with many models, none of them yet
)
"""What servers that list no model, or not whose it is, say elsewhere."""

_FILES: Final = "served"


def open_door(
    kind: str,
    base_url: str,
    api_key: str | None = None,
    base_name: str | None = None,
    folder: Path = Path(_FILES),
    base_gguf: Path | None = None,
) -> Door:
    """Return the door to the server at `base_url`.

    Args:
        kind: one of DOORS, or `auto`: the server is asked.
        base_url: of its OpenAI-compatible API (…/v1).
        api_key: bearer key, if it asks for one.
        base_name: what it calls the base model, where it does not say so itself.
        folder: where files for it are put together.
        base_gguf: the base model as a GGUF file.

    Raises:
        EngineUnavailable: the kind is `auto`, and nobody answers.
    """
    kind = detect(base_url, api_key) if kind == AUTO else kind
    return DOORS[kind](base_url, api_key, base_name, folder, base_gguf)


def engine_door() -> Door:
    """Return the door to the deployment's own model server, as its settings say."""
    settings = get_settings()
    embedded = settings.engine_kind == AUTO and settings.engine_url is None
    return open_door(
        "embedded" if embedded else settings.engine_kind,
        settings.engine_base_url,
        settings.api_key.get_secret_value() if settings.api_key else None,
        settings.engine_base,
        settings.home.absolute() / _FILES,
        settings.base_gguf,
    )


def detect(base_url: str, api_key: str | None = None) -> str:
    """Return the kind of the server at `base_url` (…/v1); one that says nothing is taken for vLLM.

    Hugging Face's own server does not say what it is: FLYWHEEL_ENGINE_KIND must.

    Raises:
        EngineUnavailable: no answer, or not a list of models.
    """
    base_url = base_url.rstrip("/")
    try:
        answer = send("GET", f"{base_url}/models", api_key, None).json()
        owners = {entry.get("owned_by") for entry in answer["data"] or []}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineUnavailable(base_url, "answers something else than models") from error
    for owner, kind in OWNERS.items():
        if owner in owners:
            return kind
    root_url = base_url.removesuffix("/v1")
    for path, word, kind in _WORDS:
        if word in _text(f"{root_url}{path}", api_key):
            return kind
    return "vllm"


def _text(url: str, api_key: str | None) -> str:
    try:
        return send("GET", url, api_key, None).text
    except EngineRefused:
        return ""
