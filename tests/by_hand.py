"""The command line as its users meet it: `flywheel` processes, and a log for them to work on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        assert self.code == 0, self
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def python(*arguments: str, folder: Path, **environment: str | None) -> Said:
    """Run this Python in `folder`, with other environment variables; killed after 5 minutes."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment_with(**environment),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def environment_with(**changes: str | None) -> dict[str, str]:
    """Return this process's environment for a child, changed; None takes a variable away."""
    changed = {**os.environ, "PYTHONPATH": str(PROJECT), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def recorded(run: str, task: str, solution: str, passed: bool = True) -> dict[str, Any]:
    """One line of the format coder_outputs."""
    return {
        "run": run,
        "task_id": task,
        "model": "somebody",
        "dataset": "mbpp",
        "solution": solution,
        "exec_pass": passed,
    }


def write_log(path: Path, n: int = 60, failed: int = 0) -> Path:
    """Write `n` answers, all different, of which the first `failed` did not pass."""
    rows = [
        recorded("a", f"add {i % 8} and {i // 8}", f"total_{i} = {i % 8} + {i // 8}\n", i >= failed)
        for i in range(n)
    ]
    return write_lines(path, rows)


def processes_of(home: Path) -> list[str]:
    """Return what still runs with `home` as its FLYWHEEL_HOME, or names it in its command."""
    found = []
    for one in psutil.process_iter():
        try:
            words = one.cmdline()
            if one.environ().get("FLYWHEEL_HOME") == str(home) or str(home) in " ".join(words):
                found.append(f"{one.pid} {one.status()} {' '.join(words)}")
        except psutil.Error:
            continue
    return found


def wait_until(holds: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until a condition holds; generous, since two noisy cores are all a test may have."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
