"""A small classifier of which model suits which task, learned from outcomes; pure.

One logistic regression per model says how likely it is to succeed at a task of these features; the
likeliest answers. Only outcomes of experiments teach it, where chance chose the model: elsewhere a
model that was given the easy tasks would look like the better one. Whether the choice is worth
anything is judged on outcomes held out, by weighting each with the inverse of the chance that its
model was asked (self-normalised, Swaminathan & Joachims 2015), with a bootstrap interval.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from router.specialist.classifier import CATEGORIES, Fit, row_of
from router.specialist.features import TaskFeatures

Floats = NDArray[np.float64]

LEAST_OF_A_MODEL = 30
"""Outcomes to learn from that a model needs before tasks are sent to it."""
HELD_OUT = 0.4
"""Share of the outcomes that judge and do not teach."""
RESAMPLES = 2_000


@dataclass(frozen=True)
class Outcome:
    """How one task of an experiment ended.

    Attributes:
        task: its unit, by which it is held out or not.
        features: what was known before.
        model: name of the version that was asked, by chance.
        success: whether it succeeded.
    """

    task: str
    features: TaskFeatures
    model: str
    success: bool


def held_out(task: str) -> bool:
    """Return whether a task judges and does not teach: by its hash, so always the same way."""
    return int.from_bytes(hashlib.sha256(task.encode()).digest()[:4]) < HELD_OUT * 2**32


def fit(outcomes: Sequence[Outcome], default: str) -> Fit | None:
    """Learn from the outcomes that are not held out.

    Args:
        outcomes: of experiments, where chance chose the model.
        default: the model that serves now.

    Returns:
        None if fewer than two models have `LEAST_OF_A_MODEL` outcomes of both kinds.
    """
    taught = [one for one in outcomes if not held_out(one.task)]
    columns = _columns(taught)
    weights: dict[str, tuple[float, ...]] = {}
    for model, n in sorted(Counter(one.model for one in taught).items()):
        of_it = [one for one in taught if one.model == model]
        ends = {one.success for one in of_it}
        if n >= LEAST_OF_A_MODEL and len(ends) == 2:
            rows = np.array([row_of(one.features, columns)[:-1] for one in of_it])
            found = LogisticRegression(max_iter=1000).fit(rows, [one.success for one in of_it])
            weights[model] = (*map(float, found.coef_[0]), float(found.intercept_[0]))
    return Fit(columns, weights, default) if len(weights) > 1 and default in weights else None


def _columns(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    named = {
        f"{name}={value}"
        for one in outcomes
        for name in CATEGORIES
        if (value := getattr(one.features, name)) is not None
    }
    return (*sorted(named), "length")


@dataclass(frozen=True)
class Worth:
    """What choosing is worth on outcomes held out, against always asking the default; rates 0-1.

    Attributes:
        n: outcomes held out.
        n_chosen: of them, those whose model the classifier would have asked.
        chosen: estimated success of the choice.
        default: estimated success of the default.
        low, high: 95 % interval of the difference.
    """

    n: int
    n_chosen: int
    chosen: float
    default: float
    low: float
    high: float


def worth(fitted: Fit, outcomes: Sequence[Outcome], seed: int = 0) -> Worth | None:
    """Judge a fit on the outcomes held out; None if one side has none."""
    judged = [one for one in outcomes if held_out(one.task) and one.model in fitted.weights]
    if not judged:
        return None
    share = Counter(one.model for one in judged)
    weight = np.array([len(judged) / share[one.model] for one in judged])
    success = np.array([one.success for one in judged], dtype=float)
    picked = np.array([fitted.choose(one.features) == one.model for one in judged])
    usual = np.array([one.model == fitted.default for one in judged])
    if not picked.any() or not usual.any():
        return None
    draw = np.random.default_rng(seed).integers(0, len(judged), (RESAMPLES, len(judged)))
    gains = _value(picked, weight, success, draw) - _value(usual, weight, success, draw)
    low, high = np.nanquantile(gains, [0.025, 0.975])
    everyone = np.arange(len(judged))[None]
    return Worth(
        n=len(judged),
        n_chosen=int(picked.sum()),
        chosen=float(_value(picked, weight, success, everyone)[0]),
        default=float(_value(usual, weight, success, everyone)[0]),
        low=float(low),
        high=float(high),
    )


def _value(of: NDArray[np.bool_], weight: Floats, success: Floats, draw: Any) -> Floats:
    """Return the weighted success of the rows `of` in each resample, [resamples]."""
    part = (weight * of)[draw]
    total = part.sum(axis=1)
    value: Floats = (part * success[draw]).sum(axis=1) / np.where(total > 0, total, np.nan)
    return value
