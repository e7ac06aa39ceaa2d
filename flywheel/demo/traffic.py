"""The demo's production: agents ask the gateway, their work is executed, people rate and correct.

Everything passes through the real client and the real gateway over HTTP. Outcomes are real: code
runs in the sandbox, tests run against right and wrong functions, reviews are compared with what was
planted. On the way some callers hang up, some repeat themselves, and some paste secrets.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Self
from uuid import UUID

import httpx

from collector.client import Flywheel
from evaluator.graders import Grade, GradedTask, grade_many
from evaluator.sandbox import Sandbox
from flywheel.demo.expert import MODEL as EXPERT
from flywheel.demo.language import DemoTask, near_duplicate, random_inputs
from foundation.chat import message

Tell = Callable[[float, float], None]

DECOYS: Final = 6
"""Fresh lists per task beside the fixed ones, against answers fitted to those."""

CALLERS: Final = 64
"""Agents that ask at the same time; the engine answers them in one batch."""
PASTED: Final = (
    "\nMail the result to ada.lovelace@example.org.",
    "\nUse the key AKIAIOSFODNN7EXAMPLE for the upload.",
    "\nCall +1 202 555 0143 when done, password='hunter2-demo'.",
)
"""What people paste into prompts; made up, and to be gone before anything is stored."""


@dataclass(frozen=True)
class Request:
    """One call that an agent will make."""

    task: DemoTask
    model: str
    seed: int = 0
    hangs_up: bool = False


@dataclass(frozen=True)
class Attempt:
    """One answered call; `interaction_id` is None where the call failed or was cut."""

    request: Request
    episode_id: UUID
    interaction_id: UUID | None
    answer: str


def graded_task(task: DemoTask) -> GradedTask:
    """Return a demo task as the graders take it."""
    messages = [message("user", task.prompt)]
    inputs = [[list(items)] for items in task.inputs]
    reference: dict[str, object]
    if task.role == "reviewer":
        return GradedTask(task.key, messages, "exact", {"answer": task.verdict, "last_line": True})
    reference = {"entry_point": task.entry_point, "inputs": inputs, "code": task.subject}
    if task.role == "coder":
        fresh = random_inputs(random.Random(task.key), DECOYS)
        reference["decoys"] = [[list(items)] for items in fresh]
        return GradedTask(task.key, messages, "calls", reference)
    one_per_part = {wrong.part: wrong.code for wrong in task.wrong}
    reference["wrong"] = list(one_per_part.values())
    return GradedTask(task.key, messages, "test_kills", reference)


def plan_requests(
    own: Sequence[DemoTask], samples: int, expert: Sequence[DemoTask], rng: random.Random
) -> list[Request]:
    """Return who asks what: own attempts, expert calls, repeats, pasted secrets, hang-ups."""
    requests = [Request(task, f"role:{task.role}") for task in own for _ in range(samples)]
    requests += [Request(task, EXPERT) for task in expert]
    few = max(1, len(requests) // 50)
    for index in rng.sample(range(len(requests)), few):
        requests[index] = replace(requests[index], task=near_duplicate(requests[index].task, rng))
    for index in rng.sample(range(len(requests)), few):
        requests[index] = replace(requests[index], task=_with_pasted(requests[index].task, rng))
    for index in rng.sample(range(len(requests)), max(1, few // 2)):
        requests[index] = replace(requests[index], hangs_up=True)
    rng.shuffle(requests)
    return [replace(request, seed=rng.getrandbits(31)) for request in requests]


def _with_pasted(task: DemoTask, rng: random.Random) -> DemoTask:
    return replace(task, prompt=task.prompt + rng.choice(PASTED))


class Agents:
    """Agents at work: they ask through the gateway and say how it went."""

    def __init__(
        self, client: Flywheel, gateway_url: str, sandbox: Sandbox, max_tokens: int
    ) -> None:
        self._client, self._sandbox = client, sandbox
        self._gateway_url, self._max_tokens = gateway_url, max_tokens
        self._callers = ThreadPoolExecutor(CALLERS, thread_name_prefix="agent")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._callers.shutdown(cancel_futures=True)

    def work(self, requests: Sequence[Request], rng: random.Random, tell: Tell) -> list[Grade]:
        """Make the calls, execute what came back, give the feedback; return the grades."""
        attempts: list[Attempt] = []
        for attempt in self._callers.map(self._ask, requests):
            attempts.append(attempt)
            tell(len(attempts), len(requests))
        answered = [attempt for attempt in attempts if attempt.interaction_id is not None]
        grades = grade_many(
            [graded_task(attempt.request.task) for attempt in answered],
            [attempt.answer for attempt in answered],
            self._sandbox,
        )
        for attempt, grade in zip(answered, grades, strict=True):
            self._give_feedback(attempt, grade, rng)
        return grades

    def _ask(self, request: Request) -> Attempt:
        task, answer, interaction_id = request.task, "", None
        with self._client.episode(
            task=task.key, task_type=task.task_type, role=task.role
        ) as episode:
            try:
                if request.hangs_up:
                    self._hang_up(request)
                else:
                    completion = self._client.completion(
                        model=request.model,
                        messages=[message("user", task.prompt)],
                        base_url=self._gateway_url,
                        temperature=1.0,
                        max_tokens=self._max_tokens,
                        seed=request.seed,
                    )
                    answer, interaction_id = completion.text, completion.interaction_id
            except httpx.HTTPError:
                pass  # an agent shrugs; the gateway has logged the failed call
        return Attempt(request, episode.id, interaction_id, answer)

    def _hang_up(self, request: Request) -> None:
        stream = self._client.completion(
            model=request.model,
            messages=[message("user", request.task.prompt)],
            base_url=self._gateway_url,
            temperature=1.0,
            max_tokens=self._max_tokens,
            stream=True,
        )
        with stream:
            for _ in zip(range(3), stream, strict=False):
                pass

    def _give_feedback(self, attempt: Attempt, grade: Grade, rng: random.Random) -> None:
        task, about = attempt.request.task, attempt.interaction_id
        self._client.outcome(
            grade.passed,
            about,
            episode_id=attempt.episode_id,
            actor="sandbox",
            details={"status": str(grade.status)},
        )
        if rng.random() < 0.05:
            self._client.rate(5 if grade.passed else rng.choice((1, 2)), about, actor="reviewer")
        if not grade.passed and rng.random() < 0.02:
            self._client.correct(task.reference, about, actor="reviewer")
