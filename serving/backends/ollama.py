"""The door to Ollama: each version is a model of its own, made by `/api/create` and kept in memory.

Until 0.34 Ollama took a base and an adapter (a Modelfile's FROM and ADAPTER). Since then it refuses
adapters, so there the adapter is merged into the base's GGUF first (FLYWHEEL_BASE_GGUF) and sent
whole. Which of the two a server does is found by asking it.
Source: https://docs.ollama.com/api and, for the refusal, `server/create.go` of ollama/ollama
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from serving.backends.converted import adapter_gguf, merged_gguf, remember, remembered, sha256
from serving.backends.door import Aliases, Door, Files, NotServable
from serving.backends.openai_compatible import (
    EngineRefused,
    EngineUnavailable,
    ServedModel,
    certificates,
    refusal_of,
    send,
)

CREATE_S: Final = 1800.0
"""Longest time to take a file or to make a model, in seconds: files are as large as the base."""

KEEP: Final = -1
"""`keep_alive` that means for ever: who serves, and who served before, stays in memory."""

_NO_ADAPTERS: Final = "no longer supported"
_LATEST: Final = ":latest"
_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+){0,2}(:[\w.-]+)?")
_PARAMETER: Final = re.compile(r'^(\w+)\s+("(?:[^"\\]|\\.)*"|\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Ollama(Door):
    """Ollama: models by name, each with its base and adapter inside."""

    kind: ClassVar[str] = "ollama"
    aliases: ClassVar[Aliases] = "many"

    def models(self) -> list[ServedModel]:
        """Return the models that it has, in memory or not."""
        entries = self._send("GET", "/api/tags", None).get("models") or []
        return [
            ServedModel(str(entry["name"]).removesuffix(_LATEST), entry.get("digest"), None)
            for entry in entries
        ]

    def load(self, files: Files) -> bool:
        """Make the version's model unless it has just this content, and bring it into memory."""
        if not files.is_adapter:
            raise NotServable(
                self.kind,
                files.name,
                "it is a whole model in Hugging Face's format",
                "Convert it to GGUF (llama.cpp's convert_hf_to_gguf.py), ollama create it, and "
                "register it by that name: flywheel model add ROLE NAME",
            )
        path, _ = adapter_gguf(self, files)
        digest = sha256(path)
        note = self.folder / f"{files.name}.ollama.json"
        merged = remembered(note).get(digest)
        shown = self._shown(files.name).get("modelfile", "")
        is_new = digest not in shown and (merged is None or merged not in shown)
        if is_new and not self._create_from_adapter(files, path, digest):
            remember(note, {digest: self._create_merged(files)})
        self._send("POST", "/api/generate", {"model": files.name, "keep_alive": KEEP})
        return is_new

    def load_base(self, base_model: str) -> bool:
        """Give what Ollama calls the base (FLYWHEEL_ENGINE_BASE) our name for it as well."""
        if base_model in {model.name for model in self.models()}:
            return False
        if self.base_name is None or not _NAME.fullmatch(base_model):
            raise NotServable(
                self.kind,
                base_model,
                "the server has no model of that name",
                "Set FLYWHEEL_ENGINE_BASE to its name there, or register the base by that name.",
            )
        self._send("POST", "/api/copy", {"source": self.base_name, "destination": base_model})
        return True

    def unload(self, name: str) -> None:
        """Remove the version's model; what other models share stays."""
        try:
            self._send("DELETE", "/api/delete", {"model": name})
        except EngineRefused as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def base_of(self, files: Files) -> str | None:
        """Return the base's name: what the settings say, or our own for it if Ollama has it."""
        if self.base_name is not None:
            return self.base_name
        known = {model.name for model in self.models()}
        return files.base_model if files.base_model in known else None

    def switch(self, alias: str, name: str) -> bool:
        """Give the version the role's name too, for those who ask Ollama without the gateway."""
        digests = {model.name: model.root for model in self.models()}
        if alias in digests and digests[alias] == digests.get(name):
            return False
        self._send("POST", "/api/copy", {"source": name, "destination": alias})
        return True

    def _create_from_adapter(self, files: Files, path: Path, digest: str) -> bool:
        """Make the model of base and adapter; return False where the server takes none."""
        base = self.base_of(files)
        if base is None:
            raise NotServable(
                self.kind,
                files.name,
                f"the server has no model {files.base_model!r} to put the adapter on",
                "Set FLYWHEEL_ENGINE_BASE to what it calls the base: ollama list",
            )
        self._upload(path, digest)
        adapters = {path.name: f"sha256:{digest}"}
        body = {"model": files.name, "from": base, "adapters": adapters, "stream": False}
        try:
            self._send("POST", "/api/create", body)
        except EngineRefused as error:
            if _NO_ADAPTERS not in error.reason:
                raise
            return False
        return True

    def _create_merged(self, files: Files) -> str:
        """Make the model of a merged file, in the base's template; return the file's hash."""
        path = merged_gguf(self, files)
        try:
            digest = sha256(path)
            self._upload(path, digest)
        finally:
            path.unlink(missing_ok=True)  # as large as the base, and Ollama has it now
        body = {"model": files.name, "files": {path.name: f"sha256:{digest}"}, "stream": False}
        base = self.base_of(files)
        body |= _manner(self._shown(base)) if base is not None else {}
        self._send("POST", "/api/create", body)
        return digest

    def _shown(self, name: str) -> dict[str, Any]:
        """Return what Ollama says of a model; nothing if it has none of that name."""
        try:
            return self._send("POST", "/api/show", {"model": name})
        except EngineRefused as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return {}

    def _upload(self, path: Path, digest: str) -> None:
        """Send a file unless the server has it; it checks the hash itself."""
        url = f"{self.root_url}/api/blobs/sha256:{digest}"
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        try:
            with httpx.Client(headers=headers, timeout=CREATE_S, verify=certificates()) as client:
                if client.head(url).is_success:
                    return
                with path.open("rb") as file:
                    answer = client.post(url, content=file)
        except httpx.HTTPError as error:
            raise EngineUnavailable(url, str(error) or type(error).__name__) from error
        if answer.is_error:
            raise refusal_of(answer)

    def _send(self, method: str, path: str, body: Any) -> dict[str, Any]:
        if isinstance(body, dict) and path == "/api/generate":
            body = {**body, "stream": False}
        answer = send(method, f"{self.root_url}{path}", self.api_key, body, CREATE_S)
        if not answer.content:
            return {}
        try:
            said = answer.json()
        except ValueError as error:
            raise EngineUnavailable(self.base_url, "answers something else than Ollama") from error
        if isinstance(said, dict) and "error" in said:  # with status 200, in the middle of making
            raise EngineRefused(self.base_url, answer.status_code, str(said["error"])[:500])
        return said if isinstance(said, dict) else {}


def _manner(shown: dict[str, Any]) -> dict[str, Any]:
    """Return how a base is asked (template, system text, parameters) as `/api/create` takes it."""
    parameters: dict[str, Any] = {}
    for name, value in _PARAMETER.findall(shown.get("parameters") or ""):
        text = value[1:-1].replace('\\"', '"') if value.startswith('"') else value
        if name == "stop":
            parameters.setdefault("stop", []).append(text)
        else:
            parameters[name] = _number(text)
    manner = {name: shown[name] for name in ("template", "system") if shown.get(name)}
    return manner | ({"parameters": parameters} if parameters else {})


def _number(text: str) -> int | float | str | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
