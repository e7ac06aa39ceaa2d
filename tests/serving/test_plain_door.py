"""The door to `transformers serve`, against the real server: a process of its own, a tiny model."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flywheel.processes import free_port
from serving.backends import probe
from serving.backends.door import Files, NotServable
from serving.backends.openai_compatible import EngineRefused, EngineUnavailable
from serving.backends.plain import Plain

NAME = "coder-v1"
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "add 3 and 4"}]
START_S = 120


@pytest.fixture
def door(tmp_path):
    """The door to a server that was started in the folder of versions."""
    folder = tmp_path / "served"
    folder.mkdir()
    port = free_port()
    command = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "transformers", *command],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        opened = Plain(f"http://127.0.0.1:{port}/v1", folder=folder)
        wait_ready(opened, process, tmp_path / "log")
        yield opened
    finally:
        process.terminate()
        process.wait(30)


def wait_ready(door, process, log):
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            door.models()
            return
        except EngineUnavailable:
            time.sleep(0.2)
    pytest.fail(log.read_text()[-2000:])


def ask(door, model):
    body = {"model": model, "messages": CHAT, "temperature": 0, "max_tokens": 6}
    answer = httpx.post(f"{door.base_url}/chat/completions", json=body, timeout=60)
    return answer.json()["choices"][0]["message"]["content"]


@pytest.mark.slow
def test_a_version_is_a_folder_of_links_that_transformers_serves(
    door, yes_adapter, served_base, tmp_path
):
    adapter = Files(NAME, yes_adapter, str(served_base))
    assert door.load(adapter) is True
    assert door.load(adapter) is False
    assert all(p.is_symlink() for p in (door.folder / NAME).iterdir() if "config.j" not in p.name)
    assert door.load_base(str(served_base)) is False
    assert probe.check(door, NAME, door.base_of(adapter)).differs is True
    assert ask(door, NAME) == "yes 7"
    whole = Files("coder-full", served_base, str(served_base), is_adapter=False)
    assert door.load(whole) is True
    assert ask(door, "coder-full") == ask(door, str(served_base))
    with pytest.raises(EngineRefused, match="nowhere"):
        door.load_base(str(tmp_path / "nowhere"))
    with pytest.raises(NotServable, match="no folder on this machine"):
        door.load(Files("coder-v2", yes_adapter, "a/hub-name"))
    assert {model.name for model in door.models()} == {NAME, "coder-full"}
    door.unload(NAME)
    door.unload("coder-full")
    assert door.models() == []
    assert (served_base / "config.json").exists(), "only the link went"
