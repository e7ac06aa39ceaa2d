"""The real service on a seeded database of its own, in processes of its own: nothing is faked."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from flywheel.processes import free_port

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
"""Until the service answers; a machine with two busy cores takes some seconds to import it."""


@dataclass(frozen=True)
class Wheel:
    """A service under test: where it is, what it shows, who is signed in."""

    address: str
    database_url: str
    ids: dict[str, str]
    tokens: dict[str, str]
    """Session cookies by name and by role."""

    def sql(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        """Ask the database of the service, beside everything that the pages say."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            found = connection.execute(query, given)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []


@contextmanager
def served(postgres_url: str, home: Path, name: str | None = None) -> Iterator[Wheel]:
    """Make a database on a server, fill it, serve it; drop it in the end."""
    name = name or f"flywheel_browser_{uuid.uuid4().hex[:12]}"
    head, _, query = postgres_url.partition("?")
    url = f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("FLYWHEEL_")},
        "FLYWHEEL_DATABASE_URL": url,
        "FLYWHEEL_HOME": str(home),
        "PYTHONPATH": str(PROJECT / "tests"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
    }
    try:
        made = json.loads(_python("-m", "tests.browser.seeded", env=environment))
        with _answering(environment) as address:
            yield Wheel(f"{address}/admin", url, **made)
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _python(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT, env=env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"the seed failed:\n{done.stderr}")
    return done.stdout


@contextmanager
def _answering(environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    log = Path(environment["FLYWHEEL_HOME"]) / "serve.log"
    with log.open("wb") as told, _process(environment, port, told) as process:
        until = time.monotonic() + PATIENCE_S
        while not _is_ready(f"{address}/readyz"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, f"no answer in {PATIENCE_S} s:\n{log.read_text()}"
            time.sleep(0.1)
        yield address


@contextmanager
def _process(
    environment: dict[str, str], port: int, told: Any
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "serve", "--port", str(port)],
        cwd=PROJECT, env=environment, stdout=told, stderr=told,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        if process.poll() is None:  # a stream is open: who tests has gone by now
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
