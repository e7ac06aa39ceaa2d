"""A wire between the processes that are hurt and the test database, and jobs on a small ground."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from brokers import Broker

from benchmarks.faults_jobs import model_server, prepare
from benchmarks.faults_scene import Scene, played
from benchmarks.faults_servers import Wire
from foundation.settings import get_settings

QUICK = {"FLYWHEEL_HEARTBEAT_S": "0.5", "FLYWHEEL_LOST_AFTER_S": "6"}


@pytest.fixture
def wire(database: str) -> Iterator[Wire]:
    """A wire to the test server, whole again at the end."""
    parts = urlsplit(database)
    folder = parse_qs(parts.query).get("host")
    made = Wire(Path(folder[0]) if folder else parts.port or 5432)
    yield made
    made.cut()


@pytest.fixture
def wired_url(database: str, wire: Wire) -> str:
    """The test database over the wire."""
    parts = urlsplit(database)
    password = f":{parts.password}" if parts.password else ""
    return f"postgresql://{parts.username}{password}@127.0.0.1:{wire.port}{parts.path}"


@pytest.fixture
def scene_on(
    database: str, wired_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Broker], Scene]]:
    """`scene_on(broker)`: the ground prepared; nothing runs yet."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    with model_server() as model_url:
        scenes = []

        def make(broker: Broker) -> Scene:
            ground = prepare(tmp_path / "files", model_url, trains=False)
            environment = {
                **broker.environment,
                "FLYWHEEL_HOME": os.environ["FLYWHEEL_HOME"],
                "FLYWHEEL_DATABASE_URL": wired_url,
            }
            scenes.append(Scene(database, environment, ground, tmp_path))
            return scenes[0]

        with _ended(scenes):
            yield make


@contextmanager
def _ended(scenes: list[Scene]) -> Iterator[None]:
    try:
        yield
    finally:
        for scene in scenes:
            with played(scene):
                pass
