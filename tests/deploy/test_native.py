"""The processes, variables and commands of compose.yaml, started without containers.

Each process gets what its container would have: the image's and compose.yaml's variables, the
secrets it lists and no other, a system that is read only but for its volumes and /tmp, another
user without any capability, and no way to a namespace of its own. bubblewrap makes that; where it
cannot, the processes run bare. PostgreSQL and the brokers are the real ones of FLYWHEEL_TEST_*.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from brokers import delete_queues
from by_hand import wait_until
from deployed import DEPLOY, PROJECT, composition, image_environment, is_ours, variables_of
from upstream_app import Server, create_upstream_app

from flywheel.processes import free_port
from flywheel.scheduler import LEADER_LOCK

pytestmark = pytest.mark.slow

HOME = "/var/lib/flywheel"
PORTS = {"8710": "PORT", "8711": "GATEWAY_PORT", "8712": "ENGINE_PORT", "8713": "METRICS_PORT"}
IN_THE_WORKER = """
import flywheel.worker
from evaluator.sandbox import Call, Sandbox
from foundation import runs
from foundation.database import session_scope

with session_scope() as session:
    run = runs.enqueue(session, "curation.build", {"role": "coder"}, role="coder")
with Sandbox(workers=1) as sandbox:
    outcome = sandbox.run(Call("def add(a, b): return a + b", "add", [[1, 2], [3, 4]]))
    print(run.id, sandbox.describe()["tier"], outcome.values)
"""

STOPPED = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
"""How a process ends that was told to: uvicorn sends itself the signal again once it is done."""
LEADERS = f"""
SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database
WHERE datname = current_database() AND objid = {LEADER_LOCK} AND granted"""


@cache
def has_bubblewrap() -> bool:
    found = shutil.which("bwrap")
    return found is not None and not subprocess.run(
        [found, "--unshare-user", "--uid", "10001", "--ro-bind", "/", "/", "true"],
        capture_output=True,
    ).returncode  # fmt: skip


class Deployment:
    """A copy of `deploy/` with its secrets made, pointed to the servers of the tests."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, upstream: str) -> None:
        self.folder = folder
        shutil.copytree(DEPLOY, folder / "deploy", ignore=shutil.ignore_patterns("secrets", ".env"))
        subprocess.run([folder / "deploy/make-secrets"], check=True)
        mock = {"mock": {"base_url": f"{upstream}/v1", "api_key": "k", "models": ["*"]}}
        self.write("flywheel_database_url", database_url)
        self.write("flywheel_broker_url", broker_url)
        self.write("flywheel_upstreams", json.dumps(mock))
        self.key, self.metrics_key = (
            (self.secrets / f"flywheel_{name}_key").read_text().strip()
            for name in ("api", "metrics")
        )
        self.queue_prefix = f"deploy-{uuid.uuid4().hex[:8]}-"  # others use these brokers, too
        self.said = composition(SERVICE_WORKERS="1", GATEWAY_WORKERS="1", CPU_CONCURRENCY="1")
        self.services = {n: s for n, s in self.said["services"].items() if is_ours(s)}

    @property
    def secrets(self) -> Path:
        return self.folder / "deploy/secrets"

    def write(self, name: str, value: str) -> None:
        path = self.secrets / name
        path.unlink()
        path.write_text(value + "\n")

    def volume(self, name: str) -> Path:
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path


class Container:
    """One process of a deployment, as its service says."""

    def __init__(self, deployment: Deployment, service: str, number: int = 1) -> None:
        self.name = f"{service}-{number}"
        self.deployment, self.service = deployment, deployment.services[service]
        self.service_name = service
        self.ports = {port: str(free_port()) for port in PORTS}
        self.log_path = deployment.folder / f"{self.name}.log"
        self.walled = self.walls()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.walled, *self.command()], env=self.environment(), cwd=self.home(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def command(self) -> list[str]:
        """What the image's entry point makes of the service's words."""
        return [sys.executable, "-m", "flywheel", *map(str, self.service["command"])]

    def told(self, code: str) -> str:
        """What a program says in another process of this container."""
        done = subprocess.run(
            [*self.walled, sys.executable, "-c", code], env=self.environment(), cwd=self.home(),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    def environment(self) -> dict[str, str]:
        """What the image, env_file and `environment` set, with ports and hosts of this machine."""
        said = {**image_environment(), **variables_of(DEPLOY / "flywheel.env.example")}
        said |= self.service["environment"]
        said["PATH"] = os.environ["PATH"]
        said |= {"FLYWHEEL_HOST": "127.0.0.1", "PYTHONPATH": str(PROJECT)}
        said["FLYWHEEL_QUEUE_PREFIX"] = self.deployment.queue_prefix
        said |= {f"FLYWHEEL_{name}": self.ports[port] for port, name in PORTS.items()}
        if not has_bubblewrap():
            places = ("/run/secrets", str(self.deployment.secrets))
            said = {name: value.replace(*places) for name, value in said.items()}
            said["HOME"] = said["FLYWHEEL_HOME"] = str(self.home())
        return said

    def own_secrets(self) -> Path:
        """A folder of the secrets that the service lists."""
        folder = self.deployment.folder / "secrets" / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in self.service["secrets"]:
            shutil.copy(self.deployment.secrets / name, folder)
        return folder

    def home(self) -> Path:
        return self.mounts().get(HOME) or self.deployment.volume("bare")

    def mounts(self) -> dict[str, Path]:
        """The folder behind each mounted path; a volume without a name is this container's."""
        found = {}
        for said in self.service["volumes"]:
            source, _, target = said.partition(":")
            name, path = (source, target.split(":")[0]) if target else (self.name, source)
            found[path] = self.deployment.volume(name)
        return found

    def walls(self) -> list[str]:
        """The bubblewrap command that stands for the container's limits."""
        if not has_bubblewrap():
            return []
        words = ["bwrap", "--unshare-user", "--disable-userns", "--uid", "10001", "--gid", "10001"]
        words += ["--cap-drop", "ALL", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev"]
        words += ["--tmpfs", "/run", "--tmpfs", "/var/lib", "--ro-bind"]
        words += [str(self.own_secrets()), self.service["environment"]["FLYWHEEL_SECRETS_DIR"]]
        for path, folder in sorted(self.mounts().items()):
            words += ["--bind", str(folder), path]
        words += ["--remount-ro", "/run", "--remount-ro", "/var/lib", "--tmpfs", "/tmp"]
        for needed in (PROJECT, Path(sys.prefix)):
            words += (
                ["--ro-bind", str(needed), str(needed)] if needed.is_relative_to("/tmp") else []
            )
        return [*words, "--chdir", HOME, "--"]

    def is_healthy(self) -> bool:
        """What the health check of compose.yaml says."""
        assert self.process.poll() is None, f"{self.name} ended\n{self.log()}"
        kind, program, address = self.service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "healthy")
        with socket.socket() as probe:  # dearer processes only where somebody listens
            if probe.connect_ex(("127.0.0.1", int(self.here(address).split(":")[2].split("/")[0]))):
                return False
        done = subprocess.run(
            [sys.executable, "-I", DEPLOY / program, self.here(address)], capture_output=True
        )
        return done.returncode == 0

    def here(self, address: str) -> str:
        for port, own in self.ports.items():
            address = address.replace(port, own)
        return address

    def log(self) -> str:
        return self.log_path.read_text()[-4000:]

    def told_to_stop(self) -> None:
        """Send SIGTERM as an engine does: to the first process alone."""
        pid = self.process.pid
        if has_bubblewrap():  # it waits outside for the one process that it started
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(pid, signal.SIGTERM)

    def ended(self) -> int:
        """Its exit code, within the time that compose.yaml gives it."""
        said = self.service.get("stop_grace_period", "10s")
        seconds = int(said[:-1]) * {"s": 1, "m": 60}[said[-1]]
        return self.process.wait(min(seconds, 60))


@contextmanager
def started(*containers: Container) -> Iterator[None]:
    """Kill what is left of containers at the end."""
    try:
        yield
    finally:
        for container in containers:
            try:
                os.killpg(container.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            container.process.wait()


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of its own on the real server, made ready by the service `migrate`."""
    server, redis = broker("FLYWHEEL_TEST_POSTGRES_URL"), broker("FLYWHEEL_TEST_REDIS_URL")
    name = f"flywheel_deploy_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = f"{server.rsplit('/', 1)[0]}/{name}"
    migrate = Container(
        Deployment(tmp_path_factory.mktemp("deployed"), url, redis, "http://127.0.0.1:1"), "migrate"
    )
    with started(migrate):
        assert migrate.process.wait(120) == 0, migrate.log()
    yield url
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def upstream() -> Iterator[str]:
    with Server(create_upstream_app()) as server:
        yield server.url


def broker(name: str) -> str:
    url = os.environ.get(name)
    if url is None:
        pytest.skip(f"{name} is not set")
    return url


def one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def test_what_compose_starts_works_together(
    tmp_path: Path, database_url: str, upstream: str
) -> None:
    redis = broker("FLYWHEEL_TEST_REDIS_URL")
    deployment = Deployment(tmp_path, database_url, redis, upstream)
    service, gateway, worker, first, second = containers = [
        Container(deployment, "service"),
        Container(deployment, "gateway"),
        Container(deployment, "worker-cpu"),
        Container(deployment, "scheduler"),
        Container(deployment, "scheduler", 2),
    ]
    with started(*containers), ExitStack() as stack:
        stack.callback(delete_queues, redis, deployment.queue_prefix)
        for container in containers:
            wait_until(container.is_healthy, f"{container.name}: {container.log()}", 300)
        wait_until(lambda: one(database_url, LEADERS) == 1, "one scheduler that leads")

        http = stack.enter_context(httpx.Client(timeout=30))
        gateway_url = gateway.here("http://127.0.0.1:8711")
        service_url = service.here("http://127.0.0.1:8710")
        asked = {"model": "mock-1", "messages": [{"role": "user", "content": "say hello"}]}
        closed = http.post(f"{gateway_url}/r/coder/v1/chat/completions", json=asked)
        assert closed.status_code == 401, "an API key is a part of every deployment"
        figures = {"authorization": f"Bearer {deployment.metrics_key}"}
        for container in containers:
            port = {"service": 8710, "gateway": 8711}.get(container.service_name, 8713)
            address = container.here(f"http://127.0.0.1:{port}/metrics")
            assert http.get(address).status_code == 401, container.name
            assert "flywheel_" in http.get(address, headers=figures).text, container.name
        closed = http.post(
            f"{gateway_url}/r/coder/v1/chat/completions", json=asked, headers=figures
        )
        assert closed.status_code == 403, "Prometheus has no other key"
        http.headers["authorization"] = f"Bearer {deployment.key}"
        answer = http.post(f"{gateway_url}/r/coder/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        call = answer.headers["x-flywheel-interaction-id"]
        row = f"SELECT role FROM interaction WHERE id = '{call}'"
        wait_until(lambda: one(database_url, row) == "coder", "the call in the log")

        order = http.post(f"{service_url}/v1/datasets", json={"role": "coder"}).json()
        state = lambda: http.get(f"{service_url}/v1/runs/{order['id']}").json()  # noqa: E731
        wait_until(lambda: state()["status"] in ("done", "failed"), "the job")
        assert state()["attempts"] == 1
        assert state()["worker"], "a worker took it"
        link = service.told("from flywheel.invite import link_for; print(link_for(None))")
        came = {"x-forwarded-proto": "https", "host": "flywheel.example.org"}
        came |= {"origin": "https://flywheel.example.org", "sec-fetch-site": "same-origin"}
        code = {"code": link.split("#code=")[1]}
        signed_in = http.post(f"{service_url}/admin/login/code", data=code, headers=came)
        assert signed_in.status_code == 303, signed_in.text
        assert "Secure" in signed_in.headers["set-cookie"], "a proxy on this machine is believed"

        for container in containers:
            container.told_to_stop()
        for container in containers:
            assert container.ended() in STOPPED, container.log()


def test_a_worker_gets_its_jobs_over_rabbitmq(tmp_path: Path, database_url: str) -> None:
    amqp = broker("FLYWHEEL_TEST_AMQP_URL")
    deployment = Deployment(tmp_path, database_url, amqp, "http://127.0.0.1:1")
    worker = Container(deployment, "worker-cpu")
    with started(worker), ExitStack() as stack:
        stack.callback(delete_queues, amqp, deployment.queue_prefix)
        order, tier, values = worker.told(IN_THE_WORKER).split(maxsplit=2)
        assert values == "(3, 7)"
        assert tier == "D" or not has_bubblewrap()
        status = f"SELECT status FROM run WHERE id = '{order}'"
        wait_until(lambda: one(database_url, status) in ("done", "failed"), "the job")
        worker.told_to_stop()
        assert worker.ended() in STOPPED, worker.log()
