"""How far an unfinished import has come, kept in a small file so that the next start goes on there.

The mark is removed when the file is finished: importing it again then reads all of it, and what is
stored answers as a duplicate. A mark that is lost or behind costs time, never a record.
"""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from collector.importers.source import Source

HEAD_BYTES = 64 * 1024


class Mark:
    """The last place of one file of which all before it is settled.

    Args:
        folder: where marks are kept.
        source: the file; its path, size, change time and first bytes tell it from others.
        told: what else makes it another import: format, role, project, where it goes to.
    """

    def __init__(self, folder: Path, source: Source, told: Sequence[str]) -> None:
        self._path = folder / f"{_key(source, told)}.json"

    def read(self) -> int:
        """Return the last settled place; 0 when there is none."""
        try:
            place = json.loads(self._path.read_text(encoding="utf-8"))["place"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return place if isinstance(place, int) and place > 0 else 0

    def move(self, place: int) -> None:
        """Remember that everything up to `place` is settled."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"place": place}), encoding="utf-8")
        fresh.replace(self._path)

    def remove(self) -> None:
        """Forget it: the file is finished."""
        self._path.unlink(missing_ok=True)


def _key(source: Source, told: Sequence[str]) -> str:
    state = source.path.stat()
    mapping = source.mapping.read_bytes() if source.mapping else b""
    with open(source.path, "rb") as file:
        head = sha256(file.read(HEAD_BYTES) + mapping).hexdigest()
    parts = [str(source.path.absolute()), str(state.st_size), str(state.st_mtime_ns), head, *told]
    return sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
