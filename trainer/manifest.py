"""What a version is and where it comes from, as an in-toto statement that can be signed.

The subjects are its files by SHA-256; the predicate is the row's own words and its lineage. A
statement is made once, when the version is registered. What may change after (stage, pins, metrics)
is not in it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session

from curation.tables import Dataset
from trainer.tables import ModelVersion, TrainingRun

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:agent-flywheel:model-version:1"

_ROW: Final = (
    *("id", "name", "role", "number", "kind", "base_model", "content_hash", "is_control"),
    *("training_run_id", "dataset_id", "parent_id"),
)
"""Columns that never change after a version is registered."""


@dataclass(frozen=True)
class File:
    """One file: its name in the folder, SHA-256 and size in bytes."""

    name: str
    digest: str
    n_bytes: int


def files_in(folder: Path) -> list[File]:
    """Return the files of a folder, by name; every byte is read."""
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        File(path.relative_to(folder).as_posix(), _digest(path), path.stat().st_size)
        for path in names
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def statement(
    session: Session, version: ModelVersion, files: list[File], signed_by: str = "flywheel"
) -> bytes:
    """Return what is signed of a version: canonical JSON (sorted keys, no spaces, UTF-8).

    Args:
        session: to read the training, dataset and parent from.
        version: a stored row.
        files: all that its folder holds.
        signed_by: `flywheel`, when it was registered; else who signed what was there.
    """
    training = session.get(TrainingRun, version.training_run_id or UUID(int=0))
    dataset = session.get(Dataset, version.dataset_id or UUID(int=0))
    parent = session.get(ModelVersion, version.parent_id or UUID(int=0))
    papers = training.manifest if training else {}
    told = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": one.name, "digest": {"sha256": one.digest}} for one in files],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "version": row_of(version),
            "sizes": {one.name: one.n_bytes for one in files},
            "created_at": version.created_at.isoformat(),
            "base_hash": papers.get("base_hash"),
            "recipe_hash": papers.get("recipe_hash"),
            "seed": papers.get("seed"),
            "suite": training.suite if training else None,
            "dataset": {"id": str(dataset.id), "content_hash": dataset.content_hash}
            if dataset
            else None,
            "parent": {"name": parent.name, "content_hash": parent.content_hash}
            if parent
            else None,
            "made_by": version.made_by,
            "code_version": papers.get("code_version") or version_of("agent-flywheel"),
            "signed_by": signed_by,
        },
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def row_of(version: ModelVersion) -> dict[str, Any]:
    """Return the columns of a version that never change, as JSON values."""
    values = {name: getattr(version, name) for name in _ROW}
    return {k: str(v) if isinstance(v, UUID) else v for k, v in values.items()}


def row_differences(version: ModelVersion, told: Mapping[str, Any]) -> list[str]:
    """Return what a row says otherwise than its statement, in words."""
    signed = told["predicate"]["version"]
    return [
        f"{name} is {value!r}, signed was {signed.get(name)!r}"
        for name, value in row_of(version).items()
        if signed.get(name) != value
    ]


def file_differences(files: list[File], told: Mapping[str, Any]) -> list[str]:
    """Return what files are otherwise than in a statement, in words: changed, missing, further."""
    signed = {one["name"]: one["digest"]["sha256"] for one in told["subject"]}
    found = {one.name: one.digest for one in files}
    return [
        *(f"{n} was changed" for n in sorted(signed.keys() & found) if signed[n] != found[n]),
        *(f"{n} is missing" for n in sorted(signed.keys() - found)),
        *(f"{n} was added" for n in sorted(found.keys() - signed)),
    ]
