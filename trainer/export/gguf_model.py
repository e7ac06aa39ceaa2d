"""A whole model as one GGUF file: Qwen2, Qwen3, Llama and Mistral shapes.

Matrices are rounded to the type asked for; norms and biases stay in 32 bits, and where a type needs
rows of whole blocks and a row is none, 16 bits. In four bits the embedding, and the head where it
is one of its own, keep eight: every token passes through them.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open
from transformers import AutoConfig

from trainer.export import gguf
from trainer.export.gguf import F16, F32, Q4_0, Q8_0, Matrix, Planned, Value
from trainer.export.gguf_lora import MODULES, REORDERED, NotConvertible, pairs_side_by_side
from trainer.export.gguf_tokens import tokenizer_values

TYPES: Final = {"f32": F32, "f16": F16, "q8_0": Q8_0, "q4_0": Q4_0}
ARCHITECTURES: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""GGUF's names of the model types that are written here."""

_FILE_TYPES: Final = {F32: 0, F16: 1, Q4_0: 2, Q8_0: 7}
_WHOLE: Final = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER: Final = {
    **MODULES,
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
_FINER: Final = ("token_embd.weight", "output.weight")


def write_model(
    folder: Path, path: Path, kind: str, tokenizer: Any, ends: list[int], name: str
) -> None:
    """Write a folder's model as a GGUF file, one tensor in memory at a time.

    Args:
        folder: with config.json and safetensors.
        path: of the file.
        kind: of `TYPES`.
        tokenizer: the folder's.
        ends: ids that end an answer.
        name: of the model.

    Raises:
        NotConvertible: a shape or tokenizer that is not written here.
        OSError: no room on the disk.
    """
    config = AutoConfig.from_pretrained(folder)
    wanted = TYPES[kind]
    with ExitStack() as files:
        planned = {
            tensor: Planned(shape, _type_of(tensor, shape, wanted), load)
            for tensor, shape, load in _tensors(folder, config, files)
        }
        n_rows = planned["token_embd.weight"].shape[0]
        values = {
            **model_values(config, wanted, name),
            **tokenizer_values(tokenizer, n_rows, ends),
        }
        gguf.write_planned(path, values, planned)


def model_values(config: Any, wanted: int, name: str) -> dict[str, Value]:
    """Return the keys that say what shape a model has; raises NotConvertible."""
    arch = _require_known(config)
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    said: dict[str, Value] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads or heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "rope.dimension_count": head_dim,
        "vocab_size": config.vocab_size,
    }
    return {
        "general.architecture": arch,
        "general.type": "model",
        "general.name": name,
        "general.file_type": _FILE_TYPES[wanted],
        "general.quantization_version": 2,
        **{f"{arch}.{key}": value for key, value in said.items()},
    }


def _require_known(config: Any) -> str:
    arch = ARCHITECTURES.get(config.model_type)
    if arch is None:
        raise NotConvertible(
            f"model type {config.model_type!r}: GGUF is written here for {', '.join(ARCHITECTURES)}"
        )
    rope = config.rope_parameters["rope_type"]
    if rope != "default":
        raise NotConvertible(
            f"rope scaling {rope!r} is not written here: export it as hf, and take llama.cpp's "
            "converter"
        )
    windows = getattr(config, "layer_types", None) or []
    if "sliding_attention" in windows or (arch == "llama" and _window(config)):
        raise NotConvertible("a sliding window of attention is not written here")
    return arch


def _window(config: Any) -> bool:
    window = getattr(config, "sliding_window", None)
    return window is not None and window < config.max_position_embeddings


def _tensors(
    folder: Path, config: Any, files: ExitStack
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    for path in sorted(folder.glob("*.safetensors")):
        file = files.enter_context(safe_open(path, framework="pt"))
        for theirs in file.keys():
            if theirs == "lm_head.weight" and config.tie_word_embeddings:
                continue
            name = gguf_name(theirs)
            shape = tuple(file.get_slice(theirs).get_shape())
            yield name, shape, partial(_read, file, theirs, name, config)


def gguf_name(theirs: str) -> str:
    """Return GGUF's name of a tensor of transformers; raises NotConvertible."""
    module, _, part = theirs.rpartition(".")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.{part}"
    layer, _, inner = module.removeprefix("model.layers.").partition(".")
    if not layer.isdecimal() or inner not in _LAYER:
        raise NotConvertible(f"tensor {theirs} has no name in GGUF here")
    return f"blk.{layer}.{_LAYER[inner]}.{part}"


def _read(file: Any, theirs: str, name: str, config: Any) -> Matrix:
    values: Matrix = file.get_tensor(theirs).float().numpy()
    layer = name.split(".")[-2]
    if layer in REORDERED.get(ARCHITECTURES[config.model_type], ()):
        heads = config.num_attention_heads if layer == "attn_q" else config.num_key_value_heads
        return pairs_side_by_side(values, heads)
    return values


def _type_of(name: str, shape: tuple[int, ...], wanted: int) -> int:
    if len(shape) == 1 or wanted == F32:
        return F32
    finer = Q8_0 if wanted == Q4_0 and name in _FINER else wanted
    return gguf.type_for(finer, shape)
