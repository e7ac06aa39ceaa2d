"""A real engine in a process of its own, with a base and an adapter of random weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_base import build_tiny_base


@dataclass(frozen=True)
class TinyEngine:
    """Where it answers (…/v1), and the folders of its base and of an adapter that is not loaded."""

    base_url: str
    base: Path
    adapter: Path
    untrained: Path
    """An adapter that changes nothing: its second matrices are zero, as before any training."""


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyEngine]:
    from flywheel.processes import Processes, free_port

    folder = tmp_path_factory.mktemp("engine")
    base = build_tiny_base(folder / "tiny")
    adapters = [_adapter(base, folder / name, name == "untrained") for name in ADAPTERS]
    port = free_port()
    home = {"FLYWHEEL_HOME": str(folder / "home"), "FLYWHEEL_TORCH_THREADS": "1"}
    with Processes(folder, home) as processes:
        processes.start("engine", "engine", "--base", str(base), "--port", str(port))
        processes.wait_for_http(f"http://127.0.0.1:{port}/healthz", timeout_s=180)
        yield TinyEngine(f"http://127.0.0.1:{port}/v1", base, *adapters)


ADAPTERS = ("random", "untrained")


def _adapter(base: Path, folder: Path, is_untrained: bool) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = LoraConfig(
            r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=is_untrained
        )
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder
