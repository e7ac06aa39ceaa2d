"""What continual methods read and write: adapter weights by name, and files beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from foundation.whole import whole_file
from trainer.lesson import Lesson

STATE: Final = "continual"
"""Folder of a version, of a checkpoint or of a training for the files of this package."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Tensors = dict[str, torch.Tensor]
"""Tensors by the name that peft's file gives to the weight they belong to."""


def adapter_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the trainable matrices of the adapter, by their names in peft's file."""
    found = {
        name.replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (".lora_A." in name or ".lora_B." in name)
    }
    assert found, "a model without a trainable adapter"
    return found


def adapter_weights(folder: Path) -> Tensors:
    """Return the matrices of a stored adapter."""
    return dict(load_file(folder / ADAPTER_WEIGHTS))


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return peft's configuration of a stored adapter."""
    config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text())
    return config


def state_file(folder: Path, name: str) -> Path:
    """Return where a file of this package lies in a version, a checkpoint or a training."""
    return folder / STATE / name


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as unfinished:
        save_file(plain, unfinished, {"format": "pt"})


def load_tensors(path: Path) -> Tensors:
    """Return the tensors of a file."""
    return dict(load_file(path))


def save_json(values: Mapping[str, Any], path: Path) -> None:
    """Write JSON whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def load_json(path: Path) -> dict[str, Any]:
    """Return the mapping of a JSON file."""
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def checkpoint_file(output_dir: str, step: int, name: str) -> Path:
    """Return where a file of this package lies in the checkpoint of a step."""
    return state_file(Path(output_dir) / f"checkpoint-{step}", name)


def start_folder(lesson: Lesson) -> Path:
    """Return the folder of the adapter that a training begins with, where a method makes one."""
    return lesson.folder / STATE / "start"
