"""A PEFT adapter for servers that read GGUF: as a GGUF adapter, or merged into the base's GGUF.

Plain LoRA on the linear layers of the Llama family and its likes. What else an adapter may be
(DoRA, trained embeddings, whole modules, experts) is refused: a part left out would be another
model. No torch: matrices of a rank of 8 to 64 are numpy's work.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np

from foundation.whole import whole_file
from trainer.export import gguf
from trainer.export.gguf import Header, Matrix

MODULES: Final = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Layers by PEFT's names and by GGUF's."""

ARCHITECTURES: Final = {
    **{"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"},
    **{"gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3"},
}
"""GGUF's names of `model_type`s whose linear layers are kept as they are, but for Llama's order."""

REORDERED: Final = {"llama": ("attn_q", "attn_k")}
"""Layers whose rows GGUF keeps in another order: pairs of rotary positions side by side."""

_PREFIX: Final = "base_model.model.model.layers."
_SIDES: Final = {".lora_A.weight": 0, ".lora_B.weight": 1}


Pairs = Mapping[str, tuple[Matrix, Matrix, float]]
"""By PEFT's name of a layer: A (rank x in), B (out x rank), and what their product is scaled by."""


class NotConvertible(ValueError):
    """The adapter, or its base, is not one that can be written as GGUF here."""


@dataclass(frozen=True)
class Shape:
    """What of the base decides the order of rows: its architecture in GGUF's word, its heads."""

    architecture: str
    heads: int
    kv_heads: int


@dataclass(frozen=True)
class Lora:
    """An adapter in GGUF's words.

    Attributes:
        alpha: what its products are multiplied by, divided by their rank.
        pairs: by the name of the base's tensor: A (rank x in) and B (out x rank).
    """

    alpha: float
    pairs: Mapping[str, tuple[Matrix, Matrix]]


def shape_of_gguf(header: Header) -> Shape:
    """Return the shape of a base that is a GGUF file; raises NotConvertible for an adapter."""
    arch = header.architecture
    heads = header.values.get(f"{arch}.attention.head_count")
    if not isinstance(heads, int):
        raise NotConvertible(f"architecture {arch!r}: it does not say how many heads it has")
    kv_heads = header.values.get(f"{arch}.attention.head_count_kv", heads)
    if arch not in ARCHITECTURES.values() or not isinstance(kv_heads, int):
        raise NotConvertible(f"architecture {arch!r} is none of {_known()}")
    return Shape(arch, heads, kv_heads)


def shape_of_folder(folder: Path) -> Shape:
    """Return the shape of a base that is a folder with config.json; raises NotConvertible."""
    try:
        config = json.loads((folder / "config.json").read_text())
        heads = int(config["num_attention_heads"])
        kind = str(config["model_type"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotConvertible(f"{folder} holds no config.json of a language model") from error
    if kind not in ARCHITECTURES:
        raise NotConvertible(f"model type {kind!r} is none of {', '.join(ARCHITECTURES)}")
    return Shape(ARCHITECTURES[kind], heads, kv_heads)


def read_adapter(folder: Path, base: Shape) -> Lora:
    """Return a PEFT folder's adapter in GGUF's names and order of rows; raises as `read_pairs`."""
    alpha = float(json.loads((folder / "adapter_config.json").read_text()).get("lora_alpha", 0))
    pairs = {}
    for name, (a, b, scale) in read_pairs(folder).items():
        target = gguf_target(name)
        b = b * np.float32(scale * a.shape[0] / alpha)
        pairs[target] = (a, _ordered(b, target, base))
    return Lora(alpha, dict(sorted(pairs.items())))


def read_pairs(folder: Path) -> Pairs:
    """Return the matrices of a PEFT folder's adapter by PEFT's names of its layers.

    Raises:
        NotConvertible: it is more than LoRA on known layers, or its files are damaged.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = _safetensors(folder / "adapter_model.safetensors")
        alpha = float(config["lora_alpha"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NotConvertible(f"{folder} holds no readable LoRA adapter ({error})") from error
    require_plain(config)
    if alpha <= 0:
        raise NotConvertible(f"{folder}: lora_alpha is {alpha}, expected more than 0")
    sides: dict[str, list[Matrix | None]] = {}
    for name, tensor in tensors.items():
        module, side = _module(name)
        sides.setdefault(module, [None, None])[side] = tensor
    pairs = {}
    for module, (a, b) in sorted(sides.items()):
        if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise NotConvertible(f"{module}: it has no A and B that fit each other")
        pairs[module] = (a, b, _scale(config, module, a.shape[0]))
    if not pairs:
        raise NotConvertible(f"{folder}: an adapter without matrices")
    return pairs


def write_adapter(lora: Lora, base: Shape, path: Path, kind: int = gguf.F32) -> None:
    """Write an adapter as llama.cpp reads it with `--lora`.

    Of a type in blocks, rows that are no whole blocks (B's: one has the rank) keep 16 bits.
    """
    values: dict[str, str | int | float] = {
        "general.architecture": base.architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": lora.alpha,
    }
    tensors = {}
    for target, pair in lora.pairs.items():
        for side, matrix in zip("ab", pair, strict=True):
            tensors[f"{target}.weight.lora_{side}"] = gguf.Planned(
                matrix.shape, gguf.type_for(kind, matrix.shape), partial(np.asarray, matrix)
            )
    gguf.write_planned(path, values, tensors)


def adapter_of_gguf(path: Path, like: Path, base: Shape, folder: Path) -> None:
    """Write a GGUF adapter as a PEFT folder again, read by the `gguf` library, not by our reader.

    Args:
        path: the file.
        like: the PEFT folder that it was written from, for what GGUF does not keep.
        base: whose order of rows it has.
        folder: to make.
    """
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(path)
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    names = {gguf_name: name for name, gguf_name in MODULES.items()}
    tensors = {}
    for tensor in reader.tensors:
        _, layer, part, _, side = tensor.name.split(".")
        matrix = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if side == "lora_b":
            target = f"blk.{layer}.{part}"
            matrix = _ordered(matrix, target, base, back=True)
        name = f"{_PREFIX}{layer}.{names[part]}.lora_{side[-1].upper()}.weight"
        tensors[name] = np.ascontiguousarray(matrix)
    config = json.loads((like / "adapter_config.json").read_text())
    plain = {"alpha_pattern": {}, "use_rslora": False, "lora_alpha": alpha}
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config | plain))
    save_file(tensors, folder / "adapter_model.safetensors")


def merge(base: Path, lora: Lora, path: Path) -> None:
    """Write the base's GGUF with the adapter added to its tensors: W + alpha / rank * B A.

    Types stay; Q8_0 is rounded anew. One tensor is in memory at a time.

    Raises:
        NotConvertible: the base lacks a tensor, or has it in a type that cannot be changed.
        OSError: no room on the disk.
    """
    header = gguf.read_header(base)
    for target, (a, b) in lora.pairs.items():
        _require_place(header, f"{target}.weight", (b.shape[0], a.shape[1]))
    with whole_file(path) as unfinished:
        shutil.copyfile(base, unfinished)
        with unfinished.open("r+b") as file:
            for target, (a, b) in lora.pairs.items():
                tensor = header.tensors[f"{target}.weight"]
                delta = (lora.alpha / a.shape[0]) * (b @ a)  # out x in
                gguf.write_tensor(file, tensor, gguf.read_tensor(file, tensor) + delta)


def _require_place(header: Header, name: str, shape: tuple[int, int]) -> None:
    tensor = header.tensors.get(name)
    if tensor is None or tensor.shape != shape:
        raise NotConvertible(
            f"{name} {shape}: the base has {tensor.shape if tensor else 'none'}; "
            "the adapter was trained on another model"
        )
    if tensor.type not in gguf.EDITABLE:
        raise NotConvertible(
            f"{name} is {tensor.type_name}: merge into an F32, F16, BF16 or Q8_0 file of the base"
        )


def require_plain(config: Mapping[str, Any]) -> None:
    """Check that an adapter's configuration is plain LoRA; raises NotConvertible."""
    for name, plain in (
        ("peft_type", ("LORA",)),
        ("use_dora", (False, None)),
        ("bias", ("none", None)),
        ("modules_to_save", (None, [])),
        ("fan_in_fan_out", (False, None)),
        ("trainable_token_indices", (None, [])),
    ):
        if config.get(name) not in plain:
            raise NotConvertible(f"{name} is {config.get(name)!r}: only plain LoRA is written")


def _module(name: str) -> tuple[str, int]:
    """Return PEFT's layer of a tensor, and which side it is (0: A, 1: B); raises NotConvertible."""
    for ending, side in _SIDES.items():
        if name.startswith(_PREFIX) and name.endswith(ending):
            module = name.removeprefix(_PREFIX).removesuffix(ending)
            layer, _, part = module.partition(".")
            if layer.isdecimal() and part in MODULES:
                return f"layers.{module}", side
    raise NotConvertible(f"{name}: no LoRA matrix of one of {', '.join(MODULES)}")


def gguf_target(module: str) -> str:
    """Return GGUF's name of a layer that PEFT calls `layers.0.self_attn.q_proj`."""
    _, layer, part = module.split(".", 2)
    return f"blk.{layer}.{MODULES[part]}"


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return what the product of a module is multiplied by."""
    own = config.get("alpha_pattern") or {}
    named = [alpha for key, alpha in own.items() if re.match(rf"(.*\.)?({key})$", module)]
    alpha = float(named[0] if named else config["lora_alpha"])  # by name as PEFT matches it
    return alpha / sqrt(rank) if config.get("use_rslora") else alpha / rank


def _ordered(b: Matrix, target: str, base: Shape, *, back: bool = False) -> Matrix:
    """Return B with the rows of a rotary layer in GGUF's order, or in PEFT's again."""
    layer = target.rpartition(".")[2]
    if layer not in REORDERED.get(base.architecture, ()):
        return b
    heads = base.heads if layer == "attn_q" else base.kv_heads
    return pairs_side_by_side(b, heads, back=back)


def pairs_side_by_side(rows: Matrix, heads: int, *, back: bool = False) -> Matrix:
    """Return the rows of a rotary layer (or its bias) in GGUF's order, which is Llama's own.

    With `back` the other way: halves of a head one after the other, as transformers has them.
    """
    half = rows.shape[0] // heads // 2
    split = (heads, half, 2) if back else (heads, 2, half)
    return np.ascontiguousarray(rows.reshape(*split, *rows.shape[1:]).swapaxes(1, 2)).reshape(
        rows.shape
    )


_FLOATS: Final = {"F32": "<f4", "F16": "<f2"}


def _safetensors(path: Path) -> dict[str, Matrix]:
    """Return the tensors of a file in 32 bits; its own library has no bfloat16 for numpy."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8 : 8 + size])
    tensors = {}
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        part = raw[8 + size + first : 8 + size + last]
        kind = entry["dtype"]
        values = gguf.from_bf16(part) if kind == "BF16" else np.frombuffer(part, _FLOATS[kind])
        tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


def _known() -> str:
    return ", ".join(sorted(set(ARCHITECTURES.values())))
