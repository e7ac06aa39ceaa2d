"""One scene of a fault: a database, workers, two schedulers, jobs, and what became of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.faults_jobs import JOBS, Ground, effect_of
from flywheel.scheduler import LEADER_LOCK

PROJECT = Path(__file__).resolve().parent.parent
HEARTBEAT_S, LOST_AFTER_S = 0.5, 6.0
ENDED = ("done", "failed", "cancelled")
PATIENCE_S = 240.0

_LEADER = f"""
    SELECT activity.application_name FROM pg_locks
    JOIN pg_stat_activity AS activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objid::bigint = {LEADER_LOCK} AND classid = 0
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class NotInTime(AssertionError):
    """Something that must happen did not."""


def wait_for(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> float:
    """Wait until something holds; return the seconds that took, raise NotInTime if it does not."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > patience_s:
            raise NotInTime(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - start


@dataclass
class Scene:
    """Who runs where.

    Attributes:
        direct_url: the database, which the scene looks at past every cut wire.
        environment: of the processes that may be hurt; None takes a variable away.
        ground: what jobs are ordered on.
    """

    direct_url: str
    environment: Mapping[str, str | None]
    ground: Ground
    folder: Path
    runs: dict[str, UUID] = field(default_factory=dict)
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _connection: psycopg.Connection | None = None

    def start(self, name: str, *arguments: str, **more: str) -> None:
        """Start a Python process in a session of its own; its output goes to `name`.log."""
        changed = {**os.environ, **self.environment, **more, "PGAPPNAME": name}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                env={key: value for key, value in changed.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self, name: str = "worker", **more: str) -> None:
        """Start a worker of two processes whose jobs take their time."""
        paces = json.dumps({job.kind: job.pace_s for job in JOBS.values()})
        self.start(name, "-m", "benchmarks.faults_worker", paces, **more)

    def start_scheduler(self, name: str, **more: str) -> None:
        """Start a scheduler."""
        self.start(name, "-m", "flywheel", "scheduler", **more)

    def kill(self, name: str) -> None:
        """Kill a process and all that it started with -9."""
        child = self.children.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def require_alive(self) -> bool:
        """Raise NotInTime if a process has ended that nobody killed: no fault may do that."""
        for name, child in self.children.items():
            if child.poll() is not None:
                told = (self.folder / f"{name}.log").read_text(errors="replace")[-500:]
                raise NotInTime(f"{name} ended by itself with {child.returncode}: {told}")
        return True

    def kill_all(self) -> None:
        """Leave nobody behind."""
        for name in list(self.children):
            self.kill(name)
        if self._connection is not None:
            self._connection.close()

    def order(self, names: Sequence[str]) -> None:
        """Queue jobs."""
        from foundation.database import session_scope

        with session_scope() as session:
            for name in names:
                self.runs[name] = JOBS[name].order(session, self.ground)

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database itself; connects anew where it was restarted."""
        for _ in range(2):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.direct_url, autocommit=True)
            try:
                return self._connection.execute(query.encode(), values).fetchall()
            except psycopg.OperationalError:
                self._connection.close()
        self._connection = psycopg.connect(self.direct_url, autocommit=True)
        return self._connection.execute(query.encode(), values).fetchall()

    def state(self, name: str) -> tuple[str, int, dict[str, Any] | None, str | None]:
        """Return a job's status, attempts, progress and error."""
        [found] = self.ask(
            "SELECT status, attempts, progress, error FROM run WHERE id = %s", self.runs[name]
        )
        return found

    def await_middle(self, names: Sequence[str]) -> None:
        """Wait until each job has reported and is not done, or has ended already."""

        def begun(name: str) -> bool:
            self.require_alive()
            status, _, progress, _ = self.state(name)
            return status in ENDED or (status == "running" and bool((progress or {}).get("done")))

        wait_for(lambda: all(begun(name) for name in names), f"the middle of {', '.join(names)}")

    def await_end(self, names: Sequence[str], patience_s: float = PATIENCE_S) -> float:
        """Wait until each job has ended; return the seconds that took."""
        return wait_for(
            lambda: self.require_alive() and all(self.state(n)[0] in ENDED for n in names),
            f"the end of {', '.join(names)}",
            patience_s,
        )

    def leader(self) -> str | None:
        """Return the name of the scheduler that leads."""
        found = self.ask(_LEADER)
        return str(found[0][0]) if found else None

    def effect(self, name: str) -> list[list[Any]]:
        """Return what a job has left."""
        with psycopg.connect(self.direct_url) as connection:
            plain: list[list[Any]] = json.loads(
                json.dumps(effect_of(name, connection), default=str)
            )
            return plain


@contextmanager
def played(scene: Scene) -> Iterator[Scene]:
    """Leave no process of a scene behind."""
    try:
        yield scene
    finally:
        scene.kill_all()
