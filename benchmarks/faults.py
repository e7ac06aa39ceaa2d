"""Hurt everything that jobs stand on, and compare what they leave with what undisturbed ones do.

    python -m benchmarks.faults [--quick] [--only worker,away] [--brokers embedded,redis,rabbitmq]

A PostgreSQL, a Redis and a RabbitMQ of this run's own; workers and two schedulers as processes;
an import, a build of a dataset, an evaluation with its verdict and a training, all at once. Each
fault strikes when they are in their middle. Exactly once means: every run ends as done, and the
rows of its effect are those of the run that nobody disturbed, hash by hash.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from kombu.transport.sqlalchemy import Channel as DatabaseChannel
from rich.console import Console

from benchmarks.bars import Figure, report
from benchmarks.faults_jobs import JOBS, Ground, model_server, prepare
from benchmarks.faults_kinds import FAULTS, Fault, Play, lacks, nothing
from benchmarks.faults_scene import HEARTBEAT_S, LOST_AFTER_S, NotInTime, Scene, played
from benchmarks.faults_servers import BROKERS, Broker, Postgres, RabbitMQ, has_broker

console = Console(stderr=True)
OF_DATABASE = ("fast", "immediate", "crash", "away", "jolt", "terminate")
ONCE_ENOUGH = ("child", "disk", "clock")
"""Faults that have nothing to do with the broker."""


def use(environment: Mapping[str, str | None]) -> None:
    """Let this process use other settings from now on."""
    from foundation.database import forget_connections, get_engine
    from foundation.queue import get_queue
    from foundation.settings import get_settings

    if get_engine.cache_info().currsize:
        get_engine().dispose()
    if get_queue.cache_info().currsize:
        get_queue().close()
    for engine, _ in DatabaseChannel._engines.values():  # kept for the whole process
        engine.dispose()
    DatabaseChannel._engines.clear()
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    get_settings.cache_clear()
    get_queue.cache_clear()
    forget_connections()


class Stage:
    """The servers, and the ground that each scene gets a copy of."""

    def __init__(self, folder: Path, model_url: str, *, trains: bool) -> None:
        self.folder, self.model_url = folder, model_url
        self.postgres = Postgres(folder)
        self.n_scenes = 0
        home = folder / "ground home"
        home.mkdir()
        self.run_sql('CREATE DATABASE "ground"')
        use(self._environment("ground", home, None))
        from flywheel.schema import upgrade

        upgrade()
        self.ground: Ground = prepare(folder / "files", model_url, trains=trains)
        use(self._environment("postgres", home, None))

    def run_sql(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        with psycopg.connect(self.postgres.direct_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _environment(self, name: str, home: Path, broker_url: str | None) -> dict[str, str | None]:
        return {
            "FLYWHEEL_HOME": str(home),
            "FLYWHEEL_DATABASE_URL": self.direct(name),
            "FLYWHEEL_BROKER_URL": broker_url,
            "FLYWHEEL_QUEUE_PREFIX": f"{name}-",
            "FLYWHEEL_HEARTBEAT_S": str(HEARTBEAT_S),
            "FLYWHEEL_LOST_AFTER_S": str(LOST_AFTER_S),
            "FLYWHEEL_ENGINE_URL": self.model_url,
        }

    def direct(self, name: str) -> str:
        """Return the URL of a database past the wire."""
        return self.postgres.direct_url.replace("/postgres?", f"/{name}?")

    @contextmanager
    def scene(self, broker: Broker | None) -> Iterator[Scene]:
        """Copy the ground, and use it in this process too."""
        from foundation.queue import declare_queues

        self.n_scenes += 1
        name = f"scene_{self.n_scenes}"
        folder = self.folder / name
        self.run_sql(f'CREATE DATABASE "{name}" TEMPLATE "ground"')
        home = folder / "home"
        shutil.copytree(self.folder / "ground home", home)
        environment = self._environment(name, home, broker.url if broker else None)
        use(environment)
        declare_queues()
        wired = f"postgresql://postgres@127.0.0.1:{self.postgres.wire.port}/{name}"
        environment["FLYWHEEL_DATABASE_URL"] = wired
        scene = Scene(self.direct(name), environment, self.ground, folder)
        try:
            with played(scene):
                yield scene
        finally:
            use(self._environment("postgres", home, None))
            self.postgres.wire.mend()


def measure(
    stage: Stage,
    fault: Fault,
    broker: Broker | None,
    jobs: Sequence[str],
    expected: dict[str, Any],
    options: argparse.Namespace,
) -> Figure:
    """Play one scene; with nothing expected yet, it becomes what the others are compared with."""
    by = broker.name if broker else "embedded broker"
    title = f"{fault.title}, {by}: jobs not done exactly once"
    console.print(f"{fault.title}, {by} …")
    rng = random.Random(options.seed)
    with stage.scene(broker) as scene:
        play = Play(scene, stage.postgres, broker, list(jobs), rng, 8.0 if options.quick else 60.0)
        began, said = time.monotonic(), ""
        told: dict[str, Any] = {}
        try:
            told = fault.hurt(play)
            scene.await_end(jobs)
        except NotInTime as error:
            said = str(error)
        seconds = time.monotonic() - began
        found = {n: (*scene.state(n), scene.effect(n)) for n in jobs if n in scene.runs}
    if not expected:
        if said or any(status != "done" for status, *_ in found.values()):
            raise RuntimeError(f"undisturbed jobs do not end well: {said} {found}")
        expected.update({n: effect for n, (*_, effect) in found.items()}, seconds=seconds)
    wrong = [
        n
        for n in jobs
        if n not in found or found[n][0] != "done" or found[n][-1] != expected.get(n)
    ]
    attempts = ", ".join(f"{n} {found[n][1]}" for n in jobs if n in found)
    lost_s = max(0.0, seconds - expected["seconds"])
    note = f"{said}; " if said else ""
    note += f"starts: {attempts}; {lost_s:.0f} s longer"
    note += "".join(f"; {k.replace('_', ' ')} {v}" for k, v in told.items())
    detail = {
        n: {"status": s, "attempts": a, "error": e, "effect": f, "expected": expected.get(n)}
        for n, (s, a, _, e, f) in found.items()
    }
    console.print(f"  {len(wrong)} not exactly once; {note}", highlight=False)
    return Figure(
        title, len(wrong), "", at_most=0, note=note, detail={"jobs": detail, **told, "wrong": wrong}
    )


def leads(figures: Sequence[Figure]) -> list[Figure]:
    """Return how long it took until another scheduler led."""
    taken = [f.detail["taken_over_s"] for f in figures if "taken_over_s" in f.detail]
    return (
        [Figure("another scheduler leads after kill -9", max(taken), "s", at_most=5)]
        if taken
        else []
    )


def play_all(stage: Stage, options: argparse.Namespace) -> list[Figure]:
    """Play the chosen faults on the chosen brokers."""
    jobs = [name for name in JOBS if not (options.quick and name == "training")]
    figures: list[Figure] = []
    expected: dict[str, Any] = {}
    undisturbed = Fault("undisturbed", nothing)
    measure(stage, undisturbed, None, jobs, expected, options)  # says what is right
    for position, name in enumerate(options.brokers):
        if name != "embedded" and not has_broker(name):
            figures.append(Figure(name, None, "", note=f"{BROKERS[name][0]} is not installed"))
            continue
        broker = BROKERS[name][1](name, stage.folder / name) if name != "embedded" else None
        try:
            figures.append(measure(stage, undisturbed, broker, jobs, expected, options))
            for key in options.only:
                if key in ONCE_ENOUGH and position > 0 or key == "acknowledgement":
                    continue
                if options.quick and position > 0 and key in OF_DATABASE[1:]:
                    continue
                reason = lacks(FAULTS[key], name)
                if reason is None:
                    figures.append(measure(stage, FAULTS[key], broker, jobs, expected, options))
                elif key in ONCE_ENOUGH:
                    figures.append(Figure(FAULTS[key].title, None, "", note=reason))
        finally:
            if broker is not None:
                broker.kill()
    if (
        "acknowledgement" in options.only
        and "rabbitmq" in options.brokers
        and has_broker("rabbitmq")
    ):
        hasty = RabbitMQ("rabbitmq", stage.folder / "hasty", consumer_timeout_s=5)
        try:
            figures.append(
                measure(stage, FAULTS["acknowledgement"], hasty, jobs, expected, options)
            )
        finally:
            hasty.kill()
    return [*figures, *leads(figures)]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="no training, shorter, fewer brokers")
    parser.add_argument("--only", default=",".join(FAULTS), help="faults, with commas between")
    parser.add_argument("--brokers", default="embedded,redis,rabbitmq")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args()
    options.only, options.brokers = options.only.split(","), options.brokers.split(",")
    for given, known in ((options.only, FAULTS), (options.brokers, ("embedded", *BROKERS))):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"got {', '.join(unknown)}, expected some of {', '.join(known)}")
    folder = Path(tempfile.mkdtemp(prefix="flywheel-faults-"))
    stage: Stage | None = None
    try:
        with model_server() as model_url:
            stage = Stage(folder, model_url, trains=not options.quick)
            figures = play_all(stage, options)
    finally:
        if stage is not None:
            stage.postgres.start()
            stage.postgres.stop()
        if options.keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    whole = options.only == list(FAULTS) and len(options.brokers) == 3 and not options.quick
    return report("faults" if whole else "faults-part", figures)


if __name__ == "__main__":
    sys.exit(main())
