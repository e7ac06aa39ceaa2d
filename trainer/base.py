"""Load a base model and its tokenizer for training, from a folder or the Hugging Face hub.

Weights are read from safetensors only: a pickle runs what its author wrote. Code that comes with a
base runs only where FLYWHEEL_TRUSTED_BASES names that base.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.distributed import DistributedConfig

from foundation.errors import BadInput, NotFound
from foundation.settings import get_settings
from trainer.recipe import BF16, FP16, INT8, NF4


def load_tokenizer(base_model: str) -> Any:
    """Return the tokenizer of a base, right-padding, with a padding token and a chat template.

    Raises:
        NotFound: no such folder, or the hub has no such model or does not answer.
        BadInput: the base needs code of its own, or the tokenizer has no chat template or more ids
            than the base has embeddings.
    """
    config = load_config(base_model)
    tokenizer = _read(AutoTokenizer, base_model)
    if tokenizer.chat_template is None:
        raise BadInput(
            f"tokenizer of {base_model}",
            None,
            "a chat template",
            "Use the chat or instruct version of the model, or add chat_template.jinja to it.",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    _require_fit(tokenizer, config, base_model)
    return tokenizer


def load_config(base_model: str) -> Any:
    """Return the configuration of a base; raises as `load_tokenizer`."""
    _require_model(base_model)
    return _read(AutoConfig, base_model)


def context_of(base_model: str) -> int | None:
    """Return the most tokens that a base was made for, or None if its configuration is silent."""
    config = load_config(base_model).get_text_config()
    return getattr(config, "max_position_embeddings", None)


def load_model(
    base_model: str,
    held_as: str = "none",
    precision: str = "fp32",
    kind: Any = AutoModelForCausalLM,
    shards: int = 1,
) -> Any:
    """Return a freshly loaded model for training.

    Fresh, because a quantised model that has generated elsewhere may have its weights packed for
    that and cannot train any more.

    Args:
        base_model: folder or hub name.
        held_as: of `Recipe.held_as`: none, nf4, int8, ao-int8 or ao-fp8.
        precision: of the weights and the arithmetic: bf16, fp16 (weights in 32 bits) or fp32.
        kind: transformers' class; a reward model is another one.
        shards: processes that its weights are spread over (see `trainer.sharded`): all that
            there are, or 1.

    Raises:
        NotFound: as `load_tokenizer`.
        BadInput: as `load_tokenizer`; weights that are pickles; a way of holding it whose library
            is not installed.
    """
    _require_model(base_model)
    dtype = torch.bfloat16 if precision == BF16 else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if held_as != "none":
        compute = torch.float16 if precision == FP16 else dtype
        options["quantization_config"] = _few_bits(held_as, compute)
    if shards > 1:
        options["distributed_config"] = DistributedConfig(fsdp_size=shards)
    model = _read(kind, base_model, **options)
    if held_as == NF4:
        _keep_trainable(model)
    return model


def _keep_trainable(model: Any) -> None:
    """Keep bitsandbytes from packing the weights anew at the first look at the validation loss.

    On a CPU with AVX-512 it packs them for generation whenever no gradient is asked for, and what
    is packed so can not train any more.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _read(kind: Any, base_model: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(base_model, trust_remote_code=is_trusted(base_model), **options)
    except (OSError, ValueError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise BadInput(
                "base model",
                base_model,
                "a model that transformers knows: this one needs code of its own, which is not run",
                f"Read that code; to allow it: FLYWHEEL_TRUSTED_BASES='[\"{base_model}\"]'.",
            ) from error
        raise _unreadable(base_model, error) from error


def is_trusted(base_model: str) -> bool:
    """Whether the deployment lets the base's own code run; False unless it is named."""
    return base_model in get_settings().trusted_bases


def _require_fit(tokenizer: Any, config: Any, base_model: str) -> None:
    """Check that every id of the tokenizer has an embedding."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    most = max(tokenizer.get_vocab().values(), default=-1)
    if rows is not None and most >= rows:
        raise BadInput(
            f"tokenizer of {base_model}",
            f"ids up to {most}",
            f"ids below {rows}, the rows of the base's embedding",
            "Use the tokenizer that came with the base, or resize the base's embeddings to it.",
        )


def is_folder(base_model: str) -> bool:
    """Whether the name is that of a folder on this machine, existing or not."""
    return base_model.startswith(("/", ".", "~")) or Path(base_model).exists()


def _require_model(base_model: str) -> None:
    if is_folder(base_model) and not (Path(base_model) / "config.json").is_file():
        raise NotFound(
            "base model",
            base_model,
            "a folder with config.json and weights",
            "Correct FLYWHEEL_BASE_MODEL or the recipe's base, or build the base first.",
        )


def _unreadable(base_model: str, error: Exception) -> BadInput:
    reason = str(error).split("\n")[0]
    if is_folder(base_model) and _has_only_pickles(Path(base_model)):
        return BadInput(
            "weights of the base model",
            f"{base_model}/*.bin",
            "safetensors: to read a pickle is to run code",
            "Convert it where it may do harm to nobody, with save_pretrained of transformers.",
        )
    if is_folder(base_model):
        return NotFound("base model", base_model, "a readable model folder", reason)
    return NotFound(
        "base model",
        base_model,
        "a folder, or a model of the Hugging Face hub that this machine can reach",
        f"Download it and give the folder, or unset HF_HUB_OFFLINE. The hub said: {reason}",
    )


def _has_only_pickles(folder: Path) -> bool:
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))


def _few_bits(held_as: str, dtype: torch.dtype) -> Any:
    """Return transformers' configuration of a way to hold the frozen base."""
    library = "bitsandbytes" if held_as in (NF4, INT8) else "torchao"
    if importlib.util.find_spec(library) is None:
        raise BadInput(
            "recipe.quantization",
            held_as,
            f"none where {library} is not installed",
            "Run: pip install 'agent-flywheel[quantize]'",
        )
    from transformers import BitsAndBytesConfig

    if held_as == INT8:
        return BitsAndBytesConfig(load_in_8bit=True)
    if held_as == NF4:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    weight_only = {"ao-int8": Int8WeightOnlyConfig, "ao-fp8": Float8WeightOnlyConfig}
    return TorchAoConfig(weight_only[held_as]())
