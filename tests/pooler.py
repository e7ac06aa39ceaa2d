"""A real PgBouncer on this machine, in front of a database, in transaction mode."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from flywheel.processes import free_port

POOL_SIZE = 5


@contextmanager
def pgbouncer(url: str, pool_size: int = POOL_SIZE) -> Iterator[str]:
    """Run it; yield the URL of the same database through it. Skips where it is not installed."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer here (Debian: apt-get install pgbouncer)")
    server, port = conninfo_to_dict(url), free_port()
    if os.geteuid() == 0 and str(server.get("host", "/")).startswith("/"):
        pytest.skip("PgBouncer does not run as root, and only root reaches this server's socket")
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o755)  # it refuses to run as root, and reads its file as somebody else
    where = " ".join(f"{k}={v}" for k, v in server.items() if k in ("host", "port", "password"))
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = {where} user={server.get('user', 'postgres')}\n"
        "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\nauth_type = any\n"
        f"listen_port = {port}\npool_mode = transaction\ndefault_pool_size = {pool_size}\n"
        "max_client_conn = 200\nquery_wait_timeout = 60\n"
    )
    command = [program, "-q", str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    pooled = f"postgresql://postgres@127.0.0.1:{port}/{server['dbname']}"
    try:
        _wait(pooled, folder / "log")
        yield pooled
    finally:
        process.terminate()
        process.wait()
        log.close()
        shutil.rmtree(folder)


def _wait(url: str, log: Path) -> None:
    for _ in range(100):
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            reason = str(error)
            time.sleep(0.1)
    pytest.skip(f"PgBouncer does not reach this server: {reason}; {log.read_text()[-500:]}")
