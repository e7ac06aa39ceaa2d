"""What a joint training leaves on disk: whole checkpoints, and at last each adapter at its best."""

import json
import shutil
import time
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from trainer.callbacks import Clock
from trainer.checkpoints import latest, mark_complete, size_of
from trainer.fit import ADAPTER_FILES, tidy_adapter_config
from trainer.guards import MARGIN_BYTES, checkpoint_bytes, require_room
from trainer.joint.learner import Learner
from trainer.joint.training import Training

STATE, WEIGHTS = "state.pt", "adapters.safetensors"
KEPT = 2


def save(training: Training, folder: Path, clock: Clock) -> None:
    """Write a checkpoint and remove the oldest one; raises DiskFull before it is begun."""
    began = time.perf_counter()
    earlier = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    expected = size_of(earlier[-1]) if earlier else checkpoint_bytes(training.model)
    require_room(folder, 2 * expected + MARGIN_BYTES)  # the best weights may be new
    path = folder / f"checkpoint-{training.step}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    save_file(_weights(training), path / WEIGHTS, {"format": "pt"})
    torch.save([learner.state() for learner in training.learners], path / STATE)
    # In the words of transformers, so that `trainer.checkpoints` reads it too.
    state = {
        "global_step": training.step,
        "best_model_checkpoint": None,
        "log_history": [],
        "stateful_callbacks": {
            "TrainerControl": {"args": {"should_training_stop": training.is_done}}
        },
        "n_tokens": training.n_tokens,
        "learners": [asdict(learner.progress) for learner in training.learners],
    }
    (path / "trainer_state.json").write_text(json.dumps(state))

    def facts() -> dict[str, Any]:
        clock.saved(time.perf_counter() - began)
        training.read_clock = clock.read()
        rows = max(learner.lesson.recipe.batch_size for learner in training.learners)
        return {"clock": training.read_clock, "micro_batch": rows}

    mark_complete(path, facts)
    for old in earlier[: -(KEPT - 1)]:
        shutil.rmtree(old)


def go_on(training: Training, folder: Path, clock: Clock) -> None:
    """Restore the last whole checkpoint, if there is one."""
    found = latest(folder, training.learners[0].lesson.say)
    if found is None:
        return
    clock.go_on_from(found.clock)
    training.read_clock = found.clock
    stored = load_file(found.path / WEIGHTS)
    with torch.no_grad():
        for name, weight in _weights(training).items():
            weight.copy_(stored[name])
    states = torch.load(
        found.path / STATE, map_location=training.device, weights_only=True
    )  # our own
    for learner, progress, state in zip(
        training.learners, found.state["learners"], states, strict=True
    ):
        learner.go_on_from(progress, state)
    training.step = found.state["global_step"]
    training.n_tokens = found.state["n_tokens"]


def _weights(training: Training) -> dict[str, torch.Tensor]:
    return {
        f"{learner.adapter}.{i}": weight.detach()
        for learner in training.learners
        for i, weight in enumerate(learner.weights)
    }


def keep(learner: Learner, model: Any, target: Path) -> Path:
    """Write the adapter of the lowest validation loss, or the last one, as it will be served."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if learner.best is not None:
        with torch.no_grad():
            for weight, best in zip(learner.weights, learner.best, strict=True):
                weight.copy_(best)
    found = get_peft_model_state_dict(model, adapter_name=learner.adapter)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}
    save_file(tensors, target / ADAPTER_FILES[1], {"format": "pt"})
    config = copy(model.peft_config[learner.adapter])
    config.inference_mode = True
    config.save_pretrained(target)
    tidy_adapter_config(target / ADAPTER_FILES[0], learner.lesson.base_model)
    return target
