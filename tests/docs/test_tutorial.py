"""The tutorial, typed from beginning to end: real processes, a real training, a promotion."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from by_hand import environment_with, processes_of, wait_until

from flywheel.processes import free_port

PROJECT = Path(__file__).resolve().parents[2]
TUTORIAL = (PROJECT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(
    r"^(<!-- not run: [^\n]+ -->\n)?```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the tutorial is done; a short path, since a unix socket's name has 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="fw-"))
    shutil.copy(PROJECT / "docs" / "tutorial" / "world.py", made)
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Terminal:
    """A shell that keeps what was exported between blocks; ports are free ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {f"127.0.0.1:871{n}": f"127.0.0.1:{free_port()}" for n in range(3)}
        ports = [place.rpartition(":")[2] for place in self.ports.values()]
        commands = folder / "commands"
        commands.mkdir()
        (commands / "flywheel").write_text(f'#!/bin/sh\nexec {sys.executable} -m flywheel "$@"\n')
        (commands / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for command in commands.iterdir():
            command.chmod(0o755)
        self.environment = environment_with(
            PATH=f"{commands}:{os.environ['PATH']}",
            PYTHONPATH=f"{PROJECT}:{folder}",
            FLYWHEEL_HOME=str(folder / ".flywheel"),
            FLYWHEEL_DATABASE_URL=None,
            FLYWHEEL_BROKER_URL=None,
            FLYWHEEL_ENGINE_URL=None,
            FLYWHEEL_PORT=ports[0],
            FLYWHEEL_GATEWAY_PORT=ports[1],
            FLYWHEEL_ENGINE_PORT=ports[2],
            COLUMNS="160",
        )

    def here(self, text: str) -> str:
        for said, real in self.ports.items():
            text = text.replace(said, real)
        return text

    def save(self, code: str) -> None:
        name = re.match(r"# (\w+\.py)\n", code)
        assert name, "a file of the tutorial says its name in its first line"
        (self.folder / name[1]).write_text(self.here(code))

    def type(self, lines: str) -> str:
        """Type a block; every command must succeed. What is exported stays."""
        script = f"set -e\n{self.here(lines)}\nenv -0 > exported"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        print(f"$ {lines.rstrip()}\n{done.stdout}")  # noqa: T201  shown when it fails
        assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"
        exported = (self.folder / "exported").read_text().split("\0")
        self.environment = dict(line.split("=", 1) for line in exported if line)
        return done.stdout

    def leave_running(self, command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "up.log").open("wb") as log:
            return subprocess.Popen(
                ["flywheel", *command.split()[1:]],
                executable=str(self.folder / "commands" / "flywheel"),
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "flywheel up has ended"
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_tutorial_as_it_is_typed(folder: Path) -> None:
    terminal = Terminal(folder)
    said = {}
    up = None
    try:
        for skipped, language, code in BLOCK.findall(TUTORIAL):
            if skipped:
                continue
            if language == "python":
                terminal.save(code)
            elif "flywheel up" in code:
                up = terminal.leave_running("flywheel up")
                engine = f"http://{terminal.ports['127.0.0.1:8712']}/healthz"
                wait_until(lambda url=engine, one=up: answers(url, one), "the engine", 600)
            elif "experiment list" in code:
                for seed in range(4, 12):  # "if yours is still running, give it another"
                    time.sleep(12)  # the scheduler looks every five seconds
                    if decided(terminal):
                        break
                    terminal.type(f"python live.py 100 {seed}")
                said[code] = terminal.type(code)
            else:
                said[code] = terminal.type(code)
    finally:
        if up is not None:
            up.send_signal(signal.SIGTERM)
            up.wait(60)
            for log in (folder / "up.log", *(folder / ".flywheel" / "logs").glob("*.log")):
                print(f"{log.name}:\n{log.read_text()[-2000:]}")  # noqa: T201  shown when it fails
    told = "\n".join(said.values())
    agent = next(out for code, out in said.items() if "agent.py" in code)
    assert 100 < int(agent.split()[0]) < 300, "about half of the answers work"
    assert "coder@1" in told
    assert re.search(r"over 120 tasks: deploy$", told, re.MULTILINE)
    assert re.search(r"router.experiment +coder +promoted", told)
    assert re.search(r"coder-v1 +coder +adapter +production", told)
    wait_until(lambda: not processes_of(folder / ".flywheel"), "nothing is left running", 60)


def decided(terminal: Terminal) -> bool:
    return " running " not in terminal.type("flywheel experiment list")
