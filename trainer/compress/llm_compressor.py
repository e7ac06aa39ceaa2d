"""Checkpoints in vLLM's own formats, by llm-compressor, in an environment of its own.

    python -m venv compressing && compressing/bin/pip install -r trainer/compress/llm-compressor.txt
    compressing/bin/python -m trainer.compress.llm_compressor MODEL TARGET --scheme FP8_DYNAMIC

llm-compressor pins an older transformers than the product needs, so the product never imports this
module, and this module nothing of the product. MODEL is the folder of a whole model; TARGET then
holds compressed tensors, to be started with vLLM and compared there with `flywheel eval`.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

SCHEMES: Final = ("FP8_DYNAMIC", "W8A16", "W4A16")
"""That need no calibration data: weights are rounded to the nearest."""


def compress(model: str, target: Path, scheme: str) -> None:
    """Write a model in a scheme of compressed tensors.

    Args:
        model: folder or hub name; code that comes with it is not run.
        target: a folder to make.
        scheme: one of `SCHEMES`.
    """
    transformers = importlib.import_module("transformers")
    llmcompressor = importlib.import_module("llmcompressor")
    modifiers = importlib.import_module("llmcompressor.modifiers.quantization")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    recipe = modifiers.QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"])
    llmcompressor.oneshot(model=loaded, recipe=recipe)
    loaded.save_pretrained(target, save_compressed=True)
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(target)


def main() -> int:
    """Read the command line and compress."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("target", type=Path)
    parser.add_argument("--scheme", choices=SCHEMES, default=SCHEMES[0])
    given = parser.parse_args()
    compress(given.model, given.target, given.scheme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
