"""The processes that the router's benchmarks run: mock upstream, gateway, LiteLLM's proxy, load.

The gateway runs as a user would run it: `flywheel gateway`, on a PostgreSQL of its own, with
durable logging on and an experiment under way, so that each episode is assigned an arm.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
import psycopg

from benchmarks.gateway_load import Answered, Round
from flywheel.processes import Processes, free_port
from foundation.embedded import start_embedded

PEER = Path(__file__).resolve().parent.parent / ".venv-bench-router"
"""Where `make bench-venv` puts LiteLLM's proxy."""

KEY = "sk-bench"
PROMPT = (
    "Rewrite this function so that it keeps the order of its keys and refuses what it cannot read. "
    "def parse(text): return dict(part.split('=') for part in text.split())  # see the tests. "
) * 5
"""About 900 characters."""


class Load:
    """The process that asks; see `benchmarks.gateway_load`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway_load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # closes its stdin, and so ends it

    def begin(self, wanted: Round) -> None:
        """Start a round; `end` returns what came back."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(wanted)) + "\n")
        self._process.stdin.flush()

    def end(self, now: bool = False) -> Answered:
        """Wait for the round's end, or have it end `now`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if now:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return Answered(**json.loads(self._process.stdout.readline()))

    def play(self, wanted: Round) -> Answered:
        """Ask a round and return what came back."""
        self.begin(wanted)
        return self.end()


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process, its children and those that have ended."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system
        if one == process:
            total += times.children_user + times.children_system
    return total


def rss_mib(process: psutil.Process) -> float:
    """Return the memory of a process and its children in MiB, shared pages counted once."""
    family = [process, *process.children(recursive=True)]
    return float(sum(one.memory_full_info().pss for one in family) / 2**20)


class Mock:
    """The mock upstream in a process of its own, which can be killed, made to hang, and be back."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Serve, for the first time or again; returns when it answers."""
        command = [sys.executable, "-m", "benchmarks.mock_upstream", str(self._port)]
        self._process = subprocess.Popen(command)
        wait_for(f"{self.url}/v1/models")

    def kill(self) -> None:
        """End it as a crash does: connections break, new ones are refused."""
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Let it be there and say nothing: connections are taken by the kernel, nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


@contextmanager
def mock_upstream() -> Iterator[str]:
    """Serve the mock; yield its URL without path."""
    with Mock() as mock:
        yield mock.url


def wait_for(url: str, timeout_s: float = 240.0) -> None:
    """Return when `url` answers 200; raises RuntimeError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{url}: no answer after {timeout_s:.0f} s")


@dataclass(frozen=True)
class Running:
    """A server under test."""

    url: str
    process: psutil.Process


@dataclass(frozen=True)
class RunningGateway(Running):
    """The gateway, its database and its processes."""

    database: str
    postmaster: psutil.Process
    environment: dict[str, str]

    def rows(self, ids: list[str]) -> dict[str, Any]:
        """Return the stored response of each id that has exactly one row."""
        with psycopg.connect(self.database) as log:
            found = log.execute(
                "SELECT i.id::text, p.response FROM interaction i "
                "JOIN interaction_payload p USING (id) WHERE i.id = ANY(%s::uuid[])",
                (ids,),
            ).fetchall()
        return dict(found)

    def wait_stored(self, n_rows: int, timeout_s: float = 120.0) -> float:
        """Wait until the log has `n_rows`; return the seconds it took."""
        started = time.monotonic()
        with psycopg.connect(self.database, autocommit=True) as log:
            while time.monotonic() < started + timeout_s:
                if self._count(log) >= n_rows:
                    return time.monotonic() - started
                time.sleep(0.05)
            raise RuntimeError(f"{self._count(log)} of {n_rows} rows stored in {timeout_s:.0f} s")

    def command(self, *arguments: str) -> None:
        """Run a `flywheel` command beside it."""
        _python("-m", "flywheel", *arguments, "--json", **self.environment)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query on its database."""
        with psycopg.connect(self.database) as log:
            return log.execute(sql.encode(), values).fetchall()

    def count(self) -> int:
        """Return how many calls the log has."""
        with psycopg.connect(self.database) as log:
            return self._count(log)

    def _count(self, log: psycopg.Connection[Any]) -> int:
        (n,) = log.execute("SELECT count(*) FROM interaction").fetchone() or (0,)
        return int(n)


@contextmanager
def database(models: tuple[str, str], compare: bool) -> Iterator[dict[str, str]]:
    """Make a database whose role `coder` has two models, in an experiment if `compare`.

    Yields:
        The variables by which a process of ours uses it.
    """
    with tempfile.TemporaryDirectory(prefix="bench-router-") as folder:
        variables = {
            "FLYWHEEL_HOME": folder,
            "FLYWHEEL_DATABASE_URL": start_embedded(Path(folder)),
            "FLYWHEEL_LOG_LEVEL": "WARNING",
        }
        _python("-m", "flywheel", "db", "upgrade", "--json", **variables)
        asked = ("--compare", *models) if compare else models
        _python("-m", "benchmarks.router_hosts", *asked, **variables)
        yield variables


@contextmanager
def gateway(
    upstreams: dict[str, dict[str, Any]],
    workers: int = 1,
    models: tuple[str, str] = ("mock-a", "mock-b"),
    compare: bool = True,
    asked_as: dict[str, dict[str, Any]] | None = None,
) -> Iterator[RunningGateway]:
    """Serve a fresh gateway whose role `coder` has two models, in an experiment if `compare`.

    Args:
        upstreams: as in the gateway's file.
        workers: processes that share the port.
        models: that serve the role, and are compared with those.
        compare: whether an experiment runs.
        asked_as: `models` of the gateway's file: where each of them is asked.
    """
    with database(models, compare) as variables:
        home = Path(variables["FLYWHEEL_HOME"])
        file = home / "gateway.yaml"
        file.write_text(json.dumps({"upstreams": upstreams, "models": asked_as or {}}))
        variables |= {"FLYWHEEL_GATEWAY_FILE": str(file), "FLYWHEEL_UPSTREAMS": "{}"}
        postmaster = psutil.Process(int((home / "postgres/postmaster.pid").read_text().split()[0]))
        port = free_port()
        with Processes(home, variables) as processes:
            arguments = ("gateway", "--port", str(port), "--workers", str(workers))
            child = processes.start("gateway", *arguments)
            address = f"http://127.0.0.1:{port}"
            processes.wait_for_http(f"{address}/healthz")
            yield RunningGateway(
                address,
                psutil.Process(child.pid),
                variables["FLYWHEEL_DATABASE_URL"],
                postmaster,
                variables,
            )


@contextmanager
def litellm_proxy(upstream: str, workers: int = 1) -> Iterator[Running]:
    """Serve LiteLLM's proxy in front of the mock, as its documentation says; no database.

    Raises:
        RuntimeError: it is not installed.
    """
    command = PEER / "bin" / "litellm"
    if not command.is_file():
        raise RuntimeError("LiteLLM's proxy is not installed: make bench-venv")
    with tempfile.TemporaryDirectory(prefix="bench-litellm-") as folder:
        config = Path(folder) / "config.yaml"
        connection = {"model": "openai/mock", "api_base": f"{upstream}/v1", "api_key": "none"}
        listed = [{"model_name": "mock", "litellm_params": connection}]
        config.write_text(  # JSON is YAML
            json.dumps({"model_list": listed, "general_settings": {"master_key": KEY}})
        )
        port = free_port()
        arguments = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(command), *arguments, "--num_workers", str(workers), "--telemetry", "False"],
                env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(f"http://127.0.0.1:{port}/health/liveliness")
            yield Running(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.terminate()
            process.wait()


def _python(*arguments: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )


def prepare(control: str, treatment: str, compare: bool) -> None:
    """Let `control` serve the coder, and `treatment` be compared with it or only there."""
    from foundation.database import session_scope
    from router.experiment import plan_from, start
    from router.promote import initial
    from trainer.tables import ModelVersion

    with session_scope() as session:
        versions = [
            ModelVersion(
                role="coder", number=n, kind="external", base_model=name, name=f"coder-{name}"
            )
            for n, name in enumerate((control, treatment), 1)
        ]
        session.add_all(versions)
        session.flush()
        initial(session, "coder", versions[0])
        if compare:
            # Without a ramp, whose first phase copies each call to the second version.
            start(session, "coder", versions[1], plan_from("default", ramp=()), "benchmark")


if __name__ == "__main__":
    prepare(sys.argv[-2], sys.argv[-1], compare="--compare" in sys.argv)
