"""Files that others made: weights as safetensors, settings as JSON, and nothing that runs.

A folder of weights is a stranger's text until it was looked at. Reading a pickle runs what its
author wrote; a configuration may name a module to import or a file to read; a link may lead out of
the folder; a header may claim more memory than there is. All that is looked for here, before any
library opens a file: when a version is registered, and each time its files are taken up.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from foundation.errors import BadInput

WEIGHTS: Final = ".safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"
PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
"""Endings of files that may run code when they are read."""
PICKLED: Final = (*(bytes((0x80, protocol)) for protocol in range(2, 6)), b"PK\x03\x04")
"""What such files begin with, whatever they are called: a pickle, or the zip that torch saves."""
CODE: Final = (".py", ".so", ".pyd", ".dll", ".sh")
"""Endings of what runs; a base that is trusted by name may bring code of its own."""

MOST_HEADER: Final = 100_000_000
"""Bytes of a safetensors header at most, as its own library has it."""
MOST_LOOKED_AT: Final = 2 << 30
"""Bytes of weights that are looked through for numbers that are none; larger ones are not."""

_NAME: Final = re.compile(r"[\w.-]+")
_PATTERN: Final = re.compile(r"[\w.\\^$-]+")
"""A layer's name as a pattern: without repetition, on which a search could hang."""
_SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_EXPONENTS: Final = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}
"""Bits that are all set in a number that is infinite or none."""
_SAVE: Final = "Save them with save_pretrained(..., safe_serialization=True)."
_TRUST: Final = "Read that code; to allow it: name the base in FLYWHEEL_TRUSTED_BASES."


def require_safe(
    what: str, folder: Path, *, may_have_code: bool = False, needs_weights: bool = True
) -> None:
    """Check that a folder's files may be read by anything; the first thing wrong is told.

    Args:
        what: whose files, for the error: `files of coder-v3`.
        folder: on this machine; a single file is looked at alone.
        may_have_code: the base is trusted by name, and its code may lie beside the weights.
        needs_weights: whether a folder without any is refused.

    Raises:
        BadInput: a pickle, a link that leads out, code, weights or settings as described above, or
            no weights as safetensors at all.
    """
    has_weights = False
    files = {
        file.relative_to(folder).as_posix() if folder.is_dir() else file.name: file
        for file in _files(what, folder)
    }
    for name, file in files.items():
        _require_no_pickle(what, name, file)
    for name, file in files.items():
        if file.suffix.lower() in CODE and not may_have_code:
            raise BadInput(what, name, "weights and settings, no code", _TRUST)
        if file.suffix.lower() == WEIGHTS:
            has_weights = True
            require_sound_weights(what, file)
        elif file.name == ADAPTER_CONFIG:
            require_plain_adapter(what, _json(what, name, file))
        elif file.suffix.lower() == ".json" and not may_have_code:
            _require_no_remote_code(what, name, file)
    if needs_weights and not has_weights:
        found = ", ".join(sorted(files)) or "none"
        raise BadInput(what, found, "weights as safetensors, and no pickle", _SAVE)


def _files(what: str, folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise BadInput(
                what,
                f"{path.name} → {path.readlink()}",
                "files of this folder, no link that leads out of it",
                "Copy what it points to, if that is meant.",
            )
        if path.is_file():
            yield path


def _require_no_pickle(what: str, name: str, file: Path) -> None:
    with file.open("rb") as stream:
        begins = stream.read(4)
    if file.suffix.lower() in PICKLES or begins.startswith(PICKLED):
        raise BadInput(what, name, "weights as safetensors, and no pickle", _SAVE)


def require_sound_weights(what: str, file: Path) -> None:
    """Check a safetensors file: a header that fits, tensors inside the file, finite numbers.

    Raises:
        BadInput: as said.
    """
    header, begins = read_header(what, file)
    size = file.stat().st_size - begins
    for name, about in header.items():
        low, high = about["data_offsets"]
        if not 0 <= low <= high <= size:
            raise _unsound(what, file, f"{name} at {low}:{high} of {size} bytes")
    if size > MOST_LOOKED_AT:
        return
    data = np.memmap(file, dtype=np.uint8, mode="r") if size else None
    for name, about in header.items():
        low, high = about["data_offsets"]
        width = _SIZES.get(about["dtype"])
        if data is None or width is None or (high - low) % width:
            continue
        raw = data[begins + low : begins + high]
        exponent = _EXPONENTS[about["dtype"]]
        if _has_full_exponent(raw, width, exponent):
            raise BadInput(what, f"{file.name}, {name}", "finite weights", "Train it again.")


def read_header(what: str, file: Path) -> tuple[dict[str, Any], int]:
    """Return a safetensors file's tensors, by name, and where their bytes begin.

    Raises:
        BadInput: the header is longer than the file, than what its library takes, or no such JSON.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(8)
        n_bytes = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= n_bytes <= min(MOST_HEADER, size - 8):
            raise _unsound(what, file, f"a header of {n_bytes} bytes in a file of {size}")
        try:
            header = json.loads(stream.read(n_bytes))
        except (ValueError, RecursionError) as error:
            raise _unsound(what, file, str(error)) from error
    if not isinstance(header, dict):
        raise _unsound(what, file, "a header that is no object")
    header.pop("__metadata__", None)
    for name, about in header.items():
        offsets = about.get("data_offsets") if isinstance(about, dict) else None
        is_pair = isinstance(offsets, list) and len(offsets) == 2
        if offsets is None or not is_pair or any(type(one) is not int for one in offsets):
            raise _unsound(what, file, f"{name}: {about!r}"[:200])
    return header, 8 + n_bytes


def _has_full_exponent(raw: Any, width: int, exponent: int) -> bool:
    """Return whether a number is infinite or none: its exponent's bits are all set."""
    numbers = np.frombuffer(raw, dtype=f"<u{width}")
    mask = numbers.dtype.type(exponent)
    step = 1 << 22  # 32 MB at once
    return any(
        bool(((numbers[start : start + step] & mask) == mask).any())
        for start in range(0, len(numbers), step)
    )


def require_plain_adapter(what: str, config: Any) -> None:
    """Check the settings of an adapter: LoRA over layers by their names, nothing to import.

    Raises:
        BadInput: as said.
    """
    if not isinstance(config, dict):
        raise BadInput(what, ADAPTER_CONFIG, "a JSON object", _SAVE)
    if config.get("peft_type", "LORA") != "LORA":
        raise _odd(what, "peft_type", config["peft_type"], "LORA")
    for name in ("auto_map", "megatron_config", "trust_remote_code"):
        if config.get(name):
            raise _odd(what, name, config[name], "nothing: it names code to import")
    library = (config.get("auto_mapping") or {}).get("parent_library")
    if library is not None and not str(library).startswith("transformers."):
        raise _odd(what, "auto_mapping", library, "a class of transformers")
    for name in ("target_modules", "modules_to_save", "exclude_modules", "layers_pattern"):
        _require_names(what, name, config.get(name))
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(name) or {}:
            if not _PATTERN.fullmatch(str(pattern)):
                raise _odd(what, name, pattern, "names of layers")


def _require_names(what: str, name: str, given: Any) -> None:
    if given is None:
        return
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(
        isinstance(one, str) and _NAME.fullmatch(one) for one in names
    ):
        raise _odd(what, name, given, "names of layers, no pattern")


def _require_no_remote_code(what: str, name: str, file: Path) -> None:
    if file.name not in ("config.json", "tokenizer_config.json", "processor_config.json"):
        return
    config = _json(what, name, file)
    if isinstance(config, Mapping) and config.get("auto_map"):
        raise BadInput(
            what, f"{name}, auto_map {config['auto_map']!r}"[:200], "no code of its own", _TRUST
        )


def _json(what: str, name: str, file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(what, name, f"JSON ({error})", _SAVE) from error


def _odd(what: str, name: str, value: Any, expected: str) -> BadInput:
    return BadInput(what, f"{ADAPTER_CONFIG}, {name} {value!r}"[:200], expected, "Correct it.")


def _unsound(what: str, file: Path, found: str) -> BadInput:
    return BadInput(what, f"{file.name}: {found}", "a whole safetensors file", _SAVE)
