"""Our files as a server's: a version's GGUF, made anew only where it changed."""

import hashlib
import json
from pathlib import Path

from foundation.whole import whole_file
from serving.backends.door import Door, Files, NotServable
from trainer.export import gguf_lora as lora
from trainer.export.gguf import BadGguf, read_header

_BLOCK = 1 << 20


def adapter_gguf(door: Door, files: Files) -> tuple[Path, bool]:
    """Write a version's adapter as `<name>.gguf` in the door's folder.

    Returns its path, and whether its content is new.

    Raises:
        NotServable: the adapter or its base cannot be written as GGUF.
    """
    path = door.folder / f"{files.name}.gguf"
    before = sha256(path) if path.exists() else None
    try:
        shape = _shape(door, files)
        lora.write_adapter(lora.read_adapter(files.folder, shape), shape, path)
    except (lora.NotConvertible, BadGguf, FileNotFoundError) as error:
        raise _not_convertible(door, files, error) from error
    return path, sha256(path) != before


def merged_gguf(door: Door, files: Files) -> Path:
    """Write the base's GGUF with the adapter merged in, as `<name>-merged.gguf`; as large as it.

    Raises:
        NotServable: no GGUF of the base is configured, or the adapter cannot be merged into it.
    """
    if door.base_gguf is None:
        raise NotServable(
            door.kind,
            files.name,
            "the server takes whole models only, and there is no GGUF of the base to merge into",
            "Set FLYWHEEL_BASE_GGUF to an F16, BF16 or Q8_0 file of the base model.",
        )
    path = door.folder / f"{files.name}-merged.gguf"
    try:
        shape = _shape(door, files)
        lora.merge(door.base_gguf, lora.read_adapter(files.folder, shape), path)
    except (lora.NotConvertible, BadGguf, FileNotFoundError) as error:
        raise _not_convertible(door, files, error) from error
    return path


def sha256(path: Path) -> str:
    """Return the hash of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_gguf_adapter(path: Path) -> bool:
    """Whether a file is a GGUF adapter that can be read."""
    try:
        return read_header(path).is_adapter
    except (BadGguf, OSError):
        return False


def remember(path: Path, values: dict[str, str]) -> None:
    """Write a small note beside what was made; no reader sees half of it."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(values))


def remembered(path: Path) -> dict[str, str]:
    """Return the note, or nothing where there is none that can be read."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _shape(door: Door, files: Files) -> lora.Shape:
    if door.base_gguf is not None:
        return lora.shape_of_gguf(read_header(door.base_gguf))
    return lora.shape_of_folder(Path(files.base_model))


def _not_convertible(door: Door, files: Files, error: Exception) -> NotServable:
    return NotServable(
        door.kind,
        files.name,
        f"it cannot be written as GGUF: {error}",
        "Serve it with vLLM or the embedded engine, or set FLYWHEEL_BASE_GGUF to the base's file.",
    )
