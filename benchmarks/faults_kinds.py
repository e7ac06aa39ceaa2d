"""The faults: what each does to a scene in which every job is in its middle.

A fault returns what is worth telling of it; its scene then waits for the end of all jobs.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.faults_scene import Scene, wait_for
from benchmarks.faults_servers import Broker, Postgres

Told = dict[str, Any]


@dataclass
class Play:
    """A scene with what may be hurt of it."""

    scene: Scene
    postgres: Postgres
    broker: Broker | None
    jobs: Sequence[str]
    rng: random.Random
    away_s: float

    def begin(self) -> None:
        """Start a worker and two schedulers, order every job, and wait for its middle."""
        self.scene.start_worker()
        for name in ("one", "other"):
            self.scene.start_scheduler(name)
        wait_for(lambda: self.scene.leader() is not None, "a leader")
        self.scene.order(self.jobs)
        self.scene.await_middle(self.jobs[:2])


@dataclass(frozen=True)
class Fault:
    """A fault and the words for it.

    Attributes:
        title: printed.
        hurt: starts the processes, orders the jobs and hurts them.
        needs: what must be there: a broker of its own, root, a compiler.
    """

    title: str
    hurt: Callable[[Play], Told]
    needs: Sequence[str] = ()


def nothing(play: Play) -> Told:
    """Disturb nobody: what the others are compared with."""
    play.begin()
    return {}


def worker(play: Play) -> Told:
    """Kill the worker and all its processes, at a random moment, and start another one."""
    play.begin()
    time.sleep(play.rng.uniform(0, 2))
    play.scene.kill("worker")
    play.scene.start_worker("second worker")
    return {}


def child(play: Play) -> Told:
    """Kill the processes of the pool that jobs run in; the worker itself lives."""
    play.begin()
    main = psutil.Process(play.scene.children["worker"].pid)
    killed = main.children()
    for process in killed:
        process.kill()
    return {"processes_killed": len(killed)}


def leader(play: Play) -> Told:
    """Kill the scheduler that leads, then the worker: only the next leader can send on."""
    play.begin()
    scene = play.scene
    first = scene.leader()
    assert first is not None
    scene.kill(first)
    taken_over_s = wait_for(lambda: scene.leader() not in (None, first), "another leader")
    scene.kill("worker")
    scene.start_worker("second worker")
    return {"taken_over_s": round(taken_over_s, 2)}


def broker(play: Play) -> Told:
    """Kill the broker while half of the jobs run, order the rest without it, start it again."""
    assert play.broker is not None
    half = len(play.jobs) // 2
    scene, later = play.scene, play.jobs[half:]
    play.jobs = play.jobs[:half]
    play.begin()
    play.jobs = [*play.jobs, *later]
    play.broker.kill()
    scene.order(later)
    time.sleep(min(play.away_s, 5.0))
    play.broker.start()
    return {"ordered_while_away": len(later)}


def _restart(how: signal.Signals) -> Callable[[Play], Told]:
    def hurt(play: Play) -> Told:
        play.begin()
        play.postgres.end(how)
        started = time.monotonic()
        time.sleep(play.rng.uniform(0, 2))
        play.postgres.start()
        return {"away_s": round(time.monotonic() - started, 1)}

    return hurt


def away(play: Play) -> Told:
    """Cut everybody off from the database for long, and let them find it again."""
    play.begin()
    play.postgres.wire.cut()
    time.sleep(play.away_s)
    play.postgres.wire.mend()
    return {"away_s": play.away_s}


def jolt(play: Play) -> Told:
    """Reset every connection to the database once in the middle of each job, one after another."""
    scene, ended = play.scene, 0
    jobs, play.jobs = play.jobs, play.jobs[:1]
    play.begin()
    play.jobs = jobs
    for name in jobs:
        if name not in scene.runs:
            scene.order([name])
        scene.await_middle([name])
        time.sleep(play.rng.uniform(0, 1))
        ended += play.postgres.wire.jolt()
        scene.await_end([name])
    return {"connections_reset": ended}


def terminate(play: Play) -> Told:
    """End every connection from within the server, twice, as an administrator does."""
    play.begin()
    ended = play.postgres.end_all_connections()
    time.sleep(play.rng.uniform(1, 3))
    ended += play.postgres.end_all_connections()
    return {"connections_ended": ended}


def disk(play: Play) -> Told:
    """Give the worker's home no byte of room; jobs must say so, and go on by a retry with room."""
    scene = play.scene
    home = Path(str(scene.environment["FLYWHEEL_HOME"]))
    kept = home.with_name("kept")
    home.rename(kept)
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(home)], check=True)
    try:
        shutil.copytree(kept, home, dirs_exist_ok=True)
        filler = home / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        play.begin()
        scene.await_end(play.jobs)
        failed = {n: scene.state(n)[3] for n in play.jobs if scene.state(n)[0] == "failed"}
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=256m", str(home)], check=True)
        for name in failed:
            _retry(scene, name)
        scene.await_end(play.jobs)
        named = sum("No space left" in str(error) for error in failed.values())
        return {"failed_for_want_of_room": len(failed), "of_them_said_so": named}
    finally:
        scene.kill_all()
        subprocess.run(["umount", "-l", str(home)], check=False)


def _retry(scene: Scene, name: str) -> None:
    from foundation.database import session_scope
    from foundation.runs import retry

    with session_scope() as session:
        retry(session, scene.runs[name])


def clock(play: Play) -> Told:
    """Set one worker's clock two hours ahead and one scheduler's back, while jobs run."""
    scene = play.scene
    folder = Path(tempfile.mkdtemp(dir=scene.folder))
    library = folder / "clock.so"
    source = Path(__file__).with_name("faults_clock.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    clocks = {name: folder / name for name in ("worker", "one", "other")}
    for path in clocks.values():
        path.write_text("0\n")

    def own(name: str) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(clocks[name])}

    scene.start_worker(**own("worker"))
    for name in ("one", "other"):
        scene.start_scheduler(name, **own(name))
    wait_for(lambda: scene.leader() is not None, "a leader")
    scene.order(play.jobs)
    scene.await_middle(play.jobs[:2])
    for seconds in (7_200, -7_200):
        clocks["worker"].write_text(f"{seconds}\n")
        for name in ("one", "other"):
            clocks[name].write_text(f"{-seconds}\n")
        time.sleep(4)
    return {"jumps_s": [7_200, -7_200]}


def slow_acknowledgement(play: Play) -> Told:
    """Let jobs take longer than RabbitMQ waits for an acknowledgement (5 s instead of 1,800)."""
    play.begin()
    return {}


FAULTS = {
    "worker": Fault("kill -9 of the worker", worker),
    "child": Fault("kill -9 of the processes that jobs run in", child),
    "leader": Fault("kill -9 of the leading scheduler, then of the worker", leader),
    "broker": Fault("kill -9 and start of the broker", broker, ["broker"]),
    "acknowledgement": Fault(
        "jobs longer than RabbitMQ waits for an acknowledgement", slow_acknowledgement, ["rabbitmq"]
    ),
    "fast": Fault("PostgreSQL restarted, fast", _restart(signal.SIGINT)),
    "immediate": Fault("PostgreSQL restarted, immediate", _restart(signal.SIGQUIT)),
    "crash": Fault("kill -9 of PostgreSQL", _restart(signal.SIGKILL)),
    "away": Fault("nobody reaches PostgreSQL", away),
    "jolt": Fault("all connections to PostgreSQL reset, once in each job", jolt),
    "terminate": Fault("all connections ended by PostgreSQL, twice", terminate),
    "disk": Fault("disk of the workers full, then retried", disk, ["root"]),
    "clock": Fault("clocks of worker and schedulers jump by 2 h, apart", clock, ["cc"]),
}


def lacks(fault: Fault, broker_name: str) -> str | None:
    """Return why a fault cannot be shown here; None if it can."""
    for need in fault.needs:
        if need == "broker" and broker_name == "embedded":
            return "its broker is PostgreSQL itself"
        if need == "rabbitmq" and broker_name != "rabbitmq":
            return "RabbitMQ alone does that"
        if need == "root" and os.geteuid() != 0:
            return "needs root, to mount a small disk"
        if need == "cc" and shutil.which("cc") is None:
            return "needs a C compiler"
    return None
