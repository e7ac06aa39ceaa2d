"""Knobs of learning on without forgetting: what keeps the old, beside the training's method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from trainer.recipe.ranges import Range, check, not_negative, number, one_of, positive, share, whole

PLAIN = "none"
REPLAY, EWC, SYNAPTIC, LWF = "replay", "ewc", "si", "lwf"
PACKNET, PROGRESSIVE, ORTHOGONAL = "packnet", "progressive", "orthogonal"
CONTINUAL: Final = (REPLAY, EWC, SYNAPTIC, LWF, PACKNET, PROGRESSIVE, ORTHOGONAL)


@dataclass(frozen=True)
class Continual:
    """What keeps earlier skills while new ones are learned.

    Attributes:
        method: none, replay, ewc, si (Synaptic Intelligence), lwf (Learning without Forgetting),
            packnet, progressive or orthogonal.
        replay_share: share of each epoch that is drawn from earlier datasets, 0 to below 1.
        replay_rows: most rows that the reservoir of earlier datasets holds, at least 1.
        ewc_lambda: weight of EWC's penalty, at least 0; 0: calibrated on this base.
        si_c: weight of Synaptic Intelligence's penalty, at least 0.
        lwf_temperature: T of the old model's answers, above 0.
        lwf_alpha: weight of their KL beside 1 - alpha of the new task's loss.
        packnet_share: share of the free weights that each task may keep, above 0, to 1.
        orthogonal_lambda: weight of the overlap with earlier subspaces, at least 0.
        adapt_lr: lower the rate as the model drifts from what it was, with any method or none.
        drift_nats: KL per answer token, on old rows, at which adapt_lr halves the rate; above 0.
    """

    method: str = PLAIN
    replay_share: float = 0.5
    replay_rows: int = 100_000
    ewc_lambda: float = 0.0
    si_c: float = 1.0
    lwf_temperature: float = 2.0
    lwf_alpha: float = 0.5
    packnet_share: float = 0.5
    orthogonal_lambda: float = 0.5
    adapt_lr: bool = False
    drift_nats: float = 0.05

    RANGES: ClassVar[Mapping[str, Range]] = {
        "method": one_of(PLAIN, *CONTINUAL),
        "replay_share": share(below_one=True),
        "replay_rows": whole(1),
        "ewc_lambda": not_negative(),
        "si_c": not_negative(),
        "lwf_temperature": positive(),
        "lwf_alpha": share(),
        "packnet_share": number(lambda x: 0 < x <= 1, "a share above 0, to 1"),
        "orthogonal_lambda": not_negative(),
        "adapt_lr": one_of(True, False),
        "drift_nats": positive(),
    }

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        check(self, "recipe.continual")
