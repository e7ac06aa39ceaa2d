"""How far an unfinished import has come, kept in a small file so that the next start goes on there.

Marks are removed when the import is finished: importing the files again then reads all of them, and
what is stored answers as a duplicate. A mark that is lost or behind costs time, never a record.
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

    def read(self) -> tuple[int, bool]:
        """Return the last settled place and whether the file is finished; (0, False) for none."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return max(0, int(found["place"])), found["finished"] is True
        except (OSError, ValueError, KeyError, TypeError):
            return 0, False

    def move(self, place: int, is_finished: bool = False) -> None:
        """Remember that everything up to `place` is settled."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"place": place, "finished": is_finished}), encoding="utf-8")
        fresh.replace(self._path)

    def remove(self) -> None:
        """Forget it."""
        self._path.unlink(missing_ok=True)


def _key(source: Source, told: Sequence[str]) -> str:
    state = source.path.stat()
    mapping = source.mapping.read_bytes() if source.mapping and source.mapping.is_file() else b""
    with open(source.path, "rb") as file:
        head = sha256(file.read(HEAD_BYTES) + mapping).hexdigest()
    parts = [str(source.path.absolute()), str(state.st_size), str(state.st_mtime_ns), head, *told]
    return sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
