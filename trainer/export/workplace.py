"""Where a version is made out of another: an empty folder of the run's own, gone when it ends."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from foundation.errors import FlywheelError
from foundation.settings import get_settings
from trainer.base import is_folder
from trainer.fit import quiet_libraries
from trainer.guards import is_disk_full

_ROOM: Final = 3
"""Times the size of the model: a merge in 32 bits, what is written, its copy in the store."""


class NoRoom(FlywheelError):
    """The disk is full, or would be; nothing is left of what was begun."""

    def __init__(self, root: Path, needed: int | None = None) -> None:
        free = shutil.disk_usage(root).free
        expected = f", expected {needed / 2**20:,.0f} MiB" if needed else ""
        super().__init__(
            f"disk of {root}: {free / 2**20:,.0f} MiB free{expected}. Make room, or set "
            "FLYWHEEL_HOME to a larger disk, then retry the run."
        )


@contextmanager
def workplace(kind: str, run_id: UUID, base_model: str) -> Iterator[Path]:
    """Yield an empty folder of a run, and remove it however the block ends.

    What a killed worker left of the same run is removed first, since the run begins anew.

    Args:
        kind: of work: folders of one kind lie together.
        run_id: of the run.
        base_model: folder or hub name; of a folder the room that it will take is looked for.

    Raises:
        NoRoom: there is less room than it will take, or there was none in the end.
    """
    root = get_settings().home.absolute() / "work" / kind
    work = root / str(run_id)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        if is_folder(base_model):
            _require_room(root, Path(base_model))
        with quiet_libraries():
            yield work
    except Exception as error:
        if is_disk_full(error):
            raise NoRoom(root) from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_room(root: Path, base: Path) -> None:
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    if shutil.disk_usage(root).free < _ROOM * weights:
        raise NoRoom(root, _ROOM * weights)
