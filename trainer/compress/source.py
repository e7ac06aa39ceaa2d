"""The whole model of a version, in a folder: as it is, or merged of its base and its adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.compress.ways import require_whole
from trainer.export.merge import merged_folder
from trainer.export.prompts import Messages
from trainer.registry import ADAPTER, BASE, version_folder
from trainer.tables import ModelVersion


@dataclass(frozen=True)
class Source:
    """What is made smaller, without its database row.

    Attributes:
        base_model: folder or hub name of the base, or the folder of the whole model.
        adapter: folder of the adapter over it, if it is one.
    """

    base_model: str
    adapter: Path | None = None


def source_of(version: ModelVersion) -> Source:
    """Return what a version is made of; raises as `require_whole` and `version_folder`."""
    require_whole(version)
    if version.kind == BASE:
        return Source(version.base_model)
    if version.kind == ADAPTER:
        return Source(version.base_model, version_folder(version))
    return Source(str(version_folder(version)))


def whole_folder(source: Source, target: Path, prompts: Sequence[Messages]) -> str:
    """Return the folder or hub name of the whole model; an adapter is merged into `target` for it.

    Raises:
        ParityFailed: merged is not adapter.
    """
    if source.adapter is None:
        return source.base_model
    return str(merged_folder(source.base_model, source.adapter, target, prompts).folder)
