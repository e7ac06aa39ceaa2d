"""Versions in the formats of others: what each is, what it may lose, and who writes and checks it.

A format's module has `write(original, folder, variant)` and `check(original, folder, variant)`,
which reads the written files again and returns a `Parity`; what does not pass is not published.
Front desk for `serving`: `gguf` and `gguf_lora`. No torch here: a module is loaded by the worker.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from foundation.errors import BadInput

ADAPTERS: Final = ("adapter",)
WHOLE: Final = ("adapter", "base", "full", "merged", "pruned")
"""Kinds of versions; an adapter is merged into its base where a whole model is asked for."""


@dataclass(frozen=True)
class Format:
    """One way to write a version.

    Attributes:
        module: file of `trainer.export`.
        variant: what that file is told.
        kinds: of versions that can be written so.
        about: one line.
    """

    module: str
    variant: str
    kinds: tuple[str, ...]
    about: str


FORMATS: Final[dict[str, Format]] = {
    "hf": Format("hf", "whole", WHOLE, "one whole model, as transformers and vLLM read it"),
    "hf-lora": Format("hf", "lora", ADAPTERS, "the adapter alone, with its base's tokenizer"),
    "gguf-f32": Format("gguf_formats", "f32", WHOLE, "one whole model in 32 bits, exact"),
    "gguf-f16": Format("gguf_formats", "f16", WHOLE, "one whole model in 16 bits"),
    "gguf-q8_0": Format("gguf_formats", "q8_0", WHOLE, "one whole model in 8.5 bits a weight"),
    "gguf-q4_0": Format("gguf_formats", "q4_0", WHOLE, "one whole model in 4.5 bits a weight"),
    "gguf-lora-f32": Format("gguf_formats", "lora-f32", ADAPTERS, "the adapter, for --lora"),
    "gguf-lora-f16": Format("gguf_formats", "lora-f16", ADAPTERS, "the same in 16 bits"),
    "gguf-lora-q8_0": Format("gguf_formats", "lora-q8_0", ADAPTERS, "the same in 8.5 bits"),
    "ollama": Format("ollama", "whole", WHOLE, "Modelfile, and one whole model in 8.5 bits"),
    "ollama-lora": Format("ollama", "lora", ADAPTERS, "Modelfile, the base in 16 bits, adapter"),
    "vllm": Format("vllm", "", WHOLE, "launch files for vLLM; an adapter stays one"),
    "onnx": Format("onnx", "", WHOLE, "one whole model for ONNX Runtime, without a cache"),
}


class FormatModule(Protocol):
    """What a format's file offers."""

    def write(self, original: Any, folder: Path, variant: str) -> None:
        """Write an `Original` into an empty folder."""

    def check(self, original: Any, folder: Path, variant: str) -> Any:
        """Read the files again and return their `Parity` with the original."""


def get_format(name: str) -> Format:
    """Return a format by name; raises BadInput."""
    if name not in FORMATS:
        raise BadInput("format", name, f"one of {', '.join(FORMATS)}", "Name one of those.")
    return FORMATS[name]


def format_module(name: str) -> FormatModule:
    """Return the file of a format, loading torch with it."""
    module: FormatModule = import_module(f"trainer.export.{get_format(name).module}")
    return module
