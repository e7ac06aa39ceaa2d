"""The file of rejected lines: place, reason and scrubbed text as JSONL, made when there is one."""

import json
import os
from pathlib import Path
from typing import IO, Any

from collector.admission import Refusal, scrubbed
from foundation.errors import BadInput

SUFFIX = ".rejects.jsonl"
SHOWN_CHARS = 20_000
"""Of a rejected line; the whole of it stands in the file itself."""


class Rejects:
    """Rejected lines of one import.

    Args:
        path: of the file; None to write none.
        goes_on: adds to what an interrupted import wrote there.

    Raises:
        BadInput: a file cannot be written there; better said before than after the import.
    """

    def __init__(self, path: Path | None, goes_on: bool = False) -> None:
        if path is not None:
            _require_writable(path)
        self._path, self.goes_on = path, goes_on
        self._file: IO[str] | None = None

    @property
    def written_to(self) -> str | None:
        """Name of the file, if anything was rejected."""
        return None if self._file is None else str(self._path)

    def add(self, source: Path, line: int, reason: str, text: str) -> str:
        """Write one line, and return its reason as it is written.

        What cannot be scrubbed is left out: the text, and of the reason all but its code.
        """
        try:
            said = scrubbed({"reason": reason, "text": text[:SHOWN_CHARS]})
        except Refusal as refusal:
            said = {"reason": f"{reason.partition(':')[0]}: {refusal}", "text": ""}
        if self._path is not None:
            self._write(self._path, source, line, said)
        return str(said["reason"])

    def _write(self, path: Path, source: Path, line: int, said: dict[str, Any]) -> None:
        if self._file is None:
            self._file = open(path, "a" if self.goes_on else "w", encoding="utf-8")
        row = {"file": source.name, "line": line, "reason": said["reason"], "text": said["text"]}
        encoded = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        self._file.write(encoded.decode() + "\n")

    def flush(self) -> None:
        """Hand what was written to the operating system: no mark may be ahead of it."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


def _require_writable(path: Path) -> None:
    place = path if path.exists() else path.absolute().parent
    if path.is_dir() or not place.exists() or not os.access(place, os.W_OK):
        raise BadInput(
            "file for rejected lines",
            str(path),
            "a file in a folder that exists and can be written",
            "Make the folder, or name another file: --rejects FILE.",
        )
