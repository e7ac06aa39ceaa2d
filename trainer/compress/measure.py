"""What a smaller model is beside the one it was made of: size on the disk, and speed.

Speed is measured in turns, one round of each after the other, so that other work on the machine
slows both; what counts is the ratio of a round, and of those the median.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers.utils import cached_file

from trainer.export.parity import Ids, TorchSpeaker

ROUNDS: Final = 5
SPOKEN: Final = 24
"""Tokens of each answer whose speed is measured."""


def n_bytes(model: str) -> int:
    """Return the bytes of a model's safetensors files, by folder or hub name."""
    folder = Path(model)
    if not folder.is_dir():
        folder = Path(cached_file(model, "config.json")).parent
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def speed_ratio(source: Any, copy: Any, prompts: Sequence[Ids], rounds: int = ROUNDS) -> float:
    """Return how many tokens the copy says while the source says one.

    Both answer the same prompts at once, and go on to the same length, whatever they say.
    """
    speakers = [TorchSpeaker(model, ()) for model in (source, copy)]
    for speaker in speakers:
        speaker.answers(prompts, 2)  # the first forward pass of a kind is not like the others
    ratios = []
    for _ in range(rounds):
        mine, theirs = (_seconds(speaker, prompts) for speaker in speakers)
        ratios.append(mine / theirs)
    return statistics.median(ratios)


def _seconds(speaker: TorchSpeaker, prompts: Sequence[Ids]) -> float:
    is_on_gpu = speaker.model.device.type == "cuda"
    clock = time.perf_counter if is_on_gpu else time.process_time
    if is_on_gpu:
        torch.cuda.synchronize()
    started = clock()
    speaker.answers(prompts, SPOKEN)
    if is_on_gpu:
        torch.cuda.synchronize()
    return clock() - started
