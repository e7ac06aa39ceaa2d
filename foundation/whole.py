"""Files that are there whole or not at all, though several processes make the same one at once."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ENDING: Final = ".unfinished"
_LEFT_S: Final = 86_400.0
"""Age after which an unfinished file is one that a killed process left, in seconds."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where to write; what is there at the end takes the place of `path` at once.

    After an error nothing is left of it. What killed processes left long ago is swept up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    unfinished = unfinished_beside(path)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_beside(path: Path) -> Path:
    """Return a hidden name beside `path` that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_ENDING}")


def _sweep(folder: Path) -> None:
    for left in folder.glob(f".*{_ENDING}"):
        try:
            if left.is_file() and time.time() - left.stat().st_mtime > _LEFT_S:
                left.unlink()
        except FileNotFoundError:  # another process was faster
            continue
