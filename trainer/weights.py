"""What two sets of weights have to do with each other, layer by layer: numpy alone, no torch.

An adapter's update of a layer is a product, delta W = scale * B A. Its norm and its product with
another one's are taken from matrices of the rank's size, so an adapter of a large model is compared
in no time and memory: <B1 A1, B2 A2> = sum of (B1' B2) * (A1 A2') over all entries.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from foundation.errors import BadInput

Floats = NDArray[np.float32]

_TYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_PLAIN: Final = ("F64", "F32", "F16", "BF16")
_LORA: Final = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$")
_MOST_HEADER: Final = 100 << 20


@dataclass(frozen=True)
class LayerDifference:
    """One layer's update (of an adapter) or weight (of a whole model) in two versions.

    Attributes:
        layer: its name.
        relative: norm of the difference over the larger norm; 0: equal, 1: nothing in common, up to
            2: opposite. Of a layer that only one has it is 1.
        cosine: of the angle between them; None where one of them is 0.
        norm: of the first.
        other_norm: of the second.
    """

    layer: str
    relative: float
    cosine: float | None
    norm: float
    other_norm: float


@dataclass(frozen=True)
class _Update:
    """A layer's low-rank update: a [r, in], b [out, r]."""

    a: Floats
    b: Floats
    scale: float

    def dot(self, other: "_Update") -> float:
        """Return the sum of products over all entries of both updates."""
        inner = (self.b.T @ other.b) * (self.a @ other.a.T)  # [r, r']
        return float(inner.sum(dtype=np.float64)) * self.scale * other.scale


def compare_adapters(folder: Path, other: Path) -> list[LayerDifference]:
    """Compare the updates of two LoRA adapters; layers of unlike shapes are left out.

    Raises:
        BadInput: a folder that holds no plain LoRA adapter.
    """
    mine, theirs = _updates(folder), _updates(other)
    found = []
    for layer in sorted(mine.keys() | theirs.keys()):
        one, two = mine.get(layer), theirs.get(layer)
        if one and two and (one.a.shape[1], one.b.shape[0]) != (two.a.shape[1], two.b.shape[0]):
            continue
        found.append(
            _difference(
                layer,
                one.dot(one) if one else 0.0,
                two.dot(two) if two else 0.0,
                one.dot(two) if one and two else 0.0,
            )
        )
    return found


def compare_models(folder: Path, other: Path) -> list[LayerDifference]:
    """Compare the weights of two whole models, a layer in memory at a time.

    Quantized layers, and those of unlike shapes, are left out.
    """
    mine, theirs = _places(folder), _places(other)
    found = []
    for layer in sorted(mine.keys() & theirs.keys()):
        one, two = mine[layer], theirs[layer]
        if one.shape != two.shape or not {one.kind, two.kind} <= set(_PLAIN):
            continue
        x, y = (place.read().astype(np.float64).ravel() for place in (one, two))
        found.append(_difference(layer, float(x @ x), float(y @ y), float(x @ y)))
    return found


def overall(layers: list[LayerDifference]) -> dict[str, float | None]:
    """Return the same over all layers together; None for no layers."""
    if not layers:
        return {"relative": None, "cosine": None}
    norms = sum(one.norm**2 for one in layers), sum(one.other_norm**2 for one in layers)
    dot = sum((one.cosine or 0.0) * one.norm * one.other_norm for one in layers)
    whole = _difference("", *norms, dot)
    return {"relative": whole.relative, "cosine": whole.cosine}


def _difference(layer: str, squared: float, other: float, dot: float) -> LayerDifference:
    # Rounding may make the square of a difference of equal updates a little negative.
    apart = math.sqrt(max(0.0, squared + other - 2 * dot))
    norm, other_norm = math.sqrt(max(0.0, squared)), math.sqrt(max(0.0, other))
    longest = max(norm, other_norm)
    both = norm * other_norm
    return LayerDifference(
        layer,
        relative=apart / longest if longest else 0.0,
        cosine=max(-1.0, min(1.0, dot / both)) if both else None,
        norm=norm,
        other_norm=other_norm,
    )


def _updates(folder: Path) -> dict[str, _Update]:
    config = _config(folder)
    if config.get("use_dora"):
        raise BadInput(
            "adapter",
            f"{folder.name} (DoRA)",
            "an update that is a product of two matrices",
            "Merge both, and compare what they became.",
        )
    halves: dict[str, dict[str, Floats]] = {}
    for name, place in _places(folder).items():
        found = _LORA.match(name)
        if found is not None:
            halves.setdefault(found[1], {})[found[2]] = place.read()
    if not halves or any(half.keys() != {"A", "B"} for half in halves.values()):
        raise BadInput(
            "adapter", folder.name, "a plain LoRA adapter as safetensors", "Compare two of those."
        )
    return {
        layer: _Update(half["A"], half["B"], _scale(config, layer, half["A"].shape[0]))
        for layer, half in halves.items()
    }


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            "adapter", folder.name, "a folder with adapter_config.json", str(error)
        ) from error
    return config


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    alpha = float(config.get("lora_alpha") or rank)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = float(value)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


@dataclass(frozen=True)
class _Place:
    """A tensor in a file: read when it is needed."""

    file: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    end: int

    def read(self) -> Floats:
        """Return it as 32-bit floats."""
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            raw = np.frombuffer(stream.read(self.end - self.start), dtype=_TYPES[self.kind])
        if self.kind == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32).reshape(self.shape)


def _places(folder: Path) -> dict[str, _Place]:
    return {
        name: place
        for file in sorted(folder.glob("*.safetensors"))
        for name, place in _places_in(file)
    }


def _places_in(file: Path) -> Iterator[tuple[str, _Place]]:
    """Yield the tensors of a safetensors file: length of the header, header as JSON, bytes."""
    with file.open("rb") as stream:
        head = stream.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= size <= _MOST_HEADER:
            raise BadInput("weights", file.name, "a safetensors file", "It is cut or damaged.")
        try:
            header = json.loads(stream.read(size))
        except ValueError as error:
            raise BadInput("weights", file.name, "a safetensors file", str(error)) from error
    for name, about in header.items():
        if name != "__metadata__":
            start, end = about["data_offsets"]
            begin = 8 + size
            yield (
                name,
                _Place(file, about["dtype"], tuple(about["shape"]), begin + start, begin + end),
            )
