"""The recipe of a role: a file of its own, `ROLE.yaml` in FLYWHEEL_RECIPES, or the default."""

from pathlib import Path

from foundation.settings import get_settings
from trainer.recipe import PRESETS, Recipe


def recipe_of(role: str, file: Path | None = None) -> Recipe:
    """Return the recipe of a file that was named, or else of the role.

    Raises:
        BadInput: the file is not a mapping of recipe fields.
    """
    folder = get_settings().recipes
    own = folder / f"{role}.yaml" if folder else None
    if file is None and own is not None and own.is_file():
        file = own
    return Recipe.from_yaml(file) if file else PRESETS["default"]
