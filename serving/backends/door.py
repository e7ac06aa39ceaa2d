"""What a model server can be told, whichever it is: list, load, unload, switch. No torch.

One class per kind of server, each in its own file; `serving.backends.kinds.open_door` picks it.
A version is called by its name on every server, so the gateway's roster is the alias: switching who
serves a role is one row of the database, and what served before stays loaded.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from foundation.errors import FlywheelError
from serving.backends.openai_compatible import ServedModel, list_models

Aliases = Literal["none", "one", "many"]


class NotServable(FlywheelError):
    """This kind of server cannot run that version as it is; the text says what would do."""

    http_status = 409

    def __init__(self, kind: str, name: str, reason: str, remedy: str) -> None:
        self.kind, self.name, self.reason, self.remedy = kind, name, reason, remedy
        super().__init__(f"model server ({kind}): {name}: {reason}. {remedy}")


@dataclass(frozen=True)
class Files:
    """What a version is made of.

    Attributes:
        name: of the version, on the server too.
        folder: its files, which the server must be able to read where it loads them itself.
        base_model: folder or hub name of the model below the adapter.
        is_adapter: False for a whole model (merged, full).
    """

    name: str
    folder: Path
    base_model: str
    is_adapter: bool = True


@dataclass(frozen=True)
class Door(ABC):
    """A model server and how it is told what to run.

    All methods raise EngineUnavailable (no answer) and EngineRefused (an error of the server's).

    Attributes:
        base_url: of its OpenAI-compatible API (…/v1).
        api_key: bearer key, if it asks for one.
        base_name: what the server calls the base model, where it does not say so itself.
        folder: where files are put together for a server that cannot take ours as they are.
        base_gguf: the base model as a GGUF file, for servers that read those.
    """

    base_url: str
    api_key: str | None = None
    base_name: str | None = None
    folder: Path = Path("served")
    base_gguf: Path | None = None

    kind: ClassVar[str]
    aliases: ClassVar[Aliases] = "none"
    """Whether the server itself can be told what a role means: for no role, for one, for many."""

    exact: ClassVar[dict[str, Any]] = {}
    """What a chat request says so that the same one gives the same figures."""

    @property
    def root_url(self) -> str:
        """The server's address without `/v1`, where its own API is."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    def models(self) -> list[ServedModel]:
        """Return what the server answers for."""
        return list_models(self.base_url, self.api_key)

    @abstractmethod
    def load(self, files: Files) -> bool:
        """Have the server answer for a version by its name; return whether it was loaded now.

        Raises:
            NotServable: this kind of server cannot, or only after something a person does.
        """

    def load_base(self, base_model: str) -> bool:
        """Have the server answer for the base model by the name we know it by; mostly it does.

        Raises:
            NotServable: it runs another one, or needs to be told which of its models that is.
        """
        return False

    @abstractmethod
    def unload(self, name: str) -> None:
        """Have the server forget a version; one that it does not know changes nothing."""

    def base_of(self, files: Files) -> str | None:
        """Return what the server calls the model below `files`, or None if it cannot be asked."""
        if self.base_name is not None:
            return self.base_name
        served = self.models()
        parents = {model.name: model.parent for model in served}
        if parents.get(files.name) is not None:
            return parents[files.name]
        bases = [model for model in served if model.parent is None and model.name != files.name]
        wanted = files.base_model, Path(files.base_model).name
        named = [model.name for model in bases if model.name in wanted or model.root in wanted]
        return named[0] if named else bases[0].name if len(bases) == 1 else None

    def fields(self, name: str) -> dict[str, Any]:
        """Return what a request for a version carries beside its model's name; mostly nothing."""
        return {}

    def switch(self, alias: str, name: str) -> bool:
        """Have `alias` (a role) mean the version for those who ask the server directly.

        Returns whether that changed anything; of most servers nothing, the gateway keeps the alias.
        """
        return False
