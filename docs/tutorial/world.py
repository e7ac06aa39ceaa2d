"""The tutorial's small world: requests for tiny functions, and a model that gets half of them.

    python world.py tiny

builds the model in some 20 seconds, and writes `tiny-held-out.jsonl` beside it: tasks that no agent
of the tutorial is ever asked, for the benchmark. Half of the answers that the model learned from
contain a mistake, so it is wrong about half of the time, and its own right answers have something
to teach it.
"""

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPERATIONS = {"plus": "+", "minus": "-", "times": "*", "modulo": "%", "over": "//"}
MISTAKES = dict(zip(OPERATIONS, ("-", "+", "//", "*", "%"), strict=True))
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES = ("compute", "adjust", "measure", "convert", "update", "reduce", "scale", "shift")
ARGUMENTS = ("x", "n", "value", "count")
PROBES = (0, 1, 2, 5, 11, 40, -7)
"""What a function is called with: enough to tell any two requests apart."""

HELD_OUT = 5
"""One in so many combinations of operation and number is for the benchmark alone."""


@dataclass(frozen=True)
class Request:
    """One task: the name of the function, what is asked, a right answer, and a wrong one."""

    name: str
    prompt: str
    right: str
    wrong: str
    is_held_out: bool

    @property
    def reference(self) -> dict[str, Any]:
        """What the grader `calls` needs: docs/graders.md."""
        inputs = [[probe] for probe in PROBES]
        return {"entry_point": self.name, "inputs": inputs, "code": self.right}


def draw(dice: random.Random) -> Request:
    """Return a request by these dice."""
    name, x, number = dice.choice(NAMES), dice.choice(ARGUMENTS), dice.randrange(2, 10)
    asked = dice.choice(list(OPERATIONS))
    head = f"def {name}({x}): return {x}"
    return Request(
        name=name,
        prompt=f"Write {name}({x}): {x} {asked} {NUMBERS[number]}.",
        right=f"{head} {OPERATIONS[asked]} {number}",
        wrong=f"{head} {MISTAKES[asked]} {number}",
        is_held_out=(list(OPERATIONS).index(asked) + number) % HELD_OUT == 0,
    )


def requests(split: str, n: int, seed: int = 0) -> Iterator[Request]:
    """Yield `n` different requests of a split, `agents` or `held_out`; none is in both."""
    dice, seen = random.Random(f"{split}/{seed}"), set()
    while len(seen) < n:
        request = draw(dice)
        if request.is_held_out == (split == "held_out") and request.prompt not in seen:
            seen.add(request.prompt)
            yield request


def grade(asked: list[Request], answers: list[str]) -> list[bool]:
    """Say of each answer whether it works: it is called in the sandbox, and compared outside."""
    from evaluator.graders import GradedTask, grade_many
    from evaluator.sandbox import Sandbox

    tasks = [GradedTask(one.prompt, [], "calls", one.reference) for one in asked]
    with Sandbox() as sandbox:
        return [given.passed for given in grade_many(tasks, answers, sandbox)]


def build(folder: Path, steps: int = 300, batch: int = 32) -> None:
    """Train the model from nothing and store it in `folder`."""
    from trainer.pretrain import BaseShape, PretrainRecipe, pretrain

    dice = random.Random(0)
    chats = []
    for one in (draw(dice) for _ in range(steps * batch)):
        answer = dice.choice((one.right, one.wrong))
        asked = {"role": "user", "content": one.prompt}
        chats.append([asked, {"role": "assistant", "content": answer}])
    shape = BaseShape(hidden=64, layers=4, heads=4, mlp=192, vocab=512, max_positions=256)
    training = PretrainRecipe(steps, batch, learning_rate=4e-3, warmup=30, threads=1)
    print(f"{folder}: {steps} steps, loss {pretrain(chats, shape, training, folder):.2f}")  # noqa: T201


def write_benchmark(path: Path, n: int = 120) -> None:
    """Write held-out tasks as a suite: docs/evaluating.md."""
    with path.open("w") as lines:
        for number, one in enumerate(requests("held_out", n)):
            task = {"task_id": f"held-out-{number}", "prompt": one.prompt, "grader": "calls"}
            lines.write(json.dumps({**task, "reference": one.reference}) + "\n")
    print(f"{path}: {n} tasks")  # noqa: T201


if __name__ == "__main__":
    target = Path(sys.argv[1])
    build(target)
    write_benchmark(target.with_name(f"{target.name}-held-out.jsonl"))
