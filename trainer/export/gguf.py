"""GGUF files: headers read, whole files written, tensors changed in place.

Our own, and not the `gguf` library's: serving reads headers and merges adapters without it, and a
file written here is then read back by others' code (that library, transformers, llama.cpp), which
proves more than one library reading what it wrote. Tests hold the blocks against the library's.

Layout (little-endian): magic, version, counts; key-value pairs; tensor names, shapes, types and
offsets; padding; the tensors. Shapes are written innermost axis first, the reverse of numpy's.
Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from foundation.whole import whole_file

MAGIC: Final = b"GGUF"
VERSION: Final = 3
ALIGNMENT: Final = 32
F32, F16, Q4_0, Q8_0, BF16 = 0, 1, 2, 8, 30
"""Types of tensors that can be read and changed here; k-quants cannot."""

_TYPE_NAMES: Final = {F32: "F32", F16: "F16", Q4_0: "Q4_0", Q8_0: "Q8_0", BF16: "BF16"}
_SCALARS: Final = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i"},
    **{6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"},
}
_STRING, _ARRAY = 8, 9
_KINDS: Final[dict[type, int]] = {bool: 7, str: _STRING, int: 4, float: 6}
BLOCK: Final = 32
"""Weights of one block: a 16-bit scale, then 32 signed bytes (Q8_0) or 16 pairs of nibbles (Q4_0).
A row is a whole number of blocks."""

_MOST: Final = 2**31
"""A count or length beyond it is not a file of ours but a damaged one."""

Matrix = NDArray[np.float32]
Value = str | int | float | list[str] | list[int] | list[float]
"""What a key may hold: integers are written as 32 bits without sign, in arrays with one."""


class BadGguf(ValueError):
    """The bytes are no GGUF file, or one that ends early."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its numpy shape, its type, and its place in the file in bytes."""

    name: str
    shape: tuple[int, ...]
    type: int
    start: int

    @property
    def type_name(self) -> str:
        """The type as people write it."""
        return _TYPE_NAMES.get(self.type, f"type {self.type}")

    @property
    def size(self) -> int:
        """Bytes of it in the file; only of the types known here."""
        n = prod(self.shape)
        return size_of(self.type, n)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself: its key-value pairs (long arrays left out), its tensors."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def architecture(self) -> str:
        """`llama`, `qwen2`, …; empty if it is not said."""
        return str(self.values.get("general.architecture", ""))

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter, not a model."""
        return self.values.get("general.type") == "adapter"


def read_header(path: Path) -> Header:
    """Return what a GGUF file says of itself; its tensors are not read.

    Raises:
        BadGguf: it is none, or it ends early.
        FileNotFoundError: it is not there.
    """
    with path.open("rb") as file:
        try:
            return _header(file, path)
        except (struct.error, UnicodeDecodeError, KeyError, MemoryError) as error:
            raise BadGguf(f"{path}: damaged GGUF ({error or type(error).__name__})") from error


@dataclass(frozen=True)
class Planned:
    """A tensor to write: its values are asked for when its turn comes, one at a time."""

    shape: tuple[int, ...]
    type: int
    load: Callable[[], Matrix]


def size_of(kind: int, n: int) -> int:
    """Return the bytes that `n` weights take; raises KeyError for a type unknown here."""
    blocks = n // BLOCK
    return {
        F32: 4 * n,
        F16: 2 * n,
        BF16: 2 * n,
        Q8_0: blocks * (2 + BLOCK),
        Q4_0: blocks * (2 + BLOCK // 2),
    }[kind]


def type_for(kind: int, shape: tuple[int, ...]) -> int:
    """Return the type asked for; 16 bits where it is in blocks and a row is no whole number."""
    return F16 if kind in (Q8_0, Q4_0) and shape[-1] % BLOCK else kind


def write(path: Path, values: Mapping[str, Value], tensors: Mapping[str, Matrix]) -> None:
    """Write a small GGUF file of 32-bit tensors (an adapter) at once; no reader sees half of it."""
    write_planned(
        path,
        values,
        {
            name: Planned(tensor.shape, F32, partial(np.asarray, tensor, np.float32))
            for name, tensor in tensors.items()
        },
    )


def write_planned(path: Path, values: Mapping[str, Value], tensors: Mapping[str, Planned]) -> None:
    """Write a GGUF file with one tensor in memory at a time; no reader sees half of it.

    Raises:
        OSError: no room on the disk; nothing is left of the file.
    """
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(values))]
    for key, value in values.items():
        parts += [_text(key), _packed(value)]
    offset = 0
    for name, tensor in tensors.items():
        dims = tensor.shape[::-1]
        parts += [
            _text(name),
            struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.type, offset),
        ]
        offset += _padded(size_of(tensor.type, prod(tensor.shape)))
    head = b"".join(parts)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(head.ljust(_padded(len(head)), b"\0"))
        for tensor in tensors.values():
            raw = _ENCODE[tensor.type](np.ascontiguousarray(tensor.load(), dtype=np.float32))
            file.write(raw.ljust(_padded(len(raw)), b"\0"))


def _packed(value: Value) -> bytes:
    if not isinstance(value, list):
        kind = _KINDS[type(value)]
        return struct.pack("<I", kind) + _scalar(kind, value)
    inner = 5 if value and isinstance(value[0], int) else _KINDS[type(value[0]) if value else str]
    return struct.pack("<IIQ", _ARRAY, inner, len(value)) + b"".join(
        _scalar(inner, one) for one in value
    )


def _scalar(kind: int, value: str | int | float) -> bytes:
    return _text(value) if isinstance(value, str) else struct.pack(_SCALARS[kind], value)


def read_tensor(file: BinaryIO, tensor: Tensor) -> Matrix:
    """Return a tensor in 32 bits."""
    file.seek(tensor.start)
    raw = file.read(tensor.size)
    if len(raw) != tensor.size:
        raise BadGguf(f"tensor {tensor.name}: the file ends early")
    return _DECODE[tensor.type](raw).reshape(tensor.shape)


def write_tensor(file: BinaryIO, tensor: Tensor, values: Matrix) -> None:
    """Put a tensor of the same shape in its place, in the type that it has there."""
    file.seek(tensor.start)
    file.write(_ENCODE[tensor.type](np.ascontiguousarray(values, dtype=np.float32)))


def _header(file: BinaryIO, path: Path) -> Header:
    if file.read(4) != MAGIC:
        raise BadGguf(f"{path}: no GGUF file")
    version, n_tensors, n_values = _unpack(file, "<IQQ")
    if version not in (2, 3) or max(n_tensors, n_values) > _MOST:
        raise BadGguf(f"{path}: GGUF version {version} with {n_tensors} tensors")
    values: dict[str, Any] = {}
    for _ in range(n_values):
        key = _read_text(file)
        values[key] = _value(file, _unpack(file, "<I")[0])
    found = []
    for _ in range(n_tensors):
        name = _read_text(file)
        (n_dims,) = _unpack(file, "<I")
        *dims, kind, offset = _unpack(file, f"<{n_dims}QIQ")
        found.append((name, tuple(dims[::-1]), kind, offset))
    align = int(values.get("general.alignment", ALIGNMENT))
    start = -(-file.tell() // align) * align
    tensors = {name: Tensor(name, shape, kind, start + at) for name, shape, kind, at in found}
    return Header(values, tensors)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _read_text(file)
    if kind != _ARRAY:
        return _unpack(file, _SCALARS[kind])[0]
    inner, n = _unpack(file, "<IQ")
    if n > _MOST:
        raise BadGguf(f"an array of {n} values")
    if inner in (_STRING, _ARRAY):  # a vocabulary: stepped over
        for _ in range(n):
            _value(file, inner)
    else:
        file.seek(n * struct.calcsize(_SCALARS[inner]), 1)
    return None


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _read_text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    if length > _MOST:
        raise BadGguf(f"a text of {length} bytes")
    return str(file.read(length), "utf-8", errors="replace")


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def from_bf16(raw: bytes) -> Matrix:
    """Return bfloat16 bytes, the upper halves of 32-bit floats, as those floats."""
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


def _to_bf16(values: Matrix) -> bytes:
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
    return rounded.astype("<u2").tobytes()


_Q8: Final = np.dtype([("scale", "<f2"), ("q", "i1", (BLOCK,))])
_Q4: Final = np.dtype([("scale", "<f2"), ("q", "u1", (BLOCK // 2,))])


def _from_q8(raw: bytes) -> Matrix:
    blocks = np.frombuffer(raw, _Q8)
    values: Matrix = blocks["scale"].astype(np.float32)[:, None] * blocks["q"]
    return values


def _to_q8(values: Matrix) -> bytes:
    rows = values.reshape(-1, BLOCK)
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    scaled = rows * _inverse(scale)[:, None]
    blocks = np.zeros(len(rows), _Q8)
    blocks["scale"] = scale
    blocks["q"] = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)  # as C rounds: ties away
    return blocks.tobytes()


def _from_q4(raw: bytes) -> Matrix:
    blocks = np.frombuffer(raw, _Q4)
    nibbles = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1).astype(np.float32)
    values: Matrix = blocks["scale"].astype(np.float32)[:, None] * (nibbles - 8)
    return values


def _to_q4(values: Matrix) -> bytes:
    rows = values.reshape(-1, BLOCK)
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    scale = largest / np.float32(-8)  # the largest, with its sign, is -8: the end of the range
    nibbles = np.trunc(rows * _inverse(scale)[:, None] + np.float32(8.5)).clip(0, 15)
    low, high = np.split(nibbles.astype(np.uint8), 2, axis=1)
    blocks = np.zeros(len(rows), _Q4)
    blocks["scale"] = scale
    blocks["q"] = low | high << 4
    return blocks.tobytes()


def _inverse(scale: Matrix) -> Matrix:
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


_DECODE: Final[dict[int, Callable[[bytes], Matrix]]] = {
    F32: lambda raw: np.frombuffer(raw, "<f4"),
    F16: lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
    BF16: from_bf16,
    Q4_0: _from_q4,
    Q8_0: _from_q8,
}
_ENCODE: Final[dict[int, Callable[[Matrix], bytes]]] = {
    F32: lambda values: values.astype("<f4").tobytes(),
    F16: lambda values: values.astype("<f2").tobytes(),
    BF16: _to_bf16,
    Q4_0: _to_q4,
    Q8_0: _to_q8,
}
EDITABLE: Final = frozenset((F32, F16, BF16, Q8_0))
"""Types whose tensors can be changed in place; to round four bits anew costs more than it adds."""
