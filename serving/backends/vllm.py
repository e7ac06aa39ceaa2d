"""The doors to vLLM and to the embedded engine, which is told the same words.

vLLM must have been started with `--enable-lora`, with `--max-lora-rank` at least the adapter's, and
with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`. It reads the adapter from its own disk.
Source: https://docs.vllm.ai/en/latest/features/lora/
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from serving.backends.door import Door, Files, NotServable
from serving.backends.openai_compatible import (
    EngineRefused,
    ensure_adapter,
    remove_adapter,
    send,
)

_NO_RUNTIME_LORA = (404, 405)
_UNKNOWN = 404

LOAD_S: Final = 600.0
"""Longest time that a whole model may take to load, in seconds."""


@dataclass(frozen=True)
class Vllm(Door):
    """vLLM: adapters are loaded and unloaded while it runs, each a model of its own name."""

    kind: ClassVar[str] = "vllm"

    def load(self, files: Files) -> bool:
        """Load an adapter; a whole model is only looked for, since vLLM runs the one it has."""
        if not files.is_adapter:
            return self._find_whole(files)
        try:
            return ensure_adapter(self.base_url, files.name, files.folder, self.api_key)
        except EngineRefused as error:
            if error.status not in _NO_RUNTIME_LORA or "adapter" in error.reason.lower():
                raise
            raise NotServable(
                self.kind,
                files.name,
                f"the server loads no adapters while it runs ({error.status} {error.reason})",
                "Start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.",
            ) from error

    def unload(self, name: str) -> None:
        """Forget an adapter."""
        try:
            remove_adapter(self.base_url, name, self.api_key)
        except EngineRefused as error:
            if error.status != _UNKNOWN:
                raise

    def _find_whole(self, files: Files) -> bool:
        for model in self.models():
            if model.name == files.name and model.parent is None:
                return False
        raise NotServable(
            self.kind,
            files.name,
            "it is a whole model, and the server runs another one",
            f"Start one with --model {files.folder} --served-model-name {files.name}.",
        )


@dataclass(frozen=True)
class Embedded(Vllm):
    """Our engine."""

    kind: ClassVar[str] = "embedded"

    def unload(self, name: str) -> None:
        """Forget an adapter, or a whole model that was loaded beside the first."""
        super().unload(name)
        send("DELETE", f"{self.base_url.rstrip('/')}/bases/{quote(name)}", self.api_key, None)

    def _find_whole(self, files: Files) -> bool:
        """Load a whole model as a further base; the engine keeps as many as it has room for."""
        folder = files.folder.resolve()
        for model in self.models():
            is_same = model.root is not None and Path(model.root).resolve() == folder
            if model.name == files.name and is_same:
                return False
        body = {"name": files.name, "path": str(folder)}
        send("POST", f"{self.base_url.rstrip('/')}/bases", self.api_key, body, LOAD_S)
        return True
