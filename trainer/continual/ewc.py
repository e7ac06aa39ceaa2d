"""Elastic Weight Consolidation (Kirkpatrick et al., 2017) on the adapter's matrices.

The penalty is lambda / 2 x sum of F (weight - old weight)^2. F is the empirical Fisher diagonal:
the mean, over old rows, of the squared gradient of the log-likelihood of a whole answer. Fishers of
a line of versions add up, all of them anchored at the last one (online EWC, Schwarz et al. 2018).

One lambda does not carry from base to base: F scales with the answers' length, with the model and
with how well it fits. Lambda 0 therefore means calibrated: the lambda at which the penalty equals
the new task's first loss when every weight has drifted as far as plain training lets it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel

from foundation.errors import BadInput
from trainer.arguments import precision_of
from trainer.base import load_model
from trainer.continual.old_model import alone, answers, evaluating
from trainer.continual.pull import Pull
from trainer.continual.replay import Ids, old_rows, some_of
from trainer.continual.state import (
    Tensors,
    adapter_parameters,
    adapter_weights,
    load_json,
    load_tensors,
    save_json,
    save_tensors,
    state_file,
)
from trainer.data import IGNORED
from trainer.lesson import Lesson

FISHER, CALIBRATION = "fisher.safetensors", "ewc.json"
FISHER_ROWS: Final = 200
"""Old rows that the Fisher is measured on, drawn uniformly; fewer, if there are fewer."""


def pull(lesson: Lesson, model: Any) -> Pull:
    """Return the penalty of a training, its lambda calibrated if the recipe says 0."""
    assert lesson.earlier is not None
    anchors = adapter_weights(lesson.earlier.folder)
    fisher = fisher_before(lesson, model)
    strength = lesson.recipe.continual.ewc_lambda or _calibrated(lesson, model, fisher)
    return Pull(anchors, fisher, strength / 2)


def fisher_before(lesson: Lesson, model: Any) -> Tensors:
    """Return the Fisher of the earlier version: its own, or measured now on the earlier rows.

    Raises:
        BadInput: it has none, and there are no rows to measure it on.
    """
    assert lesson.earlier is not None
    file = _fisher_file(lesson)
    if not file.is_file():
        save_tensors(fisher_diagonal(model, old_rows(lesson, FISHER_ROWS)), file)
    return load_tensors(file)


def _fisher_file(lesson: Lesson) -> Path:
    """Return the Fisher of the earlier version; its own file, or the one of this training."""
    assert lesson.earlier is not None
    stored = state_file(lesson.earlier.folder, FISHER)
    return stored if stored.is_file() else state_file(lesson.folder, FISHER)


def fisher_diagonal(model: Any, rows: Sequence[Ids]) -> Tensors:
    """Return the mean over rows of the squared gradient of the answer's log-likelihood.

    Args:
        model: with its adapter, at the weights that the rows were learned with.
        rows: token ids and labels, at least one row.
    """
    parameters = adapter_parameters(model)
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    with evaluating(model):
        for ids, labels in rows:
            model.zero_grad()
            torch.autograd.backward(_log_likelihood(model, ids, labels))
            for name, parameter in parameters.items():
                assert parameter.grad is not None
                sums[name] += parameter.grad.float().square()
    model.zero_grad()
    return {name: total / len(rows) for name, total in sums.items()}


def lambda_at(fisher: Tensors, drift: Tensors, loss: float) -> float:
    """Return the lambda at which a drift costs as much as the loss.

    Raises:
        BadInput: a Fisher of zeros, which holds nothing.
    """
    cost = sum(float((fisher[name] * drift[name].square()).sum()) for name in fisher) / 2
    if cost <= 0:
        raise BadInput(
            "Fisher of the earlier version",
            cost,
            "a gradient on some old row",
            "Set recipe.continual.ewc_lambda, or choose replay.",
        )
    return loss / cost


def keep(lesson: Lesson, target: Path) -> dict[str, Any]:
    """Store the Fisher of the kept version, that of its line included; return what to note."""
    base = load_model(lesson.base_model, lesson.recipe.held_as, precision_of(lesson.recipe))
    if torch.cuda.is_available() and lesson.recipe.held_as == "none":
        base = base.to("cuda")
    model = PeftModel.from_pretrained(base, str(target), is_trainable=True)
    rows = some_of(lesson, lesson.rows, FISHER_ROWS, "training rows")
    fisher = fisher_diagonal(model, rows)
    noted: dict[str, Any] = {}
    if lesson.earlier is not None:
        before = load_tensors(_fisher_file(lesson))
        fisher = {name: value + before[name].to(value) for name, value in fisher.items()}
        calibration = state_file(lesson.folder, CALIBRATION)
        if calibration.is_file():
            noted = load_json(calibration)
    save_tensors(fisher, state_file(target, FISHER))
    return noted


def _calibrated(lesson: Lesson, model: Any, fisher: Tensors) -> float:
    """Return the lambda for this base, adapter and task, and note how it came about."""
    file = state_file(lesson.folder, CALIBRATION)
    if not file.is_file():
        rows = some_of(lesson, lesson.rows, FISHER_ROWS, "training rows")
        loss = mean_loss(model, rows)
        moved = expected_drift(lesson)
        drift = {name: torch.full_like(value, moved) for name, value in fisher.items()}
        strength = lambda_at(fisher, drift, loss)
        noted = {"ewc_lambda": strength, "ewc_first_loss": loss, "ewc_drift": moved}
        lesson.say("INFO", f"EWC's lambda calibrated to {strength:.4g} on this base")
        save_json(noted, file)
    return float(load_json(file)["ewc_lambda"])


def expected_drift(lesson: Lesson) -> float:
    """Return how far a weight moves under plain training: AdamW's rate x the root of its steps."""
    recipe = lesson.recipe
    rows = len(lesson.rows)
    steps = recipe.max_steps or max(1, rows / recipe.effective_batch_size * recipe.epochs)
    return float(recipe.lr * steps**0.5)


def _log_likelihood(model: Any, ids: list[int], labels: list[int]) -> torch.Tensor:
    logits = model(**alone(model, ids)).logits
    learned, told = answers(logits, torch.tensor([labels], device=logits.device))
    return -torch.nn.functional.cross_entropy(learned.float(), told, reduction="sum")


def mean_loss(model: Any, rows: Sequence[Ids]) -> float:
    """Return the loss per learned token."""
    with torch.no_grad(), evaluating(model):
        total = sum(-float(_log_likelihood(model, ids, labels)) for ids, labels in rows)
    return total / sum(label != IGNORED for _, labels in rows for label in labels)
