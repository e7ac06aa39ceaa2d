"""How long a correction takes to reach who answers: `learning_delay`, with real processes.

On the demo's base, with a home and an embedded database of its own, whatever the environment says;
worker, scheduler, engine, gateway and service run as in production.

Agents work, a first adapter is trained by the role's schedule and serves. Then a wrong answer is
corrected by `POST /v1/feedback`, as by the page of a call, and the prompt is asked again and again
through the gateway until a new version answers, and until it answers as it was corrected.
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.bars import Figure
from benchmarks.demo_tasks import base_folder
from collector.client import Flywheel
from curation.recipe import CurationRecipe
from curation.split import split_of, task_split_key
from curation.tables import TRAIN
from evaluator.sandbox import Sandbox
from evaluator.suites import add_suite
from flywheel import scheduling
from flywheel.demo.home import PROJECT, prepare_home
from flywheel.demo.language import DemoTask, tasks
from flywheel.demo.traffic import Agents, Request, graded_task
from flywheel.processes import Processes, free_port
from flywheel.scheduling_tasks import SWAPPED
from foundation.chat import message
from foundation.database import database_url, forget_connections, session_scope
from foundation.errors import FlywheelError
from foundation.settings import get_settings
from router.promote import initial, serving_version
from trainer.registry import ensure_base_version
from trainer.schedule import GUARDED, Orders, Triggers

ROLE: Final = "coder"
BAR_S: Final = 300.0
CORRECTIONS: Final = 5
TRAFFIC: Final = 150
SAMPLES: Final = 4
SUITE_TASKS: Final = 100
MAX_TOKENS: Final = 80
_PLACES: Final = ("FLYWHEEL_HOME", "FLYWHEEL_DATABASE_URL", "FLYWHEEL_BROKER_URL")


@dataclass
class House:
    """The processes under way and the doors to them."""

    client: Flywheel
    gateway: str
    service: str
    agents: Agents

    def ask(self, task: DemoTask) -> Any:
        """Ask the gateway for the one most likely answer to a task."""
        with self.client.episode(task=task.key, task_type=task.task_type, role=ROLE):
            return self.client.completion(
                model=f"role:{ROLE}",
                messages=[message("user", task.prompt)],
                base_url=self.gateway,
                temperature=0.0,
                max_tokens=MAX_TOKENS,
            )

    def arrive(self) -> None:
        """Wait until every record is stored."""
        if not self.client.flush(60.0):
            raise FlywheelError(f"records did not arrive: {self.client.counts()}")


def measure(quick: bool) -> list[Figure]:
    """Return how long corrections took, in whole and in parts; quick: one correction."""
    base = base_folder().absolute()
    with _own_home() as home, _house(home, base) as house:
        first = _first_iteration(house)
        wrong = _wrong_answers(house, 1 if quick else CORRECTIONS)
        delays = [_correct(house, task) for task in wrong]
    return [*_figures(delays), _whole(first)]


@contextmanager
def _own_home() -> Iterator[Path]:
    """Let the settings mean a new home with an empty embedded database, for as long as it lasts."""
    before = {name: os.environ.pop(name, None) for name in _PLACES}
    with tempfile.TemporaryDirectory(prefix="bench-online-", ignore_cleanup_errors=True) as folder:
        os.environ["FLYWHEEL_HOME"] = folder
        try:
            _read_settings_anew()
            yield Path(folder)
        finally:
            os.environ.update({name: value for name, value in before.items() if value is not None})
            if before["FLYWHEEL_HOME"] is None:
                del os.environ["FLYWHEEL_HOME"]
            _read_settings_anew()


def _read_settings_anew() -> None:
    get_settings.cache_clear()
    forget_connections()


@contextmanager
def _house(home: Path, base: Path) -> Iterator[House]:
    """Start everything, let the base serve, store the benchmark and the schedule."""
    with ExitStack() as stack:
        prepare_home()
        settings = get_settings()
        ports = {name: free_port() for name in ("port", "gateway_port", "engine_port")}
        for name, port in ports.items():
            setattr(settings, name, port)
        processes = stack.enter_context(Processes(home, _environment(home, ports)))
        for name in ("worker", "serve", "scheduler", "gateway"):
            processes.start(name, name)
        processes.start("engine", "engine", "--base", str(base))
        for port in ports.values():
            processes.wait_for_http(f"http://127.0.0.1:{port}/healthz")
        _introduce(str(base))
        service = f"http://127.0.0.1:{ports['port']}"
        client = Flywheel(service, spool=home / "spool" / "agents", project=PROJECT)
        stack.callback(client.close)
        gateway = f"http://127.0.0.1:{ports['gateway_port']}/v1"
        sandbox = stack.enter_context(Sandbox())
        agents = stack.enter_context(Agents(client, gateway, sandbox, MAX_TOKENS))
        yield House(client, gateway, service, agents)


def _environment(home: Path, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "FLYWHEEL_HOME": str(home),
        "FLYWHEEL_DATABASE_URL": database_url(),
        "FLYWHEEL_HOST": "127.0.0.1",
        "FLYWHEEL_TORCH_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **{f"FLYWHEEL_{name.upper()}": str(port) for name, port in ports.items()},
    }


def _introduce(base: str) -> None:
    held_out = tasks(ROLE, "held_out", SUITE_TASKS, 0)
    orders = Orders({"preset": "demo"}, suite="demo-online", promote=GUARDED, max_tokens=MAX_TOKENS)
    with session_scope() as session:
        version = ensure_base_version(session, ROLE, base)
        initial(session, ROLE, version, reason="the untrained base", actor="benchmark")
        add_suite(session, "demo-online", ROLE, map(graded_task, held_out), origin="held out")
        scheduling.set_schedule(session, ROLE, Triggers(corrections=1), orders, actor="benchmark")


def _first_iteration(house: House) -> dict[str, Any]:
    """Let agents work, train on it by the schedule, and return how that went."""
    rng = random.Random(0)
    asked = tasks(ROLE, "train", TRAFFIC, 0)
    requests = [
        Request(task, f"role:{ROLE}", rng.getrandbits(31)) for task in asked for _ in range(SAMPLES)
    ]
    house.agents.work(requests, rng, lambda *_: None)
    house.arrive()
    began = time.monotonic()
    with session_scope() as session:
        (found,) = scheduling.list_explained(session)
        if not found["under_way"]:  # else a correction by one of the agents was quicker
            scheduling.run_now(session, ROLE, "benchmark")
    last = _settled(began, BAR_S)
    if last["outcome"] != SWAPPED:
        raise FlywheelError(f"the first adapter does not serve: {last}")
    return last


def _settled(began: float, patience_s: float) -> dict[str, Any]:
    """Wait until no iteration is under way and none is due; return how the last one went."""
    while True:
        with session_scope() as session:
            (found,) = scheduling.list_explained(session)
        waiting = found["under_way"] or found["n_corrections"]
        if found["last"] and not waiting:
            last: dict[str, Any] = found["last"]
            return last
        if time.monotonic() - began > patience_s:
            raise FlywheelError(f"no iteration ended within {patience_s:.0f} s: {found}")
        time.sleep(0.5)


def _wrong_answers(house: House, n: int) -> list[DemoTask]:
    """Return tasks that who serves gets wrong; a held-out one would never be learned."""
    found: list[DemoTask] = []
    for task in tasks(ROLE, "train", 400, 99):
        if split_of(task_split_key(task.key), CurationRecipe()) != TRAIN:
            continue
        if len(found) == n:
            break
        if house.ask(task).text.strip() != task.reference.strip():
            found.append(task)
    return found


def _correct(house: House, task: DemoTask) -> dict[str, Any]:
    """Correct the answer to one task and wait until the gateway answers as it was corrected."""
    with session_scope() as session:
        before = serving_version(session, ROLE)
    assert before is not None
    answered = house.ask(task)
    house.arrive()
    began = time.monotonic()
    said = {
        "kind": "correction",
        "interaction_id": str(answered.interaction_id),
        "text": task.reference,
        "source": "human",
        "actor": "benchmark",
    }
    httpx.post(f"{house.service}/v1/feedback", json=said, timeout=30).raise_for_status()
    served_s = learned_s = None
    while time.monotonic() - began < BAR_S and learned_s is None:
        time.sleep(0.5)
        with session_scope() as session:
            now_serving = serving_version(session, ROLE)
            (found,) = scheduling.list_explained(session)
        if now_serving is None or now_serving.id == before.id:
            if found["n_corrections"] or found["under_way"] or time.monotonic() - began < 15:
                continue
            break  # it was held back
        served_s = served_s or time.monotonic() - began
        if house.ask(task).text.strip() == task.reference.strip():
            learned_s = time.monotonic() - began
        elif time.monotonic() - began > served_s + 15:
            break
    last = _settled(began, BAR_S)
    return {"served_s": served_s, "learned_s": learned_s, "before": answered.text, "last": last}


def _figures(delays: list[dict[str, Any]]) -> Iterator[Figure]:
    learned = [one["learned_s"] for one in delays]
    worst = None if None in learned else max(learned)
    note = "" if worst is not None else f"not learned: {[d['last'] for d in delays]}"
    yield Figure(
        "learning_delay: correction to corrected answer, the slowest",
        worst,
        "s",
        at_most=BAR_S,
        detail={"each": learned, "served_after": [one["served_s"] for one in delays]},
        note=note,
    )
    for part in ("curate", "train", "benchmark", "deploy"):
        took = [one["last"]["parts_s"].get(part) for one in delays]
        known = [seconds for seconds in took if seconds is not None]
        yield Figure(f"of it: {part}", max(known) if known else None, "s", detail={"each": took})
    n = sum(one is not None for one in learned)
    yield Figure("corrections learned", n / len(delays), "share", detail={"of": len(delays)})


def _whole(first: dict[str, Any]) -> Figure:
    return Figure(
        "a whole iteration from the log to a serving version",
        first["iteration_s"],
        "s",
        at_most=86_400.0,
        detail=first["parts_s"],
    )
