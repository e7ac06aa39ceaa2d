"""Load a base model and its tokenizer for training, from a folder or the Hugging Face hub."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundation.errors import BadInput, NotFound
from trainer.recipe import SFT_QLORA


def load_tokenizer(base_model: str) -> Any:
    """Return the tokenizer of a base, right-padding, with a padding token and a chat template.

    Raises:
        NotFound: no such folder, or the hub has no such model or does not answer.
        BadInput: the tokenizer has no chat template.
    """
    _require_model(base_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(base_model)
    except (OSError, ValueError) as error:
        raise _unreadable(base_model, error) from error
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
    return tokenizer


def load_model(base_model: str, method: str, bf16: bool) -> Any:
    """Return a freshly loaded causal model for training by `method`.

    Args:
        base_model: folder or hub name. Code that comes with a model is never run.
        method: of the recipe; sft-qlora holds the weights in 4 bits (NF4).
        bf16: weights in bfloat16, else fp32.

    Raises:
        NotFound: as `load_tokenizer`.
        BadInput: sft-qlora without bitsandbytes.
    """
    _require_model(base_model)
    dtype = torch.bfloat16 if bf16 else torch.float32
    options: dict[str, Any] = {"dtype": dtype}
    if method == SFT_QLORA:
        options["quantization_config"] = _four_bits(dtype)
    try:
        return AutoModelForCausalLM.from_pretrained(base_model, **options)
    except (OSError, ValueError) as error:
        raise _unreadable(base_model, error) from error


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


def _unreadable(base_model: str, error: Exception) -> NotFound:
    reason = str(error).split("\n")[0]
    if is_folder(base_model):
        return NotFound("base model", base_model, "a readable model folder", reason)
    return NotFound(
        "base model",
        base_model,
        "a folder, or a model of the Hugging Face hub that this machine can reach",
        f"Download it and give the folder, or unset HF_HUB_OFFLINE. The hub said: {reason}",
    )


def _four_bits(dtype: torch.dtype) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "recipe.method",
            SFT_QLORA,
            "sft-lora or sft-full where bitsandbytes is not installed",
            "Run: pip install bitsandbytes",
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
