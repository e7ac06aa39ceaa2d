"""Fewer bits per weight: INT8, INT4, FP8 by torchao, NF4 by bitsandbytes, after training.

Only the weights of linear layers are rounded; embeddings, norms and the head keep their type, so a
small model with a large vocabulary shrinks less. What is checked is what was read back from the
disk: a model that is rounded in memory may be another one than its files say.

On a CPU torchao's 4-bit weights take a byte each, in memory and on the disk: they show what
rounding to 16 steps costs, and save nothing over INT8. NF4 is packed, two weights to a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM

from foundation.errors import BadInput, MissingExtra
from trainer.base import is_trusted, load_model, load_tokenizer
from trainer.compress.measure import n_bytes, speed_ratio
from trainer.compress.ways import FP8, INT4, INT8, NF4, require_way
from trainer.export.merge import longest_prompt
from trainer.export.parity import (
    Parity,
    ParityFailed,
    Tolerance,
    TorchSpeaker,
    end_tokens,
    judge,
    listen,
)
from trainer.export.prompts import PLAIN, Messages, asked

GROUP: Final = 32
"""Weights that share a scale, in INT4."""
NF4_BLOCK: Final = 64
"""Weights that share a scale, in NF4; on a CPU a row of weights must be whole blocks."""

TOLERANCES: Final[dict[str, Tolerance]] = {
    INT8: Tolerance(0.05, 0.6),
    FP8: Tolerance(0.15, 0.4),
    INT4: Tolerance(0.4, 0.0),
    NF4: Tolerance(0.4, 0.0),
}
"""What each may lose: relative error of the logits, and share of equal greedy answers.

Equal answers are no measure of 4 bits: one token that tips over changes all that follow it.
"""


@dataclass(frozen=True)
class Quantized:
    """A quantised model in a folder, and what it is beside its source.

    Attributes:
        folder: weights (safetensors), config and tokenizer.
        way: one of `WAYS`.
        n_bytes: of its weights on the disk.
        size_ratio: bytes of the source over its own: how many times smaller it is.
        speed_ratio: tokens that it says while its source says one, on this machine.
        parity: of what was read back from the disk.
    """

    folder: Path
    way: str
    n_bytes: int
    size_ratio: float
    speed_ratio: float
    parity: Parity

    def as_json(self) -> dict[str, Any]:
        """Return the figures, as a version keeps them."""
        return {
            "way": self.way,
            "size_bytes": self.n_bytes,
            "size_ratio": round(self.size_ratio, 3),
            "speed_ratio": round(self.speed_ratio, 3),
            "parity": self.parity.as_json(),
        }


def quantized(
    source: str, way: str, target: Path, prompts: Sequence[Messages] = PLAIN
) -> Quantized:
    """Write a model with fewer bits per weight into a folder, and check what was written.

    Args:
        source: folder or hub name of a whole model.
        way: int8, int4, nf4 or fp8.
        target: a folder to make; it may be left half written, the caller removes it.
        prompts: by which the two are compared.

    Raises:
        BadInput: another way, or one that the model's widths do not allow.
        MissingExtra: its library is not installed.
        ParityFailed: what was read back is too far from the source.
    """
    require_way(way)
    model, tokenizer = load_model(source), load_tokenizer(source)
    if way == NF4:
        require_blocks(model)
    rounded = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=is_trusted(source),
        quantization_config=_settings(way),
    )
    rounded.save_pretrained(target)  # before it has answered anything: NF4 is repacked for that
    del rounded
    tokenizer.save_pretrained(target)
    copy = load_model(str(target))
    ids = [one.ids for one in asked(tokenizer, prompts, longest_prompt(model.config))]
    ends = end_tokens(model, tokenizer)
    said = listen(TorchSpeaker(model, ends), ids)
    parity = judge(said, listen(TorchSpeaker(copy, ends), ids, said.answers), TOLERANCES[way])
    if not parity.passed:
        raise ParityFailed(f"{way} of {Path(source).name}", parity.reasons)
    size = n_bytes(str(target))
    ratio = speed_ratio(model, copy, ids)
    return Quantized(target, way, size, n_bytes(source) / size, ratio, parity)


def require_blocks(model: Any) -> None:
    """Check that every row of weights is whole blocks of NF4.

    bitsandbytes packs weights anew when a CPU first multiplies by them, and fails there on others.

    Raises:
        BadInput: naming the first layer of another width.
    """
    for name, layer in model.named_modules():
        if name == "lm_head" or not isinstance(layer, torch.nn.Linear):
            continue
        if layer.in_features % NF4_BLOCK:
            raise BadInput(
                "way to quantise",
                f"{NF4} of {name}, {layer.in_features} wide",
                f"layers whose width is a multiple of {NF4_BLOCK}",
                f"Take {INT4} or {INT8}.",
            )


def _settings(way: str) -> Any:
    """Return transformers' configuration of a way."""
    try:
        return _OF_LIBRARY[way]()
    except ImportError as error:
        raise MissingExtra(error.name or way, "quantize") from error


def _int8() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(version=2))


def _fp8() -> Any:
    from torchao.quantization import Float8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Float8WeightOnlyConfig())


def _int4() -> Any:
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup
    from transformers import TorchAoConfig

    settings = IntxWeightOnlyConfig(
        weight_dtype=torch.int4,  # type: ignore[attr-defined]  # it has no stub
        granularity=PerGroup(GROUP),
    )
    return TorchAoConfig(settings)


def _nf4() -> Any:
    import bitsandbytes  # noqa: F401  transformers would say so in other words
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )


_OF_LIBRARY: Final = {INT8: _int8, INT4: _int4, NF4: _nf4, FP8: _fp8}
