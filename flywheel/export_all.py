"""Everything that is kept, in files that any program reads: rows as JSON lines, and artifacts.

One snapshot is read through cursors of the server, so that memory does not grow with the tables. An
export that was cut off goes on with the tables that are not finished; then its manifest tells of
more than one moment. What opens doors stays behind: sessions, codes, and hashes of keys and
passwords.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, text

from flywheel.backup import copy_artifacts, file_hash, snapshot
from flywheel.checksums import tables
from flywheel.schema import found_revision
from foundation import artifacts
from foundation.errors import NotFound
from foundation.tables import now

MANIFEST, ROWS, ARTIFACTS = "manifest.json", "rows", "artifacts"
ROWS_PER_FILE: Final = 100_000
_AT_ONCE: Final = 500
LEFT_OUT: Final = frozenset({"admin_session", "admin_sign_in_code", "admin_sign_in_attempt"})
"""Tables of what opens doors."""
SECRET_COLUMNS: Final = frozenset(
    {"key_hash", "previous_hash", "password_hash", "token_hash", "code_hash"}
)

Progress = Callable[[str], None]


def export_all(folder: Path, progress: Progress = lambda name: None) -> dict[str, Any]:
    """Write everything below `folder` and return its manifest; goes on where it was cut off.

    An artifact that is damaged in the store is left out, and named in `artifacts_damaged` of the
    manifest.

    Args:
        folder: new, or of an export that was cut off.
        progress: is told the name of each table, and `artifacts`, before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    manifest = _begun(folder)
    with snapshot() as (connection, _):
        moment = now().isoformat()
        for name in tables(connection):
            if name in LEFT_OUT or name in manifest["tables"]:
                continue
            progress(name)
            manifest["tables"][name] = {
                "as_of": moment,
                **_write_table(connection, name, folder / ROWS / name),
            }
            _save(folder, manifest)
    progress(ARTIFACTS)
    names, _, damaged = copy_artifacts(folder / ARTIFACTS)
    manifest |= {"artifacts": names, "artifacts_damaged": damaged}
    manifest["finished_at"] = now().isoformat()
    _save(folder, manifest)
    return manifest


def damage(folder: Path) -> list[str]:
    """Return what of an export is missing or not as it was written; empty when it is sound.

    Raises:
        NotFound: the folder is no export.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound("export", folder, f"a folder with {MANIFEST}", "Name what export-all wrote.")
    manifest = json.loads(path.read_text())
    files = [
        (folder / ROWS / name / file["name"], file["sha256"])
        for name, table in manifest["tables"].items()
        for file in table["files"]
    ]
    wrong = [str(path) for path, digest in files if not path.is_file() or file_hash(path) != digest]
    for name in manifest.get("artifacts", []):
        place = folder / ARTIFACTS / name
        if not place.is_dir() or artifacts.hash_tree(place)[0] != name:
            wrong.append(str(place))
    if "finished_at" not in manifest:
        wrong.append(f"{folder / MANIFEST}: the export was cut off; the same command goes on")
    return wrong


def _begun(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if path.is_file():
        begun: dict[str, Any] = json.loads(path.read_text())
        begun.pop("finished_at", None)
        return begun
    return {
        "format": 1,
        "revision": found_revision(),
        "left_out": {"tables": sorted(LEFT_OUT), "columns": sorted(SECRET_COLUMNS)},
        "tables": {},
    }


def _save(folder: Path, manifest: dict[str, Any]) -> None:
    unfinished = folder / f"{MANIFEST}.unfinished"
    unfinished.write_text(json.dumps(manifest, indent=1))
    unfinished.rename(folder / MANIFEST)


def _write_table(connection: Connection, name: str, place: Path) -> dict[str, Any]:
    place.mkdir(parents=True, exist_ok=True)
    columns = list(connection.execute(_COLUMNS, {"table": name}).scalars())
    said = ", ".join(f'"{column}"' for column in columns if column not in SECRET_COLUMNS)
    rows = connection.execute(
        text(f'SELECT row_to_json(one)::text FROM (SELECT {said} FROM "{name}") AS one'),
        execution_options={"yield_per": _AT_ONCE},
    ).scalars()
    files, n_rows = [], 0
    for number, some in enumerate(_in_files(iter(rows))):
        file = place / f"{number:05d}.jsonl.gz"
        n_written = _write_lines(file, some)
        n_rows += n_written
        files.append({"name": file.name, "rows": n_written, "sha256": file_hash(file)})
    return {"rows": n_rows, "files": files}


def _in_files(rows: Iterator[str]) -> Iterator[Iterator[str]]:
    """Yield the rows of one file after the other; a table without rows has no file."""
    for first in rows:
        yield _some(first, rows)


def _some(first: str, rows: Iterator[str]) -> Iterator[str]:
    yield first
    yield from islice(rows, ROWS_PER_FILE - 1)


def _write_lines(file: Path, rows: Iterator[str]) -> int:
    n_rows = 0
    # Without time and name in its head the same rows are the same file.
    with file.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for row in rows:
            packed.write(row.encode() + b"\n")
            n_rows += 1
    return n_rows


_COLUMNS = text(
    """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(:table)) AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
    """
)
