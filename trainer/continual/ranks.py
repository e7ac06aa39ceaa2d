"""An adapter's ranks as columns: some frozen, some learned, the rest empty.

A LoRA update is a sum of one term per rank, B[:, i] A[i, :]. So frozen old ranks beside new ones
are one plain adapter of the joint rank, equal to the old one as long as the new ranks are zero, and
served like any other. The scale alpha / r stays that of the old adapter: its terms keep their bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foundation.errors import BadInput, FlywheelError
from trainer.continual.state import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Tensors,
    adapter_config,
    adapter_parameters,
    adapter_weights,
    save_json,
    save_tensors,
)
from trainer.recipe import SERVABLE_RANKS

RANK_AXIS: Final = {".lora_A.": 0, ".lora_B.": 1}


@dataclass(frozen=True)
class Ranks:
    """Neighbouring ranks of an adapter: `first` to below `end`."""

    first: int
    end: int

    @property
    def n(self) -> int:
        """How many."""
        return self.end - self.first

    def of(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        """Return these ranks of an A (rank, in) or a B (out, rank), as a view."""
        return matrix.narrow(rank_axis(name), self.first, self.n)


class FrozenChanged(FlywheelError):
    """A weight that a method promised to keep is another one."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"frozen ranks of {name}: got other bits, expected those of before")


def rank_axis(name: str) -> int:
    """Return the axis of a matrix that counts the ranks."""
    return next(axis for side, axis in RANK_AXIS.items() if side in name)


def servable_rank(n: int) -> int:
    """Return the least rank that vLLM serves and that holds `n` ranks; raises BadInput over 512."""
    for rank in SERVABLE_RANKS:
        if rank >= n:
            return rank
    raise BadInput(
        "ranks of the adapter", n, f"at most {SERVABLE_RANKS[-1]}", "Learn in fewer ranks."
    )


def n_used(weights: Mapping[str, torch.Tensor]) -> int:
    """Return up to which rank an adapter is used: those behind it are zero in every B.

    A rank whose B is zero in every layer adds nothing, whatever its A.
    """
    used = 0
    for name, matrix in weights.items():
        if rank_axis(name) == 1:
            columns = matrix.abs().amax(dim=0).nonzero()
            used = max(used, int(columns.max()) + 1 if len(columns) else 0)
    return used


def make_room(
    weights: Tensors, config: dict[str, Any], used: int, n_new: int, seed: int, folder: Path
) -> None:
    """Write an adapter of the `used` old ranks and `n_new` fresh ones, padded to a servable rank.

    The fresh ranks begin as any LoRA's: A random by the seed, B zero, so that the adapter computes
    what the old one does. Padding is zero on both sides.
    """
    rank = servable_rank(used + n_new)
    generator = torch.Generator().manual_seed(seed)
    old, new = Ranks(0, used), Ranks(used, used + n_new)
    grown: Tensors = {}
    for name in sorted(weights):
        matrix = weights[name]
        shape = list(matrix.shape)
        shape[rank_axis(name)] = rank
        room = torch.zeros(shape, dtype=matrix.dtype)
        old.of(name, room).copy_(old.of(name, matrix))
        if rank_axis(name) == 0:
            fresh = new.of(name, room)
            bound = 1 / sqrt(matrix.shape[1])  # as peft draws it: Kaiming with a = sqrt(5)
            drawn = torch.rand(fresh.shape, generator=generator) * 2 - 1
            fresh.copy_((drawn * bound).to(matrix.dtype))
        grown[name] = room
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(grown, folder / ADAPTER_WEIGHTS)
    save_json(_of_rank(config, rank), folder / ADAPTER_CONFIG)


def _of_rank(config: dict[str, Any], rank: int) -> dict[str, Any]:
    """Return an adapter's configuration at another rank and the same scale."""
    r, alpha = config["r"], config["lora_alpha"]
    scale = alpha / sqrt(r) if config.get("use_rslora") else alpha / r
    grown = scale * rank
    whole = int(grown) if grown == int(grown) else grown
    return {**config, "r": rank, "lora_alpha": whole, "use_rslora": False}


def concentrated(weights: Tensors, ranks: Ranks, kept: int) -> None:
    """Keep of some ranks the `kept` best directions of each layer, in place; zero the others.

    The best ones are the largest singular values of the update that these ranks make (Eckart and
    Young), so no other choice of as many ranks changes the update less.
    """
    for name in [name for name in weights if rank_axis(name) == 0]:
        twin = name.replace(".lora_A.", ".lora_B.")
        a, b = ranks.of(name, weights[name]), ranks.of(twin, weights[twin])
        best_a, best_b = _best(a.double(), b.double(), kept)
        a.zero_()
        b.zero_()
        a[:kept].copy_(best_a.to(a.dtype))
        b[:, :kept].copy_(best_b.to(b.dtype))


def _best(
    a: torch.Tensor,  # (rank, in)
    b: torch.Tensor,  # (out, rank)
    kept: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T)
    root = s[:kept].sqrt()
    return root[:, None] * vh[:kept] @ q_a.T, q_b @ u[:, :kept] * root


def require_unchanged(kept: Path, begun: Path, frozen: Ranks) -> None:
    """Check on the files that the frozen ranks have the bits that they began with.

    Raises:
        FrozenChanged: naming the matrix.
    """
    after, before = adapter_weights(kept), adapter_weights(begun)
    for name, matrix in after.items():
        if not torch.equal(frozen.of(name, matrix), frozen.of(name, before[name])):
            raise FrozenChanged(name)


def trained_ranks(folder: Path) -> int:
    """Return the rank of a stored adapter."""
    return int(adapter_config(folder)["r"])


class TrainOnly(TrainerCallback):  # type: ignore[misc]
    """Trains some ranks of the adapter; all others keep their bits.

    Their gradients are zero before the gradient's length is measured, so they neither shorten the
    others' nor fill the optimizer's memory; weight decay is undone.
    """

    def __init__(self, trained: Ranks) -> None:
        self.trained = trained
        self._held: list[tuple[str, torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        **kwargs: Any,
    ) -> None:
        """Take the weights as they are now, of the start or of the checkpoint."""
        for name, parameter in adapter_parameters(model).items():
            learned = torch.zeros_like(parameter, dtype=torch.bool)
            self._held.append((name, parameter, learned, parameter.detach().clone()))
            hook: Any = parameter.register_hook
            hook(lambda gradient, learned=learned: gradient * learned)
        self.restrict(self.trained)

    def restrict(self, trained: Ranks) -> None:
        """Train these ranks from now on; the others are kept as they are now."""
        self.trained = trained
        for name, parameter, learned, kept in self._held:
            learned.zero_()
            trained.of(name, learned).fill_(True)
            kept.copy_(parameter.detach())

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Put back what weight decay moved."""
        with torch.no_grad():
            for _name, parameter, learned, kept in self._held:
                parameter.copy_(torch.where(learned, parameter, kept))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Check that nothing but the trained ranks has changed."""
        for name, parameter, learned, kept in self._held:
            if not torch.equal(parameter.detach()[~learned], kept[~learned]):
                raise FrozenChanged(name)
