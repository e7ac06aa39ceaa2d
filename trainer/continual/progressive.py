"""Progressive columns: earlier ranks are frozen, new ranks learn beside them.

After Rusu et al. (2016). The lateral connections are there without weights of their own: a new
column reads the hidden states to which the frozen ones have added theirs, in every layer but the
first; and within a layer a map from the old column's features A_old x into the new one would be
U A_old x, which A_new x can be already. What is kept is exact: the old ranks' bits are asserted.
What is served is old and new together, for new and old tasks alike, so old answers may still change
where the new ranks answer to old questions.
"""

from pathlib import Path

from trainer.continual.ranks import (
    Ranks,
    make_room,
    n_used,
    require_unchanged,
    trained_ranks,
)
from trainer.continual.state import (
    adapter_config,
    adapter_weights,
    load_json,
    save_json,
    start_folder,
    state_file,
)
from trainer.lesson import Lesson

COLUMNS = "columns.json"


def grow(lesson: Lesson) -> Path:
    """Write and return the adapter that the training begins with: old ranks and fresh ones."""
    assert lesson.earlier is not None
    weights = adapter_weights(lesson.earlier.folder)
    folder = start_folder(lesson)
    make_room(
        weights,
        adapter_config(lesson.earlier.folder),
        n_used(weights),
        lesson.recipe.r,
        lesson.recipe.seed,
        folder,
    )
    return folder


def new_ranks(lesson: Lesson) -> Ranks:
    """Return the ranks that the training learns."""
    assert lesson.earlier is not None
    used = n_used(adapter_weights(lesson.earlier.folder))
    return Ranks(used, used + lesson.recipe.r)


def keep(lesson: Lesson, target: Path) -> None:
    """Check what was frozen, and write which version made which ranks."""
    assert lesson.earlier is not None
    new = new_ranks(lesson)
    require_unchanged(target, start_folder(lesson), Ranks(0, new.first))
    before = state_file(lesson.earlier.folder, COLUMNS)
    columns = load_json(before)["columns"] if before.is_file() else [[0, new.first]]
    save_json(
        {"columns": [*columns, [new.first, new.end]], "rank": trained_ranks(target)},
        state_file(target, COLUMNS),
    )
