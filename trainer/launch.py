"""How one training is spread over several processes, checked when it is ordered. No torch here."""

from dataclasses import dataclass, replace
from typing import Final

from foundation.errors import BadInput
from trainer.recipe import SFT_FULL, SFT_LORA, Recipe
from trainer.recipe.continual import PLAIN, REPLAY

TORCHRUN, ACCELERATE = "torchrun", "accelerate"
FSDP2, ZERO3 = "fsdp2", "zero3"
PROVEN: Final = (SFT_LORA, SFT_FULL)
"""Methods whose loss in several processes is known to be that of one."""


@dataclass(frozen=True)
class Launch:
    """How a training is spread.

    Attributes:
        launcher: torchrun or accelerate.
        processes: on each machine; as a rule one for each GPU.
        nodes: machines. On more than one, MASTER_ADDR and MASTER_PORT say where the first one is,
            and all of them see FLYWHEEL_HOME under the same path.
        sharding: None: each process holds the whole base; fsdp2: its weights are spread over the
            processes; zero3: the same by DeepSpeed, with accelerate only.
    """

    launcher: str = TORCHRUN
    processes: int = 1
    nodes: int = 1
    sharding: str | None = None

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        _one_of("launcher", self.launcher, (TORCHRUN, ACCELERATE))
        if self.sharding is not None:
            _one_of("sharding", self.sharding, (FSDP2, ZERO3))
        for name, number in (("processes", self.processes), ("nodes", self.nodes)):
            if number < 1:
                raise BadInput(name, number, "at least one", "Name more.")
        if self.sharding == ZERO3 and self.launcher != ACCELERATE:
            raise BadInput(
                "launcher", self.launcher, f"{ACCELERATE} for {ZERO3}", "Name it, or say fsdp2."
            )

    @property
    def world(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes


def _one_of(name: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise BadInput(name, value, f"one of {', '.join(expected)}", "Correct it.")


def shared_out(recipe: Recipe, world: int) -> Recipe:
    """Return the recipe of one process, so that all together take the rows of a step.

    Raises:
        BadInput: the effective batch cannot be divided, or what the recipe does is not proven in
            several processes.
    """
    _require_proven("recipe.method", recipe.method, PROVEN)
    _require_proven("recipe.continual.method", recipe.continual.method, (PLAIN, REPLAY))
    whole = recipe.effective_batch_size
    if whole % world:
        raise BadInput(
            "processes",
            world,
            f"a divisor of the {whole} rows of a step",
            "Change recipe.batch_size or recipe.gradient_accumulation.",
        )
    mine = whole // world
    rows = max(n for n in range(1, min(mine, recipe.batch_size) + 1) if mine % n == 0)
    return replace(recipe, batch_size=rows, gradient_accumulation=mine // rows)


def _require_proven(name: str, value: str, proven: tuple[str, ...]) -> None:
    if value not in proven:
        shown = f"one of {', '.join(proven)} in several processes"
        raise BadInput(name, value, shown, "Train it in one process.")
