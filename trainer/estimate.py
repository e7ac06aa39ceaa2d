"""What a training will take, before it begins: tokens, seconds, memory, dollars. No torch.

Arithmetic on the base's shape and the rows' length, corrected by what earlier trainings on the same
base and device really took. It says what it rests on, and afterwards how wrong it was.

Memory: weights as they are held; 16 bytes a trained weight (itself, gradient, two moments of Adam,
in 32 bits); activations of one micro-batch (Korthikanti et al. 2022, arXiv 2205.05198, with
attention that keeps no matrix of scores); logits. Time: 6 FLOPs a weight and token, 4 where the
weights are frozen, 2 more to recompute activations (Kaplan et al. 2020, arXiv 2001.08361).
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from foundation.chat import text_of
from foundation.decisions import Ruling, load, rule
from trainer.hardware import Hardware
from trainer.recipe import (
    ALL_LINEAR,
    AUTO,
    BF16,
    FP16,
    FP32,
    NF4,
    SFT_FULL,
    SFT_LORA,
    SFT_QLORA,
    Recipe,
)

FITS_RULE: Final = "trainer.fits"
FITS, REFUSED, UNKNOWN = "fits", "refused", "unknown"

CHARACTERS_PER_TOKEN: Final = 3.5
"""Of English and code, with vocabularies of 32,000 and more."""
TOKENS_PER_MESSAGE: Final = 5
"""Role, markers and ends that a chat template adds."""

_HELD_BYTES: Final = {NF4: 0.56, "int8": 1.06, "ao-int8": 1.06, "ao-fp8": 1.06}
"""Bytes of a weight held in few bits, its scales included."""
_BYTES: Final = {BF16: 2, FP16: 4, FP32: 4}
"""Of a weight as it is loaded: fp16 computes in 16 bits over weights of 32."""
_TRAINED_BYTES: Final = 16
_CPU_PROCESS_BYTES: Final = 750e6
"""Python with torch, transformers and trl, before a model is loaded (measured)."""
_GPU_PROCESS_BYTES: Final = 1.2e9
_FLOPS: Final = {"H200": 400e12, "H100": 380e12, "A100": 140e12, "L40": 90e12, "T4": 20e12}
"""Of a GPU by a part of its name, about 40 % of its peak in bfloat16."""
_OTHER_GPU_FLOPS: Final = 50e12
_CORE_FLOPS: Final = 12e9
"""Of a CPU core on small matrices, in 32 bits (measured on the demo's base: 10-14)."""
_START_S: Final = 8.0
_FREE_SHARE: Final = 0.9
"""Of the memory that a training may plan to take."""


@dataclass(frozen=True)
class Shape:
    """The shape of a base, as far as memory and time depend on it.

    Attributes:
        parameters: weights in all, embeddings included.
        hidden: width.
        layers: transformer blocks.
        mlp: width of the feed-forward part.
        heads: attention heads.
        kv_heads: key/value heads.
        vocab: ids.
        is_guessed: told by the model's name alone, since its files are not here.
    """

    parameters: int
    hidden: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    vocab: int
    is_guessed: bool = False


@dataclass(frozen=True)
class Past:
    """What the last training on the same base and device took.

    Attributes:
        tokens_per_character: of its rows.
        tokens_per_s: trained, over its whole wall time.
        memory_ratio: peak memory over what had been foretold.
    """

    tokens_per_character: float | None = None
    tokens_per_s: float | None = None
    memory_ratio: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a training will take; None where it cannot be told.

    Attributes:
        rows: rows of one epoch.
        characters: of these rows.
        tokens: trained on in all, over all epochs.
        seconds: wall time.
        memory_bytes: most memory of the GPU, or of the process.
        usd: at FLYWHEEL_MACHINE_USD_PER_HOUR.
        trained_parameters: weights that learn.
        tokens_per_character: that `tokens` rests on.
        memory_ratio: correction, by the last training like it, that is in `memory_bytes`.
        basis: what time and tokens rest on, in words.
    """

    rows: int
    characters: int
    tokens: int | None
    seconds: float | None
    memory_bytes: int | None
    usd: float | None
    trained_parameters: int | None
    tokens_per_character: float
    memory_ratio: float
    basis: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, as the training's row keeps it."""
        return asdict(self)


def estimate(
    recipe: Recipe,
    shape: Shape | None,
    rows: Iterable[Mapping[str, Any]],
    hardware: Hardware,
    past: Past | None = None,
    usd_per_hour: float | None = None,
) -> Estimate:
    """Return what a training of these rows will take.

    Args:
        recipe: all knobs.
        shape: of the base; None: nothing but tokens can be told.
        rows: as a method reads them: prompt, and completion or chosen and rejected.
        hardware: of the machine that trains.
        past: what a training like it took.
        usd_per_hour: of that machine.
    """
    past = past or Past()
    lengths = [characters_of(row) for row in rows]
    tokens_each = _tokens_per_row(lengths, recipe, past)
    per_step = recipe.effective_batch_size
    steps = recipe.max_steps or math.ceil(math.ceil(len(lengths) / per_step) * recipe.epochs)
    tokens = round(tokens_each * per_step * steps) if lengths else None
    if tokens is not None and not recipe.max_steps:
        tokens = round(tokens_each * len(lengths) * recipe.epochs)
    seconds, basis = _seconds(recipe, shape, tokens, hardware, past)
    memory = _memory(recipe, shape, tokens_each, hardware) if shape and lengths else None
    if memory is not None and past.memory_ratio:
        memory *= past.memory_ratio
    return Estimate(
        rows=len(lengths),
        characters=sum(lengths),
        tokens=tokens,
        seconds=None if seconds is None else round(seconds, 1),
        memory_bytes=None if memory is None else round(memory),
        usd=None if seconds is None or usd_per_hour is None else seconds / 3600 * usd_per_hour,
        trained_parameters=trained_parameters(recipe, shape) if shape else None,
        tokens_per_character=past.tokens_per_character or 1 / CHARACTERS_PER_TOKEN,
        memory_ratio=past.memory_ratio or 1.0,
        basis=basis,
    )


def error_of(
    foretold: Mapping[str, Any], *, tokens: int | None, seconds: float, memory_bytes: float | None
) -> dict[str, float]:
    """Return what was taken over what was foretold, by figure; what is unknown is left out."""
    taken = {"tokens": tokens, "seconds": seconds, "memory": memory_bytes}
    said = {**foretold, "memory": foretold.get("memory_bytes")}
    return {
        name: round(value / said[name], 3)
        for name, value in taken.items()
        if value and said.get(name)
    }


def characters_of(row: Mapping[str, Any]) -> int:
    """Return how long a row is, in characters, markers of its messages included."""
    messages = [m for part in _PARTS for m in row.get(part) or ()]
    marks = TOKENS_PER_MESSAGE * CHARACTERS_PER_TOKEN
    return round(sum(len(_said(message)) + marks for message in messages))


_PARTS: Final = ("prompt", "completion", "chosen", "rejected")


def _said(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls")
    return text_of(message.get("content")) + (json.dumps(calls) if calls else "")


def shape_of(base_model: str) -> Shape | None:
    """Return the shape of a base: of its folder's config, or guessed from a name such as `…-7B`."""
    config = Path(base_model) / "config.json"
    if config.is_file():
        try:
            return _shape_of_config(json.loads(config.read_text()), Path(base_model))
        except (ValueError, LookupError, TypeError):
            return None
    found = re.search(r"(\d+(?:\.\d+)?)[bB]\b", base_model)
    return _guessed(float(found.group(1)) * 1e9) if found else None


def _shape_of_config(config: Mapping[str, Any], folder: Path) -> Shape:
    heads = int(config["num_attention_heads"])
    shape = Shape(
        parameters=0,
        hidden=int(config["hidden_size"]),
        layers=int(config["num_hidden_layers"]),
        mlp=int(config.get("intermediate_size") or 4 * config["hidden_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        vocab=int(config["vocab_size"]),
    )
    counted = sum(count_parameters(file) for file in folder.glob("*.safetensors"))
    return replace(shape, parameters=counted or _parameters(shape))


def count_parameters(file: Path) -> int:
    """Return how many weights a safetensors file has, from its header alone."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")


def _parameters(shape: Shape) -> int:
    kv = shape.hidden * shape.kv_heads // shape.heads
    attention = 2 * shape.hidden * shape.hidden + 2 * shape.hidden * kv
    blocks = shape.layers * (attention + 3 * shape.hidden * shape.mlp)
    return blocks + 2 * shape.vocab * shape.hidden


def _guessed(parameters: float) -> Shape:
    """Return the shape that models of a size have, about: layers grow with the cube root."""
    layers = max(1, round(28 * (parameters / 7e9) ** (1 / 3)))
    hidden = max(64, round((parameters / 7e9) ** (1 / 3) * 3584 / 64) * 64)
    heads = max(1, hidden // 128)
    shape = (int(parameters), hidden, layers, 4 * hidden, heads, max(1, heads // 4))
    return Shape(*shape, vocab=128_000, is_guessed=True)


def trained_parameters(recipe: Recipe, shape: Shape) -> int:
    """Return how many weights learn: all, or the adapter's."""
    if recipe.method == SFT_FULL:
        return shape.parameters
    h, kv, mlp = shape.hidden, shape.hidden * shape.kv_heads // shape.heads, shape.mlp
    sides = {
        **{"q_proj": 2 * h, "o_proj": 2 * h, "k_proj": h + kv, "v_proj": h + kv},
        **{"gate_proj": h + mlp, "up_proj": h + mlp, "down_proj": h + mlp},
    }
    names = sides if recipe.target_modules == ALL_LINEAR else recipe.target_modules
    return shape.layers * recipe.r * sum(sides.get(name, 2 * h) for name in names)


def _tokens_per_row(lengths: list[int], recipe: Recipe, past: Past) -> float:
    per_character = past.tokens_per_character or 1 / CHARACTERS_PER_TOKEN
    tokens = [min(recipe.max_length, length * per_character) for length in lengths]
    return sum(tokens) / len(tokens) if tokens else 0.0


def _seconds(
    recipe: Recipe, shape: Shape | None, tokens: int | None, hardware: Hardware, past: Past
) -> tuple[float | None, str]:
    if tokens is None:
        return None, "unknown: how many tokens it reads"
    if past.tokens_per_s:
        return tokens / past.tokens_per_s, "the pace of the last training like it"
    if shape is None:
        return None, "unknown: the shape of the base"
    flops = 6 if recipe.method == SFT_FULL else 4
    if hardware.has_gpu and recipe.gradient_checkpointing:
        flops += 2
    pace = _flops(hardware, recipe) / (flops * shape.parameters)
    guessed = ", the base's shape guessed by its name" if shape.is_guessed else ""
    return _START_S + tokens / pace, f"{flops} FLOPs a weight and token{guessed}"


def _flops(hardware: Hardware, recipe: Recipe) -> float:
    if not hardware.has_gpu:
        return _CORE_FLOPS * (recipe.threads or hardware.cpu_cores)
    name = hardware.gpu_name or ""
    return next((f for part, f in _FLOPS.items() if part in name), _OTHER_GPU_FLOPS)


def _memory(recipe: Recipe, shape: Shape, tokens_each: float, hardware: Hardware) -> float:
    """Return the most bytes in use, of the device that computes."""
    width = _BYTES[_precision(recipe, hardware)]
    embedded = 2 * shape.vocab * shape.hidden
    held = _HELD_BYTES.get(recipe.held_as, width)
    weights = held * max(0, shape.parameters - embedded) + width * embedded
    longest = min(recipe.max_length, 2 * tokens_each)  # the longest rows decide, not the mean
    tokens = recipe.batch_size * longest
    block = tokens * width * (14 * shape.hidden + 6 * shape.mlp)
    recomputes = hardware.has_gpu and recipe.gradient_checkpointing
    kept = tokens * width * shape.hidden * shape.layers if recomputes else block * shape.layers
    activations = kept + (block if recomputes else 0)
    logits = tokens * shape.vocab * (width + 4)
    process = _GPU_PROCESS_BYTES if hardware.has_gpu else _CPU_PROCESS_BYTES
    trained = _TRAINED_BYTES * trained_parameters(recipe, shape)
    return process + weights + trained + activations + logits


def _precision(recipe: Recipe, hardware: Hardware) -> str:
    if recipe.precision != AUTO:
        return recipe.precision
    if not hardware.has_gpu:
        return FP32
    return BF16 if hardware.has_bf16 else FP16


@dataclass(frozen=True)
class FitsInputs:
    """Inputs of `trainer.fits`: bytes that are needed, those that are there, and other ways.

    Attributes:
        memory_bytes: that the training is foretold to take; None: unknown.
        available_bytes: memory of the device.
        device: cpu, or the GPU's name.
        alternatives: other recipes in words, with the bytes that each would take.
    """

    memory_bytes: int | None
    available_bytes: int
    device: str
    alternatives: dict[str, int]


@dataclass(frozen=True)
class FitsThresholds:
    """Limit of `trainer.fits`: the share (0-1) of the memory that may be planned."""

    free_share: float = _FREE_SHARE


def fits_inputs(
    recipe: Recipe,
    shape: Shape | None,
    rows: Iterable[Mapping[str, Any]],
    hardware: Hardware,
    foretold: Estimate,
) -> FitsInputs:
    """Return the inputs of the rule; other ways are looked for only where this one is too large."""
    available = round(hardware.training_memory_gb * 1e9)
    ways: dict[str, int] = {}
    needed = foretold.memory_bytes
    if shape is not None and needed is not None and needed > _FREE_SHARE * available:
        kept = list(rows)
        for words, other in smaller(recipe):
            ways[words] = estimate(other, shape, kept, hardware).memory_bytes or 0
    return FitsInputs(needed, available, hardware.device, ways)


def smaller(recipe: Recipe) -> list[tuple[str, Recipe]]:
    """Return recipes that need less memory, each in words, the least change first."""
    effective = recipe.effective_batch_size
    slim = replace(
        recipe, batch_size=1, gradient_accumulation=effective, gradient_checkpointing=True
    )
    adapter = replace(slim, method=SFT_LORA) if recipe.method == SFT_FULL else slim
    few_bits = (
        replace(adapter, method=SFT_QLORA)
        if adapter.method == SFT_LORA
        else replace(adapter, quantization=NF4)
    )
    short = replace(few_bits, max_length=max(8, recipe.max_length // 4))
    ways = [
        (f"batch_size 1, gradient_accumulation {effective}, gradient_checkpointing", slim),
        (f"{adapter.method} with batch_size 1", adapter),
        (f"{few_bits.method} with the base in 4 bits and batch_size 1", few_bits),
        (f"the same with max_length {short.max_length}", short),
    ]
    distinct = dict(reversed([(one.content_hash, (words, one)) for words, one in ways]))
    distinct.pop(recipe.content_hash, None)
    return list(reversed(distinct.values()))


@rule(FITS_RULE)
def fits(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `fits`, `refused` (with what would fit) or `unknown`."""
    known, limits = load(FitsInputs, inputs), load(FitsThresholds, thresholds)
    if known.memory_bytes is None:
        return Ruling(UNKNOWN, ("Unknown: the shape of the base, so its memory.",))
    limit = limits.free_share * known.available_bytes
    needed, there = _gb(known.memory_bytes), _gb(known.available_bytes)
    if known.memory_bytes <= limit:
        return Ruling(FITS, (f"About {needed} of {there} on {known.device}.",))
    reason = f"It needs about {needed}; {known.device} has {there}."
    would = [words for words, size in known.alternatives.items() if size <= limit]
    if would:
        return Ruling(REFUSED, (reason, f"This would fit: {would[0]}."))
    return Ruling(REFUSED, (reason, "Nothing smaller of this base fits: take a smaller base."))


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"
