"""The demo from beginning to end: one turn of the wheel (or several), everything real.

Start the services, build the tiny base, let agents work, turn the wheel, play live traffic until
the experiments decide, and read back what happened.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from collector.client import Flywheel
from curation.recipe import SABOTAGE, CurationRecipe
from evaluator.sandbox import Sandbox
from evaluator.suites import add_suite
from evaluator.tasks import EvaluationPlan
from flywheel.adapters import keep_adapters_loaded
from flywheel.cycle import TurnRecipe, turn
from flywheel.demo.base import ensure_base
from flywheel.demo.expert import Expert
from flywheel.demo.home import PROJECT, prepare_home
from flywheel.demo.language import ROLES, tasks
from flywheel.demo.recipe import DemoRecipe, LoraRecipe
from flywheel.demo.report import DemoReport, RoleReport, report_role
from flywheel.demo.screen import Screen, Tell
from flywheel.demo.traffic import Agents, Request, graded_task, plan_requests
from flywheel.processes import Processes, free_port
from foundation.database import database_url, session_scope
from foundation.errors import BadInput, FlywheelError
from foundation.settings import get_settings
from router.experiment import PLANS, ExperimentPlan, running_experiments
from router.promote import initial
from router.tasks import watch
from trainer.plan import DEMO
from trainer.recipe import PRESETS, Recipe
from trainer.registry import ensure_base_version

CONTROLLED = "coder"
"""The role that also trains a control: the same attempts, unverified."""

LIVE_BATCH = 40
"""Tasks per role between two looks at a running experiment."""


LIVE_MAX_PER_ARM = 300
"""Tasks per arm after which an undecided experiment leaves the baseline in place."""


@dataclass(frozen=True)
class DemoOptions:
    """What a person may ask of the demo."""

    seed: int = 0
    rounds: int = 1
    sabotage: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise BadInput("--rounds", self.rounds, "1 or more", "One round is the default.")
        if self.seed < 0:
            raise BadInput("--seed", self.seed, "0 or more", "Zero is the default.")
        if self.sabotage is not None and self.sabotage not in ROLES:
            raise BadInput(
                "--sabotage", self.sabotage, f"one of {', '.join(ROLES)}", "Name one of those."
            )


def run_demo(options: DemoOptions, screen: Screen, recipe: DemoRecipe | None = None) -> DemoReport:
    """Run the demo and return what it found; every process it started has ended by then."""
    recipe = recipe or DemoRecipe()
    with ExitStack() as stack:
        demo = stack.enter_context(_opened(options, recipe, screen))
        rounds = [demo.round(number) for number in range(options.rounds)]
    return DemoReport(options.seed, screen.seconds, rounds[-1], rounds)


@contextmanager
def _opened(options: DemoOptions, recipe: DemoRecipe, screen: Screen) -> Iterator["Demo"]:
    """Start everything the demo needs, and stop it all at the end."""
    with ExitStack() as stack:
        with screen.step("start", "Starting PostgreSQL and a Celery worker"):
            home = prepare_home()
            settings = get_settings()
            ports = {name: free_port() for name in ("port", "gateway_port", "engine_port")}
            for name, port in ports.items():
                setattr(settings, name, port)
            expert = stack.enter_context(Expert(options.seed, recipe.expert_accuracy))
            processes = stack.enter_context(Processes(home, _environment(ports, expert)))
            for name in ("worker", "serve", "scheduler"):
                processes.start(name, name)
        with screen.step("base", "Building the tiny base model") as tell:
            base = ensure_base(home, lambda step, steps, _: tell(step, steps))
        with screen.step("serve", "Starting engine and gateway"):
            processes.start("engine", "engine", "--base", str(base))
            processes.start("gateway", "gateway")
            for name in ports:
                processes.wait_for_http(f"http://127.0.0.1:{ports[name]}/healthz")
            suites = _introduce(options, recipe, str(base))
            sandbox = stack.enter_context(Sandbox())
            client = Flywheel(
                f"http://127.0.0.1:{ports['port']}",
                spool=home / "spool" / "agents",
                project=PROJECT,
            )
            stack.callback(client.close)
        gateway = f"http://127.0.0.1:{ports['gateway_port']}/v1"
        agents = stack.enter_context(Agents(client, gateway, sandbox, recipe.max_new_tokens))
        yield Demo(options, recipe, screen, agents, client, expert, base, suites)


def _environment(ports: Mapping[str, int], expert: Expert) -> dict[str, str]:
    upstreams = f'{{"expert": {{"base_url": "{expert.base_url}", "models": ["expert"]}}}}'
    return {
        "FLYWHEEL_HOME": str(get_settings().home.absolute()),
        "FLYWHEEL_DATABASE_URL": database_url(),
        "FLYWHEEL_UPSTREAMS": upstreams,
        "FLYWHEEL_HOST": "127.0.0.1",
        "FLYWHEEL_TORCH_THREADS": "1",  # two processes share two cores
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **{f"FLYWHEEL_{name.upper()}": str(port) for name, port in ports.items()},
    }


def _introduce(options: DemoOptions, recipe: DemoRecipe, base: str) -> dict[str, str]:
    """Let the base serve every role, and store each role's benchmark; return the suites."""
    suites = {}
    with session_scope() as session:
        for role in ROLES:
            version = ensure_base_version(session, role, base)
            initial(session, role, version, reason="the untrained base", actor="demo")
            held_out = tasks(role, "held_out", recipe.eval_tasks, options.seed)
            suite = add_suite(
                session, f"demo-{role}", role, map(graded_task, held_out), origin="demo, held out"
            )
            suites[role] = f"{suite.name}@{suite.version}"
    return suites


class Demo:
    """A demo under way: its services run, its agents wait for work."""

    def __init__(
        self,
        options: DemoOptions,
        recipe: DemoRecipe,
        screen: Screen,
        agents: Agents,
        client: Flywheel,
        expert: Expert,
        base: Path,
        suites: dict[str, str],
    ) -> None:
        self._options, self._recipe, self._screen = options, recipe, screen
        self._agents, self._client, self._expert = agents, client, expert
        self._base, self._suites = str(base), suites

    def round(self, number: int) -> dict[str, RoleReport]:
        """Turn the wheel once, from traffic to a decided experiment."""
        rng = random.Random(f"demo/{self._options.seed}/{number}")
        with self._screen.step("traffic", "Agents work: calls, executed answers, feedback") as tell:
            self._play(number, rng, tell)
        with ExitStack() as stages:
            turns = turn(list(ROLES), self._turn_recipe(), self._stage_teller(stages))
        with self._screen.step("experiment", "Live traffic until the experiments decide") as tell:
            self._play_live(number, rng, tell)
        with session_scope() as session:
            return {role: report_role(session, done) for role, done in turns.items()}

    def _play(self, number: int, rng: random.Random, tell: Tell) -> None:
        """Play the production traffic of one round, all roles mixed."""
        requests = []
        for role, wanted in self._recipe.roles.items():
            n = wanted.tasks + wanted.expert_calls
            asked = tasks(role, "train", n, 1000 * self._options.seed + number)
            own, expert = asked[: wanted.tasks], asked[wanted.tasks :]
            requests += plan_requests(own, wanted.samples, expert, rng)
        rng.shuffle(requests)
        self._expert.learn([request.task for request in requests])
        self._agents.work(requests, rng, tell)
        self._settle()

    def _play_live(self, number: int, rng: random.Random, tell: Tell) -> None:
        """Play live tasks of the roles in an experiment until each has ended."""
        most = 3 * LIVE_MAX_PER_ARM  # arms fill unevenly
        pools = {
            role: iter(tasks(role, "train", most, 1000 * self._options.seed + 500 + number))
            for role in ROLES
        }
        keep_adapters_loaded()
        done = 0
        while running := _running_roles():
            drawn = [t for role in running for t in islice(pools[role], LIVE_BATCH)]
            if not drawn:
                break
            requests = [Request(t, f"role:{t.role}", rng.getrandbits(31)) for t in drawn]
            self._agents.work(requests, rng, lambda *_: None)
            self._settle()
            watch()
            done += LIVE_BATCH
            tell(done, most)

    def _settle(self) -> None:
        """Let every record arrive: what is decided next must see it."""
        if not self._client.flush(60.0):
            raise FlywheelError(f"records did not arrive within 60 s: {self._client.counts()}")

    def _plan(self) -> ExperimentPlan:
        return replace(PLANS[DEMO], max_per_arm=LIVE_MAX_PER_ARM)

    def _turn_recipe(self) -> TurnRecipe:
        sabotaged = self._options.sabotage
        return TurnRecipe(
            suites=self._suites,
            curation={sabotaged: CurationRecipe(variant=SABOTAGE)} if sabotaged else {},
            training={
                role: _training(wanted.lora, self._options.seed)
                for role, wanted in self._recipe.roles.items()
            },
            evaluation=EvaluationPlan(
                samples_per_task=self._recipe.eval_samples,
                max_tokens=self._recipe.max_new_tokens,
                seed=self._options.seed,
                batch_size=64,
            ),
            experiment=self._plan(),
            profile=DEMO,
            base_models=dict.fromkeys(ROLES, self._base),
            controls=() if sabotaged == CONTROLLED else (CONTROLLED,),
            is_asked_for=True,
        )

    def _stage_teller(self, stages: ExitStack) -> Callable[[str, float, float], None]:
        """Return a `tell` for a turn, which opens a step on the screen for each stage."""
        tellers: dict[str, Tell] = {}

        def tell(stage: str, done: float, total: float) -> None:
            if stage not in tellers:
                stages.close()
                tellers[stage] = stages.enter_context(self._screen.step(stage, _TITLES[stage]))
            tellers[stage](done, total)

        return tell


_TITLES = {
    "curate": "Curating: dedupe, score by outcome, balance, split",
    "train": "Training a LoRA per role, and the control",
    "benchmark": "Benchmarking baseline, candidate and control",
}


def _training(lora: LoraRecipe, seed: int) -> Recipe:
    return replace(
        PRESETS["demo"],
        r=lora.rank,
        alpha=2 * lora.rank,
        lr=lora.learning_rate,
        epochs=lora.epochs,
        batch_size=lora.batch,
        warmup=lora.warmup_steps,
        seed=seed,
    )


def _running_roles() -> list[str]:
    with session_scope() as session:
        return sorted(experiment.role for experiment in running_experiments(session))
