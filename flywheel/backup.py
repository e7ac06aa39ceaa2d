"""A backup: one snapshot of the database, the artifacts, and what waits in this home's spools.

A folder keeps any number of backups: each has a folder of its own (dump, spools, manifest), and
they share `artifacts/`, where what is there already is not copied again. The spools are copied
first, then the snapshot is taken: a record that is shipped between the two is in both, and its id
keeps it single. Artifacts come after it, since none is ever changed, so that nobody waits for their
copying. A backup is whole when its manifest is there, which is written last.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from flywheel.checksums import BROKER_TABLES, checksums
from flywheel.schema import found_revision
from foundation import artifacts
from foundation.artifact_sweep import stored
from foundation.database import database_url, get_engine, session_scope
from foundation.errors import ArtifactDamaged, BadInput, Conflict, FlywheelError, NotFound
from foundation.pg_tools import run_tool, tool, version_of
from foundation.redaction import redact
from foundation.settings import get_settings
from foundation.tables import DONE, FAILED, Run, now

KIND: Final = "flywheel.backup"
"""Kind of the run that each backup leaves behind: an alert asks how old the newest done one is."""
MANIFEST, DUMP, SPOOL, ARTIFACTS = "manifest.json", "database.dump", "spool", "artifacts"
FORMAT: Final = 1
LOCK: Final = ".lock"
_NAME: Final = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
"""How the folder of a backup is named."""


@dataclass(frozen=True)
class Backup:
    """A backup that is whole: its folder, and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts, which backups share."""
        return self.folder.parent / ARTIFACTS


def back_up(root: Path, keep: int | None = None) -> Backup:
    """Back everything up below `root` and return it; a run of kind `flywheel.backup` tells of it.

    An artifact that is damaged in the store is left out, and named in `artifacts_damaged` of the
    manifest: the rest is worth keeping.

    Args:
        root: a folder that is kept elsewhere than the database.
        keep: backups that stay, the newest, and the artifacts that they need; None: all.

    Raises:
        BadInput: less than one is to be kept.
        Conflict: another backup into this folder is under way.
        NotFound: no pg_dump that suits the server.
    """
    if keep is not None and keep < 1:
        raise BadInput("--keep", keep, "1 or more", "Leave it out to keep all.")
    started = now()
    try:
        with _alone(root):
            backup = _make(root, started)
            if keep is not None:
                prune(root, keep)
    except (FlywheelError, OSError, SQLAlchemyError) as error:
        with suppress(FlywheelError, SQLAlchemyError):  # the database itself may be what is away
            _tell(started, FAILED, error=redact(str(error)[:2000]))
        raise
    names = ("n_rows", "n_artifacts", "dump_bytes", "artifacts_damaged")
    totals = {name: backup.manifest[name] for name in names}
    _tell(started, DONE, result={"folder": str(backup.folder), **totals})
    return backup


def backups(root: Path) -> list[Backup]:
    """Return the whole backups below a folder, the newest first."""
    found = [
        Backup(path.parent, json.loads(path.read_text())) for path in root.glob(f"*/{MANIFEST}")
    ]
    return sorted(found, key=lambda one: str(one.manifest["made_at"]), reverse=True)


def newest(root: Path, name: str | None = None) -> Backup:
    """Return a backup by its folder's name, or the newest; raises NotFound."""
    found = [one for one in backups(root) if name in (None, one.folder.name)]
    if not found:
        expected = "a folder with a whole backup"
        raise NotFound("backup", str(root / (name or "")), expected, "Make one: flywheel backup")
    return found[0]


def damage(backup: Backup) -> list[str]:
    """Return what of a backup is missing or not as it was written; empty when it is sound."""
    found = []
    dump = backup.folder / DUMP
    if not dump.is_file() or file_hash(dump) != backup.manifest["dump_sha256"]:
        found.append(f"{DUMP}: missing, or not the file that was written")
    for name in backup.manifest["artifacts"]:
        folder = backup.artifacts / name
        if not folder.is_dir() or artifacts.hash_tree(folder)[0] != name:
            found.append(f"artifact {name}: missing, or its content has another hash")
    return found


def prune(root: Path, keep: int) -> None:
    """Remove all backups but the newest `keep`, and artifacts that none of those has.

    A folder that is named as a backup and has no manifest goes too: it was cut off. Nobody else may
    be backing up into `root` meanwhile.
    """
    kept, gone = backups(root)[:keep], backups(root)[keep:]
    for one in gone:
        (one.folder / MANIFEST).unlink()
        shutil.rmtree(one.folder)
    for folder in root.iterdir():
        if _NAME.fullmatch(folder.name) and folder.is_dir() and not (folder / MANIFEST).exists():
            shutil.rmtree(folder)
    needed = {name for one in kept for name in one.manifest["artifacts"]}
    for folder in (root / ARTIFACTS).glob("*"):
        if folder.name not in needed:
            shutil.rmtree(folder)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder of backups: two at once would remove each other's files."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "backup",
                str(root),
                "a folder that no other backup is being written into",
                "Wait until that one has ended, then give the command again.",
            ) from None
        yield


def _make(root: Path, started: datetime) -> Backup:
    folder = root.absolute() / f"{started:%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"
    folder.mkdir(mode=0o700)
    try:
        return Backup(folder, _fill(folder, started))
    except BaseException:  # an interruption too: half a backup only takes room
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _fill(folder: Path, started: datetime) -> dict[str, Any]:
    """Write all of a backup into its folder, the manifest last, and return that."""
    n_files = copy_spool(get_settings().home.absolute() / "spool", folder / SPOOL)
    with snapshot() as (connection, exported):
        major = connection.execute(text("SHOW server_version_num")).scalar_one()
        dumped_by = _dump(folder / DUMP, int(major) // 10_000, exported)
        sums = checksums(connection)
    names, missing, damaged = copy_artifacts(folder.parent / ARTIFACTS)
    manifest = {
        "format": FORMAT,
        "made_at": started.isoformat(),
        "revision": found_revision(),
        "server_major": int(major) // 10_000,
        "pg_dump_major": dumped_by,
        "dump_sha256": file_hash(folder / DUMP),
        "dump_bytes": (folder / DUMP).stat().st_size,
        "n_rows": sum(one["rows"] for one in sums.values()),
        "tables": sums,
        "n_artifacts": len(names),
        "artifacts": names,
        "artifacts_gone_meanwhile": missing,
        "artifacts_damaged": damaged,
        "spool_files": n_files,
    }
    unfinished = folder / f"{MANIFEST}.unfinished"
    unfinished.write_text(json.dumps(manifest, indent=1))
    unfinished.rename(folder / MANIFEST)
    return manifest


@contextmanager
def snapshot() -> Iterator[tuple[Connection, str]]:
    """Open a transaction that reads one moment, and name it for others to read the same one."""
    with get_engine().connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        # It is idle while pg_dump reads the same snapshot, for as long as that takes.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        exported = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        yield connection, str(exported)
        connection.rollback()


def _dump(file: Path, major: int, exported: str) -> int | None:
    program = tool("pg_dump", major)
    without = [f"--exclude-table-data={name}" for name in BROKER_TABLES]
    kept = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={exported}"]
    run_tool(program, database_url(), [*kept, *without, f"--file={file}"])
    os.chmod(file, 0o600)
    return version_of(program)


def copy_artifacts(target: Path) -> tuple[list[str], list[str], list[str]]:
    """Copy what is not there yet; return the names of all, of what left meanwhile, of damaged ones.

    Raises:
        ArtifactStoreUnavailable: the store does not answer.
        OSError: the copy cannot be written.
    """
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    names, missing, damaged = [], [], []
    for one in stored():
        name = one.uri.rsplit("/", 1)[-1]
        try:
            if not (target / name).exists():
                copy_artifact(one.uri, target / name)
        except (FlywheelError, OSError) as error:
            # One that leaves while it is copied fails in many ways: a file less, another hash.
            if not artifacts.exists(one.uri):
                missing.append(name)
            elif isinstance(error, (BadInput, ArtifactDamaged)):
                damaged.append(name)
            else:
                raise
            continue
        names.append(name)
    return sorted(names), sorted(missing), sorted(damaged)


def copy_artifact(uri: str, target: Path) -> None:
    """Copy an artifact out of the store; it is there whole, and as its hash says, or not at all.

    Raises:
        NotFound: the store has it no more.
        BadInput: what the store has is not what its name says.
    """
    cached = get_settings().home.absolute() / "cache" / uri
    was_cached = cached.exists()
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        shutil.copytree(artifacts.fetch(uri), unfinished)
        found, _ = artifacts.hash_tree(unfinished)
        if found != target.name:
            raise BadInput("artifact", uri, f"content of that hash, not {found}", "It is damaged.")
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not was_cached:
            shutil.rmtree(cached, ignore_errors=True)


def copy_spool(source: Path, target: Path) -> int:
    """Copy what waits in spools, while their writers go on; return the number of files.

    Books first: one that is older than its segments only has records sent twice.
    """
    files = sorted(
        (path for path in source.rglob("*") if path.is_file()),
        key=lambda path: (path.suffix != ".book", str(path)),
    )
    n_copied = 0
    for file in files:
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            shutil.copy2(file, place)
        except FileNotFoundError:  # shipped meanwhile: the database has it, and so has the snapshot
            continue
        n_copied += 1
    return n_copied


def _tell(started: datetime, status: str, **outcome: Any) -> None:
    with session_scope() as session:
        session.add(Run(kind=KIND, status=status, started_at=started, finished_at=now(), **outcome))
