"""Several adapters over one base in one: `cat` is exact, the others are offered with their error.

An adapter stands for a change of weights, ΔW = s B A. What is wanted is Σ wᵢ ΔWᵢ; the error of a
way to get there is ‖got - wanted‖ / ‖wanted‖ (Frobenius, over all layers together). Averaging A and
B by themselves (`linear`) gives another matrix, as a rule one that has little to do with it.
Sources: LoRA's product, TIES (Yadav et al. 2023, trim, elect, mean), DARE (Yu et al. 2023, drop and
rescale); both work here on whole changes, not on A and B as in PEFT, and are then cut to a rank.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from foundation.errors import BadInput
from trainer.export.gguf_lora import NotConvertible, Pairs, read_pairs
from trainer.export.ways import CAT, DARE, LINEAR, SVD, WAYS, require_way
from trainer.recipe import SERVABLE_RANKS

MOST_RANK: Final = 64
"""Rank up to which `cat` stays exact by itself; a larger one is slow to serve: ask for it."""

DENSITY: Final = 0.5
"""Share of a change that TIES and DARE keep."""

LEAST_CHANGE: Final = 1e-6
"""Of ‖Σ wᵢ ΔWᵢ‖ / Σ |wᵢ| ‖ΔWᵢ‖: below it the parts cancel each other."""

Wide = NDArray[np.float64]
Factors = Mapping[str, tuple[Wide, Wide]]
"""By PEFT's name of a layer: A (rank x in) and B (out x rank), whose product is the change."""


@dataclass(frozen=True)
class Combination:
    """An adapter made of several.

    Attributes:
        how: one of `WAYS`.
        rank: of its matrices.
        error: of its change, relative to the true weighted sum.
        factors: its matrices.
    """

    how: str
    rank: int
    error: float
    factors: Factors


def read_parts(folders: Sequence[Path]) -> list[Factors]:
    """Return the changes of PEFT folders, their scales multiplied in.

    Raises:
        BadInput: one is more than plain LoRA, such as DoRA, whose change is no product.
    """
    parts: list[Factors] = []
    for folder in folders:
        try:
            pairs: Pairs = read_pairs(folder)
        except NotConvertible as error:
            raise BadInput(
                "adapter", str(error), "plain LoRA", "Merge it into its base instead."
            ) from error
        parts.append(
            {
                name: (a.astype(np.float64), scale * b.astype(np.float64))
                for name, (a, b, scale) in pairs.items()
            }
        )
    return parts


def combine(
    parts: Sequence[Factors],
    weights: Sequence[float],
    how: str = CAT,
    rank: int | None = None,
    seed: int = 0,
) -> Combination:
    """Return one adapter that stands for the weighted sum of several.

    Args:
        parts: at least two, over the same base.
        weights: one for each; they need not add up to 1.
        how: one of `WAYS`.
        rank: one that servers take; default: for `cat` the least that holds it exactly, at most
            `MOST_RANK`; for the others the largest of the parts'.
        seed: of what DARE drops.

    Raises:
        BadInput: another way or rank, weights that are none, parts that cancel each other, or for
            `linear` unequal ranks or layers.
    """
    require_way(how, weights, len(parts), rank)
    _require_same_base(parts)
    wanted = _concatenated(parts, weights)
    _require_something(parts, weights, wanted)
    if how in (CAT, SVD):
        factors = wanted
    elif how == LINEAR:
        factors = _linear(parts, weights)
    else:
        factors = {
            name: _as_factors(_sparse(parts, weights, name, how, np.random.default_rng((seed, i))))
            for i, name in enumerate(sorted(wanted))
        }
    rank = rank or _default_rank(parts, wanted, how)
    fitted = {name: _fitted(a, b, rank) for name, (a, b) in factors.items()}
    return Combination(how, rank, relative_error(fitted, wanted), fitted)


def errors(
    parts: Sequence[Factors], weights: Sequence[float], rank: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return rank and error of every way, so that one can be chosen; None where it cannot be."""
    table: dict[str, dict[str, Any]] = {}
    for how in WAYS:
        try:
            made = combine(parts, weights, how, rank)
            table[how] = {"rank": made.rank, "error": made.error}
        except BadInput as error:
            table[how] = {"rank": None, "error": None, "why": str(error)}
    return table


def write_combination(made: Combination, like: Path, folder: Path) -> None:
    """Write a combination as a PEFT folder.

    Args:
        made: what to write.
        like: the folder of a part, for the name of the base.
        folder: to make.
    """
    theirs = json.loads((like / "adapter_config.json").read_text())
    config = {
        "peft_type": "LORA",
        "task_type": theirs.get("task_type") or "CAUSAL_LM",
        "base_model_name_or_path": theirs.get("base_model_name_or_path"),
        "r": made.rank,
        "lora_alpha": made.rank,  # so that the product is the change itself
        "lora_dropout": 0.0,
        "target_modules": sorted({name.rpartition(".")[2] for name in made.factors}),
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {}
    for name, (a, b) in made.factors.items():
        tensors[f"base_model.model.model.{name}.lora_A.weight"] = a.astype(np.float32)
        tensors[f"base_model.model.model.{name}.lora_B.weight"] = b.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def relative_error(got: Factors, wanted: Factors) -> float:
    """Return ‖got - wanted‖ / ‖wanted‖ over all layers, without ever making a whole matrix."""
    off = total = 0.0
    for name, (a, b) in wanted.items():
        got_a, got_b = got.get(name, (a[:0], b[:, :0]))
        off += _squared(np.vstack([a, got_a]), np.hstack([b, -got_b]))
        total += _squared(a, b)
    return float(np.sqrt(off / total)) if total else 0.0


def _squared(a: Wide, b: Wide) -> float:
    """Return ‖B A‖², from triangles as small as the rank: exact also where parts cancel."""
    return float(np.square(np.linalg.qr(b).R @ np.linalg.qr(a.T).R.T).sum())


def _concatenated(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return A's one below the other and weighted B's side by side: exactly the sum."""
    names = sorted({name for part in parts for name in part})
    return {
        name: (
            np.vstack([part[name][0] for part in parts if name in part]),
            np.hstack(
                [w * part[name][1] for part, w in zip(parts, weights, strict=True) if name in part]
            ),
        )
        for name in names
    }


def _linear(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return weighted sums of A and of B by themselves, as PEFT's `linear` makes them."""
    shapes = {(name, a.shape, b.shape) for part in parts for name, (a, b) in part.items()}
    if any(len(part) != len(shapes) for part in parts):
        raise BadInput("linear", "unequal ranks or layers", "equal ones", "Take cat or svd.")
    if min(weights) < 0:
        raise BadInput("linear", min(weights), "weights of at least 0", "Take cat or svd.")
    roots = np.sqrt(weights)
    return {
        name: (
            sum(root * part[name][0] for part, root in zip(parts, roots, strict=True)),
            sum(root * part[name][1] for part, root in zip(parts, roots, strict=True)),
        )
        for name in parts[0]
    }


def _sparse(
    parts: Sequence[Factors],
    weights: Sequence[float],
    name: str,
    how: str,
    random: np.random.Generator,
) -> Wide:
    """Return one layer's change by TIES or DARE."""
    changes = np.stack(
        [
            w * (part[name][1] @ part[name][0])
            for part, w in zip(parts, weights, strict=True)
            if name in part
        ]
    )  # parts x out x in
    if how == DARE:
        kept = random.random(changes.shape) < DENSITY
        dropped: Wide = (changes * kept).sum(axis=0) / DENSITY
        return dropped
    least = np.quantile(np.abs(changes), 1 - DENSITY, axis=(1, 2), keepdims=True)
    trimmed = np.where(np.abs(changes) >= least, changes, 0)
    elected = np.sign(trimmed.sum(axis=0))
    agreeing = np.sign(trimmed) == elected
    chosen: Wide = (trimmed * agreeing).sum(axis=0)
    # A mean of those that agree, weighted as the sum is: of n parts that agree all n count.
    merged: Wide = chosen * len(changes) / np.maximum(agreeing.sum(axis=0), 1)
    return merged


def _as_factors(change: Wide) -> tuple[Wide, Wide]:
    u, s, v = np.linalg.svd(change, full_matrices=False)
    return v, u * s


def _fitted(a: Wide, b: Wide, rank: int) -> tuple[Wide, Wide]:
    """Return the nearest pair of a rank: padded with zeros, which is exact, or cut by SVD."""
    own = a.shape[0]
    if own <= rank:
        return np.pad(a, ((0, rank - own), (0, 0))), np.pad(b, ((0, 0), (0, rank - own)))
    q_out, r_out = np.linalg.qr(b)
    q_in, r_in = np.linalg.qr(a.T)
    u, s, v = np.linalg.svd(r_out @ r_in.T, full_matrices=False)
    root = np.sqrt(s[:rank])
    cut = (root[:, None] * v[:rank]) @ q_in.T, (q_out @ u[:, :rank]) * root
    short = rank - cut[0].shape[0]  # a layer may be narrower than the rank
    return np.pad(cut[0], ((0, short), (0, 0))), np.pad(cut[1], ((0, 0), (0, short)))


def _default_rank(parts: Sequence[Factors], wanted: Factors, how: str) -> int:
    if how == CAT:
        needed = max(a.shape[0] for a, _ in wanted.values())
        return min(_servable(needed), MOST_RANK)
    return _servable(max(a.shape[0] for part in parts for a, _ in part.values()))


def _servable(rank: int) -> int:
    return next((known for known in SERVABLE_RANKS if known >= rank), SERVABLE_RANKS[-1])


def _require_same_base(parts: Sequence[Factors]) -> None:
    shapes: dict[str, tuple[int, int]] = {}
    for part in parts:
        for name, (a, b) in part.items():
            shape = (b.shape[0], a.shape[1])
            if shapes.setdefault(name, shape) != shape:
                raise BadInput(
                    f"layer {name}", shape, f"{shapes[name]}, as in the others", "Take one base."
                )


def _require_something(parts: Sequence[Factors], weights: Sequence[float], wanted: Factors) -> None:
    total = sum(_squared(a, b) for a, b in wanted.values()) ** 0.5
    own = sum(
        abs(w) * sum(_squared(a, b) for a, b in part.values()) ** 0.5
        for part, w in zip(parts, weights, strict=True)
    )
    if not total > LEAST_CHANGE * own:
        raise BadInput(
            "weights", list(weights), "a sum that changes something", "These cancel each other."
        )
