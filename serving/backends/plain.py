"""The door to Hugging Face's server, `transformers serve`: model folders, loaded when asked for.

It must be started in the folder where they are put together (HOME/served), so that a version's
name is the path of its model there. A folder is links: the adapter's files beside the base's, which
transformers reads as a model with an adapter, or a whole model (merged, full) as it is.
Nothing is copied or merged.
Source: `transformers serve --help`
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from foundation.whole import unfinished_beside
from serving.backends.door import Door, Files, NotServable
from serving.backends.openai_compatible import EngineRefused, ServedModel, send

LOAD_S: Final = 600.0
"""Longest time a model may take to load, in seconds."""

_CONFIG: Final = "adapter_config.json"


@dataclass(frozen=True)
class Plain(Door):
    """`transformers serve`: slow, and of every model that transformers knows."""

    kind: ClassVar[str] = "plain"

    def models(self) -> list[ServedModel]:
        """Return the versions put together for it; its own list is of the hub's cache only."""
        send("GET", f"{self.root_url}/health", self.api_key, None)
        folders = [
            path
            for path in _children(self.folder)
            if path.name[0] != "." and (path / "config.json").exists()
        ]
        return [ServedModel(path.name, str(path.resolve()), None) for path in folders]

    def load(self, files: Files) -> bool:
        """Put the version's folder together and have the server load it."""
        folder = self.folder / files.name
        is_new = not _is_of(folder, files)
        if is_new:
            self._put_together(folder, files)
        self._load(files.name)
        return is_new

    def load_base(self, base_model: str) -> bool:
        """Have the server load the base by its folder or hub name."""
        self._load(base_model)
        return False

    def unload(self, name: str) -> None:
        """Forget the version's folder; the server itself drops a model that nobody asks for."""
        path = self.folder / name
        path.unlink(missing_ok=True) if path.is_symlink() else shutil.rmtree(path, True)

    def base_of(self, files: Files) -> str | None:
        """Return the base's folder or hub name: this server takes any."""
        return self.base_name or files.base_model

    def _put_together(self, folder: Path, files: Files) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.unload(files.name)
        if not files.is_adapter:
            folder.symlink_to(files.folder.resolve(), target_is_directory=True)
            return
        base = Path(files.base_model)
        if not (base / "config.json").is_file():
            raise NotServable(
                self.kind,
                files.name,
                f"its base {files.base_model!r} is no folder on this machine",
                "Download it, and train or register with the folder as the base model.",
            )
        unfinished = unfinished_beside(folder)
        unfinished.mkdir()
        for source in (*_children(files.folder), *_children(base)):
            link = unfinished / source.name
            if source.name != _CONFIG and not link.is_symlink():  # the adapter's own files win
                link.symlink_to(source.resolve())
        config = json.loads((files.folder / _CONFIG).read_text())
        config["base_model_name_or_path"] = str(base.resolve())  # training's may be relative
        (unfinished / _CONFIG).write_text(json.dumps(config, indent=2))
        try:
            unfinished.replace(folder)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not _is_of(folder, files):  # otherwise another process was faster
                raise

    def _load(self, model: str) -> None:
        """Ask for a model and read its progress to the end; raises EngineRefused."""
        url = f"{self.root_url}/load_model"
        answer = send("POST", url, self.api_key, {"model": model}, LOAD_S)
        last: dict[str, Any] = {}
        for line in answer.text.splitlines():
            if line.startswith("data:"):
                last = json.loads(line.removeprefix("data:"))
        if last.get("status") != "ready":
            reason = str(last.get("message") or "it did not say that the model is ready")
            raise EngineRefused(url, httpx.codes.BAD_REQUEST, reason[:500])


def _is_of(folder: Path, files: Files) -> bool:
    """Whether the folder is put together of just these files."""
    if not files.is_adapter:
        return folder.exists() and folder.resolve() == files.folder.resolve()
    weights = folder / "adapter_model.safetensors"
    return weights.exists() and weights.resolve().parent == files.folder.resolve()


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
