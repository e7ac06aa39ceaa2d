"""Hugging Face folders: one whole model, or the adapter alone with its base's tokenizer."""

import shutil
from pathlib import Path

from transformers import AutoTokenizer

from trainer.base import load_model
from trainer.export.merge import TOLERANCES, over, own_dtype
from trainer.export.original import Original
from trainer.export.parity import Parity, Tolerance, end_tokens, with_reasons, with_same_ids

LORA: Tolerance = Tolerance(1e-5, 1.0)
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_WHOLE_FILES = ("*.safetensors", "*.safetensors.index.json", "*config.json")


def write(original: Original, folder: Path, variant: str) -> None:
    """Write `whole` or `lora`; a merge is in its base's own type."""
    if variant == "lora":
        write_adapter(original, folder)
    else:
        write_whole(original, folder)


def check(original: Original, folder: Path, variant: str) -> Parity:
    """Load the folder again and compare."""
    return check_adapter(original, folder) if variant == "lora" else check_whole(original, folder)


def write_adapter(original: Original, folder: Path) -> None:
    """Copy the adapter's two files, and save the tokenizer that its base has."""
    assert original.adapter is not None, "formats of adapters are for adapters"
    for name in ADAPTER_FILES:
        shutil.copyfile(original.adapter / name, folder / name)
    original.tokenizer.save_pretrained(folder)


def write_whole(original: Original, folder: Path) -> None:
    """Copy the files of the whole model, and save its tokenizer."""
    whole = original.whole()
    for pattern in _WHOLE_FILES:
        for path in whole.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    original.tokenizer.save_pretrained(folder)


def check_adapter(original: Original, folder: Path) -> Parity:
    """Put the adapter over its base again and compare."""
    model = over(load_model(original.base_model), folder)
    return with_tokens(original, folder, original.judge(original.hear_model(model), LORA))


def check_whole(original: Original, folder: Path) -> Parity:
    """Load the whole model again and compare."""
    tolerance = TOLERANCES[own_dtype(str(folder))]
    model = load_model(str(folder))
    parity = original.judge(original.hear_model(model), tolerance)
    ends = end_tokens(model, AutoTokenizer.from_pretrained(folder))
    if ends != original.ends:
        parity = with_reasons(parity, [f"answers end at {ends}, expected {original.ends}"])
    return with_tokens(original, folder, parity)


def with_tokens(original: Original, folder: Path, parity: Parity) -> Parity:
    """Add whether the prompts come out of the saved tokenizer and template as the same ids."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    same = 0
    for one in original.asked:
        text = tokenizer.apply_chat_template(
            list(original.prompts[one.place]), tokenize=False, add_generation_prompt=True
        )
        same += tokenizer(text, add_special_tokens=False)["input_ids"] == one.ids
    return with_same_ids(parity, same)
