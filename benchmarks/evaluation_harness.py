"""What an evaluation costs beside its models: ours, inspect_ai and lm-eval on the same mock tasks.

Three hundred sums, one answer each, compared word for word, by a model inside the process that
answers at once; rounds of the tools alternate. The whole command is measured too, from its
arguments to its JSON, with its database, its run, its sandbox and a model server over HTTP in a
process of its own; imports are over by then. What each does is in
`benchmarks/evaluation_harness_host.py`.

The peers (`benchmarks/peers-evaluation.txt`) run in a venv of their own, see `make bench-venv`;
without it our figures stand alone and the ratios count as missed.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from benchmarks.bars import Figure
from foundation.embedded import start_embedded

PROJECT = Path(__file__).resolve().parent.parent
PEER_PYTHON = Path(
    os.environ.get(
        "FLYWHEEL_BENCH_EVALUATION_PYTHON", PROJECT / ".venv-bench-evaluation/bin/python"
    )
)
OURS, COMMAND, SERVER = "flywheel", "command", "serve"
PEERS = {"inspect_ai": "inspect_ai", "lm_eval": "lm-eval"}
N_TASKS, ROUNDS = 300, 7
TASKS_PER_S = 1000.0
COMMAND_S = 2.0


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick does two rounds."""
    peers = PEERS if PEER_PYTHON.exists() else {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        home = Path(folder)
        server = stack.enter_context(_Host(SERVER, home, {}))
        port = int(server.round()["success"])
        settings = {
            "FLYWHEEL_HOME": folder,
            "FLYWHEEL_DATABASE_URL": start_embedded(home),
            "FLYWHEEL_ENGINE_URL": f"http://127.0.0.1:{port}/v1",
        }
        hosts = {
            name: stack.enter_context(_Host(name, home, settings))
            for name in (OURS, COMMAND, *peers)
        }
        done: dict[str, list[float]] = {name: [] for name in hosts}
        for _ in range(2 if quick else ROUNDS):
            for name, host in hosts.items():
                done[name].append(_seconds(name, host.round()))
        imports = {name: host.import_s for name, host in hosts.items()}
    return [
        Figure(
            f"the whole `flywheel evaluate` of {N_TASKS} mock tasks, after imports",
            median(done[COMMAND]),
            "s",
            at_most=COMMAND_S,
            detail=_spread(done[COMMAND], imports[COMMAND]),
        ),
        *(_rate(name, done[name], imports[name]) for name in (OURS, *peers)),
        *(_ratio(name, done) for name in PEERS),
    ]


def _seconds(name: str, measured: dict[str, Any]) -> float:
    if measured["success"] != 0.5:
        raise RuntimeError(f"{name}: success {measured['success']}, expected that of half the sums")
    return float(measured["wall_s"])


def _rate(name: str, seconds: list[float], import_s: float) -> Figure:
    return Figure(
        f"{N_TASKS} mock tasks inside the harness: {PEERS.get(name, 'ours')}",
        N_TASKS / median(seconds),
        "tasks/s",
        at_least=TASKS_PER_S if name == OURS else None,
        detail=_spread(seconds, import_s),
    )


def _ratio(peer: str, done: dict[str, list[float]]) -> Figure:
    name = f"the same, ours to {PEERS[peer]}, median of rounds"
    if peer not in done:
        note = f"no {PEER_PYTHON.name} of the peers: make bench-venv"
        return Figure(name, None, "", at_least=1.0, note=note)
    ratios = [theirs / ours for ours, theirs in zip(done[OURS], done[peer], strict=True)]
    return Figure(name, median(ratios), "", at_least=1.0, detail={"rounds": ratios})


def _spread(seconds: list[float], import_s: float) -> dict[str, float]:
    return {"least_s": min(seconds), "greatest_s": max(seconds), "import_s": import_s}


class _Host:
    """A process that evaluates with one harness, and does a round when it is asked."""

    def __init__(self, subject: str, folder: Path, settings: dict[str, str]) -> None:
        python = str(PEER_PYTHON) if subject in PEERS else sys.executable
        self._stderr = folder / f"{subject}.stderr"
        self._log = self._stderr.open("wb")
        self.import_s = 0.0
        self._process = subprocess.Popen(
            [
                python,
                "-P",
                str(PROJECT / "benchmarks/evaluation_harness_host.py"),
                subject,
                str(N_TASKS),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env={**os.environ, **settings, "PYTHONPATH": str(PROJECT)},
            text=True,
        )

    def __enter__(self) -> Self:
        self.import_s = float(self._answer()["import_s"])
        return self

    def round(self) -> dict[str, Any]:
        """Have a round done and return its time."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a tool's process has ended: {self._stderr.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
        self._log.close()
