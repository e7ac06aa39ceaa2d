"""The names that an order is made of, and what they may be. No torch: the web process asks too."""

from typing import Final

from foundation.errors import BadInput
from trainer.registry import ADAPTER, BASE, FULL, MERGED, PRUNED
from trainer.tables import ModelVersion

INT8, INT4, NF4, FP8 = "int8", "int4", "nf4", "fp8"
WAYS: Final = (INT8, INT4, NF4, FP8)
"""Ways to quantise."""

HEADS, NEURONS = "heads", "neurons"
PARTS: Final = (HEADS, NEURONS)
"""What can be pruned."""

WHOLE: Final = (BASE, MERGED, FULL, PRUNED)
"""Kinds of versions that are whole models of full precision already."""


def require_way(way: str) -> None:
    """Check the name of a way to quantise; raises BadInput."""
    if way not in WAYS:
        raise BadInput("way to quantise", way, f"one of {', '.join(WAYS)}", "Name one of those.")


def require_share(what: str, share: float) -> None:
    """Check what is pruned, and how much; raises BadInput."""
    if what not in PARTS:
        raise BadInput("part to prune", what, f"one of {', '.join(PARTS)}", "Name one of those.")
    if not 0 < share < 1:
        raise BadInput("share to prune", share, "above 0, below 1", "Say 0.3 for three tenths.")


def require_whole(version: ModelVersion) -> None:
    """Check that a version is, or can be merged into, a whole model of full precision.

    Raises:
        BadInput: quantized already, a reward model, or an external one.
    """
    if version.kind not in (*WHOLE, ADAPTER):
        raise BadInput(
            "model version",
            f"{version.name} ({version.kind})",
            f"one of {', '.join((*WHOLE, ADAPTER))}",
            "Start from the version that it was made of.",
        )
