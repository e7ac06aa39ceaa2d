"""LoRA adapters side by side: rows of different adapters, and of none, in one forward pass.

The adapters that a batch needs stand beside each other as one wide pair of matrices per layer; a
mask keeps each row to its own adapter's ranks. Two products per layer, however many adapters:
S-LoRA and Punica gather weights row by row with kernels of their own, which a CPU does not have,
and peft's `adapter_names` runs each adapter's layers one after the other.
"""

import itertools
import json
import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from foundation.errors import BadInput
from serving.fit import ADAPTER_WEIGHTS

_KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
_UNSUPPORTED = (
    *("use_dora", "use_qalora", "lora_bias", "modules_to_save", "layer_replication"),
    *("trainable_token_indices", "target_parameters", "alora_invocation_tokens"),
)
_numbers = itertools.count(1)

BLENDS_KEPT = 4
"""Sets of adapters kept side by side: those of the rows that join, and of those under way."""


@dataclass(frozen=True, slots=True)
class Lora:
    """One adapter's matrices.

    Attributes:
        name: as requests call it.
        layers: by the name of the linear layer, `A` (rank x in) and `B` (out x rank), scaled.
        n_bytes: of the matrices.
        number: of this reading of it; no other has the same.
    """

    name: str
    layers: dict[str, tuple[Tensor, Tensor]]
    n_bytes: int
    number: int = field(default_factory=_numbers.__next__)


def read_lora(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Lora:
    """Read a LoRA adapter as peft saves it.

    Raises:
        BadInput: another kind of adapter, or weights that are no finite numbers.
    """
    config = json.loads((folder / "adapter_config.json").read_text())
    used = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("peft_type") != "LORA" or used or config.get("bias", "none") != "none":
        raise _not_plain(name, config.get("peft_type"), used)
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(folder / ADAPTER_WEIGHTS).items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise _not_plain(name, config["peft_type"], [key])
        if not bool(torch.isfinite(tensor).all()):  # it would reach the rows beside it
            raise BadInput(f"adapter {name!r}", key, "finite weights", "Train it again.")
        halves.setdefault(found[1], {})[found[2]] = tensor
    layers = {}
    for layer, half in halves.items():
        scaled = half["B"].float() * _scale(config, layer, half["A"].shape[0])
        layers[layer] = (half["A"].to(device, dtype), scaled.to(device, dtype))
    n_bytes = sum(t.numel() * t.element_size() for pair in layers.values() for t in pair)
    return Lora(name, layers, n_bytes)


def _scale(config: dict[str, Any], layer: str, rank: int) -> float:
    alpha = config["lora_alpha"]
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = other
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _not_plain(name: str, kind: Any, used: Sequence[str]) -> BadInput:
    return BadInput(
        f"adapter {name!r}",
        f"{kind} with {', '.join(used)}" if used else kind,
        "a plain LoRA of linear layers",
        "Merge it into its base and serve that.",
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """The matrices of one layer: `down` (ranks x in), `up` (out x ranks), ranks by adapter."""

    down: Tensor
    up: Tensor
    ranks: tuple[int, ...]


@dataclass(slots=True)
class _Blend:
    """What stands beside the base now; one object that all adapted layers look at.

    Attributes:
        sides: by layer; none: the base alone answers.
        foreign: by the ranks of a layer, rows x 1 x ranks, true where a row must not look; absent
            where every row is the one adapter's.
    """

    sides: dict[str, _Side] = field(default_factory=dict)
    foreign: dict[tuple[int, ...], Tensor] = field(default_factory=dict)


class AdaptedLinear(nn.Module):
    """A linear layer of the base, and what the adapters add to it."""

    def __init__(self, name: str, base: nn.Linear, blend: _Blend) -> None:
        super().__init__()
        self.name, self.base, self.blend = name, base, blend

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, rows x tokens x out."""
        out: Tensor = self.base(x)
        side = self.blend.sides.get(self.name)
        if side is None:
            return out
        ranks = functional.linear(x, side.down)
        foreign = self.blend.foreign.get(side.ranks)
        if foreign is not None:
            if x.dim() != 3:  # experts mix the rows: nobody could say whose token this is
                raise RuntimeError(f"{self.name}: no rows in {tuple(x.shape)}, expected 3 axes")
            ranks = ranks.masked_fill(foreign, 0)
        wide = out.view(-1, out.shape[-1])
        return wide.addmm_(ranks.view(-1, ranks.shape[-1]), side.up.T).view(out.shape)


class Adapted:
    """A base model whose linear layers can be adapted, row by row."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.n_layers: int = model.config.get_text_config().num_hidden_layers
        self._blend = _Blend()
        self._layers: set[str] = set()
        self._kept: OrderedDict[tuple[int, ...], dict[str, _Side]] = OrderedDict()
        self._rows: tuple[int, ...] | None = None

    def prepare(self, lora: Lora) -> None:
        """Make the layers that an adapter changes adaptable.

        Raises:
            BadInput: one of them is no linear layer of the base.
        """
        for name in lora.layers.keys() - self._layers:
            try:
                layer = self.model.get_submodule(name)
            except AttributeError:
                layer = None
            if not isinstance(layer, nn.Linear):
                raise _not_plain(lora.name, type(layer).__name__, [name])
            parent, _, own = name.rpartition(".")
            setattr(self.model.get_submodule(parent), own, AdaptedLinear(name, layer, self._blend))
            self._layers.add(name)

    def select(self, loras: Sequence[Lora | None]) -> None:
        """Say which adapter each row of the next forward passes has; None: the base's own."""
        rows = tuple(0 if lora is None else lora.number for lora in loras)
        if rows == self._rows:
            return
        self._rows = rows
        needed = {lora.number: lora for lora in loras if lora is not None}
        numbers = tuple(sorted(needed))
        self._blend.sides = self._side_by_side(numbers, needed)
        self._blend.foreign = {}
        if len(numbers) == 1 and 0 not in rows:
            return
        for ranks in {side.ranks for side in self._blend.sides.values()}:
            owners = torch.tensor(numbers).repeat_interleave(torch.tensor(ranks))
            foreign = owners[None, :] != torch.tensor(rows)[:, None]
            self._blend.foreign[ranks] = foreign[:, None, :].to(self.device)

    def forget(self, lora: Lora) -> None:
        """Let go of the matrices that an adapter stands in."""
        self._rows = None
        for numbers in [numbers for numbers in self._kept if lora.number in numbers]:
            del self._kept[numbers]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def _side_by_side(self, numbers: tuple[int, ...], needed: dict[int, Lora]) -> dict[str, _Side]:
        if not numbers:
            return {}
        if numbers not in self._kept:
            loras = [needed[number] for number in numbers]
            names = {name for lora in loras for name in lora.layers}
            self._kept[numbers] = {name: _beside(name, loras) for name in names}
            while len(self._kept) > BLENDS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(numbers)
        return self._kept[numbers]


def _beside(name: str, loras: Sequence[Lora]) -> _Side:
    """Return one layer's matrices of several adapters; one that leaves it alone has no rank."""
    pairs = [lora.layers.get(name) for lora in loras]
    ranks = tuple(0 if pair is None else pair[0].shape[0] for pair in pairs)
    present = [pair for pair in pairs if pair is not None]
    if len(present) == 1:
        return _Side(*present[0], ranks)
    downs, ups = zip(*present, strict=True)
    return _Side(torch.cat(downs), torch.cat(ups, dim=1), ranks)
