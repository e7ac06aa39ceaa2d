"""The job `curation.build`: one dataset version of one role."""

from typing import Any

from curation.build import build_dataset
from curation.recipe import CurationRecipe
from foundation.database import session_scope
from foundation.runs import RunHandle, job


@job("curation.build")
def build(run: RunHandle, *, role: str, recipe: dict[str, Any] | None = None) -> dict[str, Any]:
    """Build the dataset of `role`; started again from the top it finds nothing left to do."""
    with session_scope() as session:
        dataset = build_dataset(
            session,
            role,
            CurationRecipe.from_json(recipe),
            run_id=run.id,
            progress=run.progress,
        )
    return {
        "dataset_id": str(dataset.id),
        "number": dataset.number,
        "n_train": dataset.n_train,
        "n_validation": dataset.n_validation,
        "n_test": dataset.n_test,
    }
