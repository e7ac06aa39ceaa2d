"""Front desk: a role's log becomes an immutable dataset version."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlmodel import Session

from curation.recipe import CurationRecipe
from curation.tables import Dataset

Progress = Callable[..., Any]
"""Called as `progress(done, total, unit, **measures)`; `RunHandle.progress` is one."""


def build_dataset(
    session: Session,
    role: str,
    recipe: CurationRecipe | None = None,
    *,
    run_id: UUID | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the newest dataset version of `role`; being written."""
    raise NotImplementedError
