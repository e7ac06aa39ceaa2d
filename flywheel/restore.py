"""Restore a backup into an empty database and prove that it is the same, row by row.

What happened after the backup is not in it. Clients keep what the service has not answered for, and
send it again: ids keep it single. What was erased after the backup is erased anew, by certificates.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from flywheel.backup import DUMP, SPOOL, Backup, damage
from flywheel.checksums import checksums
from flywheel.schema import upgrade
from foundation import artifacts
from foundation.artifact_store import SCHEME
from foundation.artifact_sweep import stored
from foundation.database import database_url, get_engine, session_scope
from foundation.errors import BadInput, Conflict
from foundation.pg_tools import run_tool, tool
from foundation.settings import get_settings

RESTORED: Final = "restored"
"""Folder of the home's spool that a restored spool goes to."""


@dataclass(frozen=True)
class Restored:
    """What a restoration brought back, all of it proven."""

    n_rows: int
    n_tables: int
    n_artifacts: int
    spool: Path | None
    """Folder of records that had waited, to be drained; None: none had."""
    revision: str


def restore(backup: Backup) -> Restored:
    """Restore the database, the artifacts and the spools of a backup, and bring the schema to date.

    Raises:
        BadInput: the backup is damaged, or what was restored is not what was backed up.
        Conflict: the database is not empty.
        NotFound: no pg_restore that suits the server.
    """
    _require_sound(backup)
    _require_empty()
    with get_engine().connect() as connection:
        major = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    arguments = ["--no-owner", "--no-privileges", "--exit-on-error", str(backup.folder / DUMP)]
    program = tool("pg_restore", max(major, backup.manifest["pg_dump_major"]))
    run_tool(program, database_url(), arguments)
    differing = different(backup)
    if differing:
        raise BadInput(
            f"restored tables {', '.join(sorted(differing))}",
            next(iter(differing.values())),
            "the rows that were backed up",
            "Do not go on with this database: restore into a new one, or take another backup.",
        )
    n_artifacts = _restore_artifacts(backup)
    spool = _restore_spool(backup)
    with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    revision = upgrade()
    with session_scope() as session:
        session.execute(text("UPDATE experiment SET seen_xid = NULL"))  # another cluster's number
    said = backup.manifest
    return Restored(said["n_rows"], len(said["tables"]), n_artifacts, spool, revision)


def different(backup: Backup) -> dict[str, dict[str, Any]]:
    """Return the tables whose rows are not those of the backup, with both sums; empty: all are."""
    with get_engine().connect() as connection:
        found = checksums(connection)
        connection.rollback()
    expected = backup.manifest["tables"]
    return {
        name: {"backed_up": expected.get(name), "found": found.get(name)}
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    }


def _require_sound(backup: Backup) -> None:
    found = damage(backup)
    if found:
        raise BadInput(
            f"backup {backup.folder}",
            "; ".join(found[:5]),
            "the files that were written",
            "Restore another one: flywheel restore DIR --name NAME",
        )


def _require_empty() -> None:
    with get_engine().connect() as connection:
        names = list(connection.execute(_THERE).scalars())
    if names:
        raise Conflict(
            "database",
            f"with {len(names)} tables ({', '.join(names[:3])}, …)",
            "an empty one",
            "Nothing was changed. Make a new database and set FLYWHEEL_DATABASE_URL, or in "
            "embedded mode another FLYWHEEL_HOME.",
        )


def _restore_artifacts(backup: Backup) -> int:
    there = {one.uri for one in stored()}
    for name in backup.manifest["artifacts"]:
        if f"{SCHEME}/{name}" not in there:
            put = artifacts.put(backup.artifacts / name)
            if put.content_hash != name:
                raise BadInput("artifact", name, f"of that hash, not {put.content_hash}", "Again.")
    return len(backup.manifest["artifacts"])


def _restore_spool(backup: Backup) -> Path | None:
    source = backup.folder / SPOOL
    if not source.is_dir():
        return None
    target = get_settings().home.absolute() / "spool" / f"{RESTORED}-{backup.folder.name}"
    shutil.copytree(source, target)
    return target


_THERE = text(
    """
    SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
      AND relnamespace = current_schema()::regnamespace ORDER BY relname
    """
)
