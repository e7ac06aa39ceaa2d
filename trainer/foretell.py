"""Before a training begins: estimate it by what earlier ones took, and refuse what cannot fit."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from curation.tables import TRAIN, Dataset
from foundation.decisions import decide
from foundation.errors import FlywheelError
from foundation.settings import get_settings
from foundation.tables import DONE, Decision, Run
from trainer.estimate import (
    FITS_RULE,
    REFUSED,
    Estimate,
    FitsThresholds,
    Past,
    error_of,
    estimate,
    fits,
    fits_inputs,
    shape_of,
)
from trainer.hardware import Hardware, probe
from trainer.recipe import Recipe
from trainer.rewards import graded_tasks
from trainer.rows import rows_of
from trainer.tables import TrainingRun


class DoesNotFit(FlywheelError):
    """The training would take more memory than the machine has."""

    http_status = 422

    def __init__(self, decision: Decision) -> None:
        self.decision_id = decision.id
        super().__init__(f"training: {' '.join(decision.reasons)} (decision {decision.id})")


def foretell(
    session: Session,
    recipe: Recipe,
    base_model: str,
    rows: Sequence[Mapping[str, Any]],
    hardware: Hardware | None = None,
) -> Estimate:
    """Return what a training of these rows will take on this machine, or on another."""
    hardware = hardware or probe()
    return estimate(
        recipe,
        shape_of(base_model),
        rows,
        hardware,
        past_of(session, recipe, base_model, hardware.device),
        get_settings().machine_usd_per_hour,
    )


def require_fit(
    session: Session, training: TrainingRun, recipe: Recipe, rows: Sequence[Mapping[str, Any]]
) -> Decision:
    """Estimate a training, write the estimate into its row, and decide whether it fits.

    The caller commits before it raises what a refusal is, so that the decision stays.
    """
    hardware = probe()
    foretold = foretell(session, recipe, training.base_model, rows, hardware)
    training.estimate = {**foretold.as_json(), "hardware": hardware.as_json()}
    session.add(training)
    shape = shape_of(training.base_model)
    return decide(
        session,
        FITS_RULE,
        fits_inputs(recipe, shape, rows, hardware, foretold),
        FitsThresholds(),
        role=training.role,
        subject_id=training.id,
    )


def what_it_takes(
    session: Session,
    recipe: Recipe,
    base_model: str,
    dataset: Dataset | None,
    suite: str | None = None,
) -> dict[str, Any]:
    """Return the estimate of a training on this machine, and whether it fits; nothing is stored."""
    hardware = probe()
    rows: Sequence[Mapping[str, Any]] = rows_of(session, dataset, TRAIN, recipe)
    if suite is not None:
        with graded_tasks(suite) as tasks:
            rows = tasks.rows
    foretold = foretell(session, recipe, base_model, rows, hardware)
    inputs = fits_inputs(recipe, shape_of(base_model), rows, hardware, foretold)
    ruling = fits(vars(inputs), vars(FitsThresholds()))
    return {
        **foretold.as_json(),
        "device": hardware.device,
        "verdict": ruling.outcome,
        "reasons": " ".join(ruling.reasons),
    }


def raise_if_refused(decision: Decision) -> None:
    """Raise DoesNotFit for a training that was refused."""
    if decision.outcome == REFUSED:
        raise DoesNotFit(decision)


def compared(
    foretold: Mapping[str, Any], metrics: Mapping[str, Any], seconds: float, memory_mb: float | None
) -> dict[str, Any]:
    """Return an estimate with what was really taken, and how wrong it was."""
    tokens = metrics.get("tokens")
    memory = None if memory_mb is None else memory_mb * 2**20
    taken = {"tokens": tokens, "seconds": seconds, "memory_bytes": memory}
    if metrics.get("stopped_early"):  # what it read tells of that share of what was foretold
        taken["share"] = metrics["steps"] / metrics["planned_steps"]
    error = error_of(foretold, tokens=tokens, seconds=seconds, memory_bytes=memory)
    return {**foretold, "taken": taken, "error": error}


def past_of(session: Session, recipe: Recipe, base_model: str, device: str) -> Past:
    """Return what the newest training of the method on this base and device took."""
    query = (
        select(TrainingRun.estimate)
        .join(Run, col(Run.id) == col(TrainingRun.run_id))
        .where(
            TrainingRun.base_model == base_model,
            TrainingRun.method == recipe.method,
            Run.status == DONE,
            col(TrainingRun.manifest)["device"].astext == device,
            col(TrainingRun.manifest)["processes"].astext.is_(None),  # several are of another pace
        )
        .order_by(col(TrainingRun.id).desc())
        .limit(1)
    )
    found = session.exec(query).first()
    return past_from(found or {})


def past_from(said: Mapping[str, Any]) -> Past:
    """Return what an ended training's estimate tells about the next one."""
    taken = said.get("taken") or {}
    tokens, seconds = taken.get("tokens"), taken.get("seconds")
    foretold = (said.get("tokens") or 0) * taken.get("share", 1.0)
    per_character = None
    if tokens and foretold and said.get("characters") and said.get("tokens_per_character"):
        per_character = said["tokens_per_character"] * tokens / foretold
    return Past(
        tokens_per_character=per_character,
        tokens_per_s=tokens / seconds if tokens and seconds else None,
        memory_ratio=_memory_ratio(said),
    )


def _memory_ratio(said: Mapping[str, Any]) -> float | None:
    """Return peak memory over the plain formula's, which an earlier correction had changed."""
    ratio = (said.get("error") or {}).get("memory")
    return ratio * said.get("memory_ratio", 1.0) if ratio else None
