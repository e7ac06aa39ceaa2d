"""GGUF exports: one whole model, or an adapter for llama.cpp's `--lora`; read back by others' code.

A whole model is read by transformers, an adapter by the `gguf` library and put over its base with
PEFT; both by llama.cpp itself, where an interpreter with llama-cpp-python is at hand.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundation.errors import BadInput, MissingExtra
from trainer.base import load_model
from trainer.export import llama_cpp
from trainer.export.gguf_lora import (
    NotConvertible,
    adapter_of_gguf,
    read_adapter,
    shape_of_folder,
    write_adapter,
)
from trainer.export.gguf_model import TYPES, write_model
from trainer.export.gguf_tokens import misread
from trainer.export.merge import over
from trainer.export.original import Original
from trainer.export.parity import (
    Parity,
    Tolerance,
    with_reader,
    with_reasons,
    with_same_ids,
)

MODEL, ADAPTER = "model.gguf", "adapter.gguf"

TOLERANCES: Final[dict[str, Tolerance]] = {
    "f32": Tolerance(1e-4, 1.0),
    "f16": Tolerance(1e-2, 0.9),
    "q8_0": Tolerance(5e-2, 0.7, pass_points=1.0),
    "q4_0": Tolerance(3e-1, 0.2, pass_points=5.0),
}
"""What each type may lose. Greedy text parts for good at one near tie, so that few bits agree on
few whole answers; what they are worth is the pass rate, where tasks are graded."""


def write(original: Original, folder: Path, variant: str) -> None:
    """Write `f32` … of a whole model, or `lora-f32` … of an adapter.

    Raises:
        BadInput: a shape, tokenizer or adapter that is not written here.
    """
    kind = variant.removeprefix("lora-")
    if variant != kind:
        write_lora(original, folder / ADAPTER, kind)
    else:
        write_whole(original, folder / MODEL, kind)


def check(original: Original, folder: Path, variant: str) -> Parity:
    """Read the file again and compare."""
    kind = variant.removeprefix("lora-")
    if variant != kind:
        return check_lora(original, folder / ADAPTER, kind)
    return check_whole(original, folder / MODEL, kind)


def write_whole(original: Original, path: Path, kind: str) -> None:
    """Write the whole model; a merge is in 32 bits, so that it is rounded once."""
    whole = original.whole(torch.float32)
    _write_folder(original, whole, path, kind)


def write_base(original: Original, path: Path, kind: str) -> None:
    """Write the base alone."""
    _write_folder(original, original.base_folder, path, kind)


def write_lora(original: Original, path: Path, kind: str) -> None:
    """Write the adapter alone."""
    assert original.adapter is not None, "formats of adapters are for adapters"
    try:
        shape = shape_of_folder(original.base_folder)
        write_adapter(read_adapter(original.adapter, shape), shape, path, TYPES[kind])
    except NotConvertible as error:
        raise _refused(original, error) from error


def check_whole(original: Original, path: Path, kind: str) -> Parity:
    """Read the file by transformers, and by llama.cpp where it is, and compare."""
    _require_gguf()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    same = sum(_ids(tokenizer, one.text) == one.ids for one in original.asked)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    parity = original.judge(original.hear_model(model), TOLERANCES[kind])
    parity = with_reasons(with_same_ids(parity, same), misread(path, original.tokenizer))
    return _with_llama_cpp(original, parity, path, None)


def check_lora(original: Original, path: Path, kind: str) -> Parity:
    """Read the file by the `gguf` library, put it over the base with PEFT, and compare."""
    _require_gguf()
    assert original.adapter is not None, "formats of adapters are for adapters"
    folder = Path(mkdtemp(dir=original.work)) / "read"
    adapter_of_gguf(path, original.adapter, shape_of_folder(original.base_folder), folder)
    model = over(load_model(original.base_model), folder)
    parity = original.judge(original.hear_model(model), TOLERANCES[kind])
    base = original.work / "base.gguf"
    if llama_cpp.interpreter() is not None and not base.exists():
        write_base(original, base, "f32")
    return _with_llama_cpp(original, parity, base, path)


def _with_llama_cpp(
    original: Original, parity: Parity, model: Path, adapter: Path | None
) -> Parity:
    python = llama_cpp.interpreter()
    if python is None:
        return parity
    heard = llama_cpp.hear(
        python,
        model,
        [one.text for one in original.asked],
        original.ids,
        original.said.answers,
        original.ends,
        adapter,
        original.n_tokens,
    )
    other = original.judge(heard.said, parity.tolerance)
    return with_reader(parity, "llama.cpp", with_same_ids(other, heard.same_ids))


def _write_folder(original: Original, folder: Path, path: Path, kind: str) -> None:
    try:
        write_model(folder, path, kind, original.tokenizer, original.ends, original.name)
    except NotConvertible as error:
        raise _refused(original, error) from error


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _refused(original: Original, error: NotConvertible) -> BadInput:
    return BadInput(
        f"{original.name} as GGUF", str(error), "a shape that is written here", "Export it as hf."
    )


def _require_gguf() -> None:
    if find_spec("gguf") is None:  # transformers reads GGUF with it, too
        raise MissingExtra("gguf", "export")
