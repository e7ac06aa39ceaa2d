"""A base whose weights are spread over the processes of a training, by torch's FSDP2.

transformers spreads them while it loads; each process holds its part, and the whole of a layer only
while that computes. Here is what it leaves out: weights given back after a look, and checkpoints
to go on from.
"""

from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

_WHOLE: Final = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)
_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"


def give_back_after_looks(model: Any) -> None:
    """Make a model spread its weights again after a pass that no backward follows.

    FSDP2 keeps those of the head until the backward. Until then they are other parameters, which an
    adapter does not freeze and an optimizer learns in vain: the loss is wrong, and nothing fails.
    """

    def spread_again(*_: Any) -> None:
        if not torch.is_grad_enabled():
            for part in model.modules():
                if isinstance(part, FSDPModule):
                    part.reshard()

    model.register_forward_hook(spread_again)


class Sharded:
    """Mixin before a TRL trainer: writes checkpoints with whole tensors, and goes on from them."""

    def __init__(self, **options: Any) -> None:
        options["args"].save_only_model = True  # else transformers refuses: it can do no more
        super().__init__(**options)
        options["args"].save_only_model = False

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = get_optimizer_state_dict(self._model, self._optimizer, options=_WHOLE)
        if self._own.args.should_save:
            torch.save(state, Path(output_dir) / _OPTIMIZER)
            torch.save(self._own.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = torch.load(Path(checkpoint) / _OPTIMIZER, weights_only=True)
        set_optimizer_state_dict(self._model, self._optimizer, state, options=_WHOLE)
        schedule = torch.load(Path(checkpoint) / _SCHEDULER, weights_only=True)
        self._own.lr_scheduler.load_state_dict(schedule)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if isinstance(self._model, PeftModel):  # adapters are not spread
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        weights: dict[str, Any] = {}
        for file in Path(resume_from_checkpoint).glob("*.safetensors"):
            weights |= load_file(file)
        set_model_state_dict(self._model, weights, options=_WHOLE)

    def _load_best_model(self) -> None:
        """Load nothing: what is kept is read from the files of the best checkpoint."""

    @property
    def _own(self) -> Any:
        return self

    @property
    def _model(self) -> Any:
        return self._own.model

    @property
    def _optimizer(self) -> Any:
        return self._own.optimizer.optimizer  # torch's, in that of accelerate
