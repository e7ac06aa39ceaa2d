"""`flywheel campaign`, with answers that are run in the sandbox."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from by_hand import PROJECT, Said
from sqlmodel import Session, select
from upstream_app import Server, create_upstream_app

from collector import campaign
from collector.tables import Feedback, Interaction
from foundation import llm
from foundation.database import session_scope
from foundation.runs import enqueue, execute

Command = Callable[..., Said]

TESTS = {"entry_point": "double", "test": "assert double(4) == 8"}
TASKS = [
    {"task": "say def double(x):\n    return 2 * x", "topic": "numbers", **TESTS},
    {"task": "say def double(x):\n    return x", "topic": "numbers", **TESTS},
    {"task": "say def double(x):\n    return 2 * x  # again", "test": "assert ("},
]


@pytest.fixture
def upstream() -> Iterator[Server]:
    with Server(create_upstream_app()) as server:
        yield server
        kept = llm._litellm().in_memory_llm_clients_cache.cache_dict  # it keeps connections open
        for key, client in list(kept.items()):
            if isinstance(client, openai.OpenAI):
                client.close()
                del kept[key]


@pytest.fixture
def spec(upstream: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CAMPAIGN_TEST_KEY", "k")
    model = {"model": "openai/mock", "api_base": f"{upstream.url}/v1", "label": "mock"}
    model |= {"api_key_env": "CAMPAIGN_TEST_KEY", "output_usd_per_mtok": 100.0}
    return {
        "name": "doubles",
        "role": "coder",
        "n": 3,
        "models": [model],
        "task": {"items": TASKS},
        "concurrency": 2,
        "budget_usd": 1,
        "check": {"kind": "python_asserts"},
    }


def write(folder: Path, spec: dict[str, Any]) -> str:
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return str(path)


def test_a_campaign_s_answers_are_run_and_reported(
    session: Session, command: Command, tmp_path: Path, spec: dict[str, Any]
) -> None:
    said = command("campaign", "run", write(tmp_path, spec), "--json")
    assert said.code == 0, said
    report = said.json
    assert (report["status"], report["answered"], report["accepted"]) == ("done", 2, 1)
    assert (report["pass_rate"], report["failed"]) == (0.5, 1)
    assert report["cost_per_accepted_usd"] == pytest.approx(2 * 3 * 100 / 1e6)
    rows = session.exec(select(Interaction)).all()
    verdicts = session.exec(select(Feedback)).all()
    assert sorted(verdict.value or 0 for verdict in verdicts) == [0.0, 1.0]
    assert {verdict.interaction_id for verdict in verdicts} == {row.id for row in rows}
    shown = command("campaign", "status", "doubles", "--json").json
    assert (shown["status"], shown["done"], shown["failed"]) == ("done", 2, 1)
    (listed,) = command("campaign", "list", "--json").json
    assert listed == shown
    assert command("campaign", "report", "doubles", "--json").json["accepted"] == 1
    text = command("campaign", "report", "doubles").out
    assert "50.0 % of 2 checked" in text
    assert "numbers" in text


def test_a_worker_runs_a_campaign_as_a_job(
    session: Session, command: Command, tmp_path: Path, spec: dict[str, Any]
) -> None:
    said = command("campaign", "run", write(tmp_path, spec), "--queue", "--json")
    assert said.json["status"] == "queued"
    with session_scope() as opened:
        assert campaign.find(opened, "doubles").reason == "not started"
        run = enqueue(opened, "collector.campaign", {"name": "doubles"}, role="coder")
    result = execute(run.id, reraise=True).result  # type: ignore[union-attr]
    assert result is not None
    assert (result["status"], result["accepted"]) == ("done", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "none.yaml"), ("campaign file", "none.yaml")),
        (("status", "nobody"), ("campaign", "nobody", "flywheel campaign list")),
        (("resume", "nobody"), ("nobody",)),
        (("pause", "nobody"), ("nobody",)),
    ],
)
def test_what_does_not_exist_is_named(
    session: Session, command: Command, arguments: Any, words: Any
) -> None:
    said = command("campaign", *arguments)
    assert said.code == 2
    assert all(word in said.err for word in words)


def test_ctrl_c_pauses_and_resume_finishes(
    session: Session,
    command: Command,
    database: str,
    tmp_path: Path,
    spec: dict[str, Any],
    upstream: Server,
) -> None:
    spec |= {"n": 40, "task": {"template": "say $number"}, "requests_per_minute": 1200}
    del spec["check"]
    arguments = [sys.executable, "-m", "flywheel", "campaign", "run", write(tmp_path, spec)]
    environment = os.environ | {"FLYWHEEL_DATABASE_URL": database, "PYTHONPATH": str(PROJECT)}
    upstream.app.state.most = 10  # it cannot end before it is interrupted
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
    )
    _wait_for(process, 5)
    process.send_signal(signal.SIGINT)
    upstream.app.state.most = None
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "flywheel campaign resume doubles" in said
    shown = command("campaign", "status", "doubles", "--json").json
    assert (shown["status"], shown["reason"]) == ("paused", "interrupted")
    assert 5 <= shown["done"] < 40
    resumed = command("campaign", "resume", "doubles", "--json")
    assert (resumed.code, resumed.json["answered"]) == (0, 40)
    assert len(session.exec(select(Interaction)).all()) == 40


def _wait_for(process: subprocess.Popen[str], n_done: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with session_scope() as opened:
            known = campaign.everyone(opened)
            if known and campaign.progress_of(opened, known[0]).n_done >= n_done:
                return
        time.sleep(0.05)
    raise AssertionError(f"it came to no {n_done} answers: {process.poll()}")


def test_a_yaml_file_in_the_place_of_a_command_is_run(tmp_path) -> None:
    missing = tmp_path / "nosuch.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "flywheel", "campaign", str(missing)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert str(missing) in done.stderr
