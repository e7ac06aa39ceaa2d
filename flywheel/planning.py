"""What a training would take, told before anybody orders it."""

from typing import Any

from sqlmodel import Session

from curation.tables import TRAIN, Dataset
from trainer.estimate import FitsThresholds, fits, fits_inputs, shape_of
from trainer.foretell import foretell
from trainer.hardware import probe
from trainer.recipe import Recipe
from trainer.rows import rows_of


def what_it_takes(
    session: Session, recipe: Recipe, base_model: str, dataset: Dataset | None
) -> dict[str, Any]:
    """Return the estimate of a training on this machine, and whether it fits; nothing is stored."""
    hardware = probe()
    rows = rows_of(session, dataset, TRAIN)
    foretold = foretell(session, recipe, base_model, rows, hardware)
    inputs = fits_inputs(recipe, shape_of(base_model), rows, hardware, foretold)
    ruling = fits(vars(inputs), vars(FitsThresholds()))
    return {
        **foretold.as_json(),
        "device": hardware.device,
        "verdict": ruling.outcome,
        "reasons": " ".join(ruling.reasons),
    }
