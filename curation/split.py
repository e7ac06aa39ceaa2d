"""Which split an example falls in: drawn from the hash of its group's key, so growth moves nothing.

Everything that must not be torn apart carries one key: the caller's `task_key` where there is one,
else a key that episodes and near-equal prompts share (`curation.groups`).
"""

import hashlib
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from curation.recipe import CurationRecipe
from curation.tables import TEST, TRAIN, VALIDATION

TASK_PREFIX: Final = "task:"
_STRICTNESS: Final = {TRAIN: 0, VALIDATION: 1, TEST: 2}


def task_split_key(task_key: str) -> str:
    """Return the split key of a task that the caller named."""
    return TASK_PREFIX + task_key


def group_split_key(project: str, example_id: UUID) -> str:
    """Return the split key of a new group, by the project and the example that it began with."""
    return f"group:{project}/{example_id}"


def split_of(split_key: str, recipe: CurationRecipe) -> str:
    """Return train, validation or test for a key, by its hash and the recipe's seed and shares."""
    digest = hashlib.sha256(f"{recipe.seed}:{split_key}".encode()).digest()
    position = int.from_bytes(digest[:8]) / 2**64
    if position < recipe.train_share:
        return TRAIN
    return VALIDATION if position < recipe.train_share + recipe.validation_share else TEST


def strictest(split_keys: Iterable[str], recipe: CurationRecipe) -> str:
    """Return the key that wins when groups turn out to be one: test over validation over train.

    What was tested on must never be trained on later. Of equally strict keys a task's wins, since
    new examples of that task bring it again; else the least in the order of strings.
    """
    return max(
        sorted(split_keys),
        key=lambda k: (_STRICTNESS[split_of(k, recipe)], k.startswith(TASK_PREFIX)),
    )
