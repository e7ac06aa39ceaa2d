"""No key, password or prompt is in what the processes write, at the chattiest level."""

import json
import signal
import subprocess
import sys
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from by_hand import environment_with, wait_until
from sqlmodel import Session

from collector.record import interaction_record
from flywheel.processes import free_port
from foundation.ids import new_id
from router import keys

pytestmark = pytest.mark.slow

MASTER = "master-Zq7wXc2mPd9v"
DSN = "dsn-Lk3jHg8fDs6a"
OF_UPSTREAM = "sk-upstreamQw4eRt5yUi6o"
IN_URL = "urlpass-Vb5nMk4jHg"
PASSWORD = "signin-Po9iUy7tRe"
PROMPT = "the-prompt-itself-8f3a"
WRONG = "fw_wrong-Xs2zAq1wSx3e"
IN_QUERY = "fw_query-Dc4vFb5gTh6n"


def with_password(url: str, password: str) -> str:
    """Return a database URL that says a password, which a server on trust does not look at."""
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    name = (user.partition(":")[0] or "postgres") if user else "postgres"
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{place}"))


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / f"{name}.log" for name in ("serve", "gateway", "worker", "scheduler")}


def test_no_secret_is_logged(
    session: Session, database: str, tmp_path: Path, logs: dict[str, Path]
) -> None:
    _, secret = keys.create_key(session, "agent", scopes=["gateway", "ingest"])
    session.commit()
    ports = {"serve": free_port(), "gateway": free_port()}
    upstream = {
        "base_url": f"http://user:{IN_URL}@127.0.0.1:9/v1", "api_key": OF_UPSTREAM, "models": ["m"],
    }  # fmt: skip
    environment = environment_with(
        FLYWHEEL_HOME=str(tmp_path / "home"),
        FLYWHEEL_DATABASE_URL=with_password(database, DSN),
        FLYWHEEL_API_KEY=MASTER,
        FLYWHEEL_UPSTREAMS=json.dumps({"far": upstream}),
        FLYWHEEL_LOG_LEVEL="DEBUG",
        FLYWHEEL_ACCESS_LOG="all",
    )
    with ExitStack() as stack:
        started = {}
        for name, log in logs.items():
            arguments = ["--port", str(ports[name])] if name in ports else []
            arguments += ["--queues", "cpu", "--concurrency", "1"] if name == "worker" else []
            file = stack.enter_context(log.open("w"))
            started[name] = subprocess.Popen(
                [sys.executable, "-m", "flywheel", name, *arguments],
                cwd=tmp_path, env=environment, stdout=file, stderr=file,
            )  # fmt: skip
            stack.callback(started[name].kill)
        service, gateway = (f"http://127.0.0.1:{ports[name]}" for name in ("serve", "gateway"))
        for url in (service, gateway):
            wait_until(lambda url=url: _answers(f"{url}/healthz"), f"{url} to answer", 400)
        _talk(service, gateway, secret)
        for process in started.values():
            process.send_signal(signal.SIGTERM)
        for process in started.values():
            process.wait(60)
    written = {name: log.read_text(errors="replace") for name, log in logs.items()}
    assert all(len(text) > 100 for text in written.values()), "each of them was to say something"
    assert "/v1/ingest" in written["serve"]
    told = (MASTER, DSN, OF_UPSTREAM, IN_URL, PASSWORD, PROMPT, WRONG, IN_QUERY, secret)
    leaks = {
        (name, one, line)
        for name, text in written.items()
        for one in told
        for line in text.splitlines()
        if one in line
    }
    assert leaks == set()


def _talk(service: str, gateway: str, secret: str) -> None:
    """Ask for what goes well and for what does not, by every way a key can be sent."""
    asked = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    record = interaction_record(new_id(), "coder", asked, None)
    sent = {"source": "test", "interactions": [record, {"bad": PROMPT}]}
    for given in (secret, MASTER, WRONG):
        for headers in (
            {"authorization": f"Bearer {given}"},
            {"x-api-key": given},
            {"authorization": f"Basic {b64encode(f':{given}'.encode()).decode()}"},
        ):
            httpx.post(f"{service}/v1/ingest", json=sent, headers=headers, timeout=30)
            httpx.get(f"{service}/v1/keys", headers=headers, timeout=30)
            url = f"{gateway}/r/coder/v1/chat/completions"
            httpx.post(url, json=asked, headers=headers, timeout=60)
    httpx.get(f"{service}/v1/keys", params={"key": IN_QUERY}, timeout=30)
    httpx.get(f"{gateway}/v1/models", params={"api_key": IN_QUERY}, timeout=30)
    httpx.post(f"{service}/v1/feedback", content=b"{" + PROMPT.encode(), timeout=30)
    signing_in = {"name": "ada", "password": PASSWORD}
    httpx.post(f"{service}/admin/login", data=signing_in, timeout=30)
    httpx.get(f"{service}/admin/login", params={"token": IN_QUERY}, timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
