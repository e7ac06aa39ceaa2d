"""ONNX: one whole model for ONNX Runtime. It reads a text and gives the logits of each place.

Without a cache of keys and values, so that a long answer costs its square: it is for scoring and
for short answers.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from foundation.errors import MissingExtra
from trainer.base import load_model
from trainer.export.hf import with_tokens
from trainer.export.original import Original
from trainer.export.parity import Ids, Matrix, Parity, ParityFailed, Tolerance

FILE: Final = "model.onnx"
TOLERANCE: Final = Tolerance(1e-3, 1.0)
_NEEDS: Final = ("onnx", "onnxscript", "onnxruntime")


class _Logits(torch.nn.Module):
    """A language model that takes ids alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return batch x places x vocabulary; all rows are of one length."""
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


class OnnxSpeaker:
    """An ONNX file, heard through ONNX Runtime."""

    def __init__(self, path: Path, end_tokens: Sequence[int]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.end_tokens = frozenset(end_tokens)

    def answers(self, prompts: Sequence[Ids], n_tokens: int) -> list[list[int]]:
        """Return the greedy continuation of each prompt, without the end token."""
        return [self._answer(list(prompt), n_tokens) for prompt in prompts]

    def _answer(self, ids: list[int], n_tokens: int) -> list[int]:
        said: list[int] = []
        while len(said) < n_tokens:
            token = int(self.logits([*ids, *said], 1)[0].argmax())
            if token in self.end_tokens:
                break
            said.append(token)
        return said

    def logits(self, ids: Ids, keep: int) -> Matrix:
        """Return the logits at the last `keep` places of a text, keep x vocabulary."""
        (logits,) = self.session.run(None, {"input_ids": np.array([list(ids)], np.int64)})
        kept: Matrix = logits[0, -keep:]
        return kept


def write(original: Original, folder: Path, variant: str) -> None:
    """Write the whole model in 32 bits, and its tokenizer; raises MissingExtra."""
    for name in _NEEDS:
        if find_spec(name) is None:
            raise MissingExtra(name, "export")
    model = load_model(str(original.whole(torch.float32))).eval()
    model.config._attn_implementation = "eager"
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("places")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        torch.onnx.export(
            _Logits(model),
            (torch.zeros(2, 8, dtype=torch.int64),),
            str(folder / FILE),
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": sizes},
            dynamo=True,
            verbose=False,
        )
    original.tokenizer.save_pretrained(folder)


def check(original: Original, folder: Path, variant: str) -> Parity:
    """Hear the file through ONNX Runtime and compare; raises ParityFailed if it cannot read it."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

    try:
        speaker = OnnxSpeaker(folder / FILE, original.ends)
    except (Fail, InvalidGraph, InvalidProtobuf) as error:
        raise ParityFailed(FILE, [f"ONNX Runtime cannot read it: {error}"]) from error
    copy = original.hear(speaker)
    return with_tokens(original, folder, original.judge(copy, TOLERANCE))
