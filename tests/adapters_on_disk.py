"""LoRA adapters as peft writes them, of the numbers given; and stored folders of one file."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from foundation import artifacts
from foundation.artifacts import Artifact


def adapter(
    folder: Path, layers: dict[str, tuple[Any, Any]], dtype: Any = torch.float32, **config: Any
) -> Path:
    """Write an adapter of alpha 8 whose layers have these A [r, in] and B [out, r]."""
    folder.mkdir()
    tensors = {}
    for name, (a, b) in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.tensor(a).to(dtype)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.tensor(b).to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


def halves(rank: int, seed: int, n_in: int = 12, n_out: int = 10) -> tuple[Any, Any]:
    """Random A and B of a layer."""
    draw = np.random.default_rng(seed)
    return (
        draw.normal(size=(rank, n_in)).astype("float32"),
        draw.normal(size=(n_out, rank)).astype("float32"),
    )


def stored(content: str = "a", name: str = "adapter_model.safetensors") -> Artifact:
    """Store a folder with one file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(weights(content))
        return artifacts.put(Path(folder))


def weights(content: str) -> bytes:
    """Return a safetensors file without tensors, with these words in its header."""
    header = json.dumps({"__metadata__": {"content": content}}).encode()
    return len(header).to_bytes(8, "little") + header
