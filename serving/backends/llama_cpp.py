"""The door to llama.cpp's server, in both of its ways.

With many models (`llama-server --models-preset HOME/served/models.ini`): each version is a model of
its own name, base and adapter, which can be loaded and unloaded while it runs. We write that file.

With one model (`llama-server -m base.gguf --lora-scaled a.gguf:0,b.gguf:0`): adapters are read when
it starts and only switched afterwards, by their scale, for one request or for all. A new version
then needs a restart, and the refusal says with which words. Not `--lora-init-without-apply`: builds
of it leave the scale at 1 with it, and the base answers as the adapter.
Source: `tools/server/README.md` of ggml-org/llama.cpp
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from foundation.whole import whole_file
from serving.backends.converted import adapter_gguf, is_gguf_adapter
from serving.backends.door import Aliases, Door, Files, NotServable
from serving.backends.openai_compatible import (
    EngineUnavailable,
    ServedModel,
    list_models,
    send,
)

LOAD_S: Final = 600.0
"""Longest time a model may take to load, in seconds."""

PRESET: Final = "models.ini"
_BASE_NOTE: Final = "base.name"


@dataclass(frozen=True)
class LlamaCpp(Door):
    """llama-server: GGUF files, adapters by scale or as models of their own."""

    kind: ClassVar[str] = "llama_cpp"
    aliases: ClassVar[Aliases] = "one"
    exact: ClassVar[dict[str, Any]] = {"cache_prompt": False}

    def models(self) -> list[ServedModel]:
        """Return what can be asked for; of one model, the adapters that it was started with."""
        served = list_models(self.base_url, self.api_key)
        if self._has_many():
            return served
        base = served[0].name if served else None
        return [
            *served,
            *(ServedModel(Path(a["path"]).stem, a["path"], base) for a in self._adapters()),
        ]

    def load(self, files: Files) -> bool:
        """Write the adapter as GGUF and have the server load it, if it can while it runs."""
        if not files.is_adapter:
            raise NotServable(
                self.kind,
                files.name,
                "it is a whole model in Hugging Face's format",
                "Convert it with llama.cpp's convert_hf_to_gguf.py and start a server on it.",
            )
        _, is_new = adapter_gguf(self, files)
        if not self._has_many():
            self._require_started_with(files)
            return False
        return self._load_model(files.name, files.base_model, is_new)

    def load_base(self, base_model: str) -> bool:
        """Have a server with many models answer for the base by our name for it."""
        return self._has_many() and self._load_model(base_model, base_model, False)

    def unload(self, name: str) -> None:
        """Take the version out of the server's list, or its scale to 0 where there is no list."""
        if not self._has_many():
            others = [{"id": a["id"], "scale": a["scale"]} for a in self._adapters(but=name)]
            self._send("POST", "/lora-adapters", others)
            return
        (self.folder / f"{name}.gguf").unlink(missing_ok=True)
        self._write_preset(None)
        if name in {model.name for model in self.models()}:
            self._send("GET", "/models?reload=1", None)  # unloads what the list no longer has

    def base_of(self, files: Files) -> str | None:
        """Return the base's name: the section that we wrote, or the only model's."""
        if self.base_name is not None:
            return self.base_name
        if not self._has_many():
            return super().base_of(files)
        self._load_model(files.base_model, files.base_model, False)
        return files.base_model

    def fields(self, name: str) -> dict[str, Any]:
        """Return the scales that make a request to the only model one to the version."""
        adapters = [] if self._has_many() else self._adapters()
        scales = [{"id": a["id"], "scale": float(_is(a, name))} for a in adapters]
        return {"lora": scales} if scales else {}

    def switch(self, alias: str, name: str) -> bool:
        """Let the only model answer with the version from now on, whoever asks.

        A server with many models needs no switching.
        """
        adapters = [] if self._has_many() else self._adapters()
        wanted = [{"id": a["id"], "scale": float(_is(a, name))} for a in adapters]
        if wanted == [{"id": a["id"], "scale": a["scale"]} for a in adapters]:
            return False
        self._send("POST", "/lora-adapters", wanted)
        return True

    def _has_many(self) -> bool:
        said = self._send("GET", "/props", None).json()
        return isinstance(said, dict) and said.get("role") == "router"

    def _adapters(self, but: str | None = None) -> list[dict[str, Any]]:
        said = self._send("GET", "/lora-adapters", None).json()
        if not isinstance(said, list):
            raise EngineUnavailable(self.base_url, "answers something else than its adapters")
        return [adapter for adapter in said if but is None or not _is(adapter, but)]

    def _require_started_with(self, files: Files) -> None:
        if any(_is(adapter, files.name) for adapter in self._adapters()):
            return
        ours = sorted(f"{path}:0" for path in self.folder.glob("*.gguf") if is_gguf_adapter(path))
        raise NotServable(
            self.kind,
            files.name,
            "the server was started without it, and with one model it loads none while it runs",
            f"Start it again with: --lora-scaled {','.join(ours)} or, to need no restart any more, "
            f"with --models-preset {self.folder / PRESET} in place of -m.",
        )

    def _load_model(self, name: str, base_model: str, is_new: bool) -> bool:
        """Put a model in the server's list and load it; return whether it was loaded now."""
        self._write_preset(base_model)
        self._send("GET", "/models?reload=1", None)
        status = self._status(name)
        if status.get("value") == "loaded" and not is_new:
            return False
        if status.get("value") == "loaded":
            self._send("POST", "/models/unload", {"model": name})
            self._wait(name, "unloaded")
        self._send("POST", "/models/load", {"model": name})
        self._wait(name, "loaded")
        return True

    def _wait(self, name: str, value: str) -> None:
        deadline = time.monotonic() + LOAD_S
        while (status := self._status(name)).get("value") != value:
            if status.get("failed"):
                code = status.get("exit_code")
                raise NotServable(
                    self.kind, name, f"its process ended with {code}", "See the server's log."
                )
            if time.monotonic() > deadline:
                raise EngineUnavailable(self.base_url, f"{name} was not {value} in {LOAD_S:.0f} s")
            time.sleep(0.1)

    def _status(self, name: str) -> dict[str, Any]:
        for entry in self._send("GET", "/models", None).json().get("data", []):
            if entry.get("id") == name:
                return dict(entry.get("status") or {})
        raise NotServable(
            self.kind,
            name,
            "the server's list of models lacks it",
            f"Start it with: llama-server --models-preset {self.folder / PRESET}",
        )

    def _write_preset(self, base_model: str | None) -> None:
        """Write the list anew: the base under our name for it, and each adapter on it."""
        if self.base_gguf is None:
            raise NotServable(
                self.kind, "base model", "no GGUF of it is configured", "Set FLYWHEEL_BASE_GGUF."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / _BASE_NOTE
        if base_model is not None:
            note.write_text(base_model)
        base = note.read_text() if note.exists() else None
        model = f"model = {self.base_gguf.absolute()}\n"
        parts = ["version = 1\n"]
        if base is not None:
            parts.append(f"[{base}]\n{model}")
        for path in sorted(self.folder.glob("*.gguf")):
            if is_gguf_adapter(path):
                parts.append(f"[{path.stem}]\n{model}lora = {path.absolute()}\n")
        with whole_file(self.folder / PRESET) as unfinished:
            unfinished.write_text("\n".join(parts))

    def _send(self, method: str, path: str, body: Any) -> Any:
        return send(method, f"{self.root_url}{path}", self.api_key, body)


def _is(adapter: dict[str, Any], name: str) -> bool:
    return Path(str(adapter.get("path"))).stem == name
