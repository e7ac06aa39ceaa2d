"""Each fault once, on a broker of each kind: jobs end as if nothing had been.

The same in full, with servers that are killed: `make bench-faults`.
"""

from collections.abc import Callable
from typing import Any

import pytest
from brokers import Broker

from benchmarks.faults_scene import Scene, wait_for
from benchmarks.faults_servers import Wire
from foundation.database import session_scope
from foundation.runs import cancel, get_run, retry

pytestmark = pytest.mark.slow

BUILT = [[0, "examples", 200, 200, 0], [1, 200]]


def built(scene: Scene) -> list[Any]:
    """What a build has left: how many examples, and one dataset with all of its rows."""
    examples, *datasets = scene.effect("build")
    assert len(datasets) == 1, datasets
    return [examples, [datasets[0][0], sum(datasets[0][2:])]]


def test_a_worker_of_each_broker_is_hurt_in_every_way(
    broker: Broker, scene_on: Callable[[Broker], Scene], wire: Wire
) -> None:
    """Messages are lost, the wire is jolted, the worker is killed, the wire is cut for long."""
    scene = scene_on(broker)
    scene.order(["build"])
    broker.await_messages(1)
    broker.lose_messages()
    with session_scope() as session:  # a person does not wait for the sweeper, here
        cancel(session, scene.runs["build"])
        retry(session, scene.runs["build"])
    schedulers = ("one", "other") if broker.name == "embedded" else ("one",)
    for name in schedulers:  # the lead has nothing to do with the broker
        scene.start_scheduler(name)
    scene.start_worker()
    scene.await_middle(["build"])
    wire.jolt()
    wait_for(lambda: get_attempts(scene) >= 2 or scene.state("build")[0] == "done", "another start")
    scene.await_middle(["build"])
    first = scene.leader()
    scene.kill("worker")
    if len(schedulers) > 1 and first is not None:
        scene.kill(first)
    wire.cut()
    scene.start_worker("second worker")
    scene.order(["evaluation"])
    wire.mend()
    scene.await_end(["build", "evaluation"])
    wait_for(lambda: scene.leader() in scene.children, "a leader that lives")
    for name in ("build", "evaluation"):
        status, attempts, _, error = scene.state(name)
        assert status == "done", error
        assert attempts <= 3
    assert built(scene) == BUILT
    assert [row[1:] for row in scene.effect("evaluation")] == [
        [1.0, 24, 48, 1, 1],
        [0.5, 24, 48, 1, 1],
    ]


def get_attempts(scene: Scene) -> int:
    with session_scope() as session:
        return get_run(session, scene.runs["build"]).attempts
