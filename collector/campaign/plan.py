"""What a campaign asks, drawn so that the same specification always gives the same plan."""

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from string import Template
from typing import Any

from collector.campaign.spec import CampaignSpec
from foundation.chat import Message, message


@dataclass(frozen=True)
class Planned:
    """One place of the plan."""

    number: int
    topic: str | None
    difficulty: str | None
    model: str


@dataclass(frozen=True)
class Task:
    """A task: its text, and what its check needs (`entry_point`, `test`, `expected`)."""

    text: str
    needs: dict[str, Any] = field(default_factory=dict)


def plan(spec: CampaignSpec) -> list[Planned]:
    """Return the places of a campaign; each mix is kept to the nearest whole number."""
    dice = random.Random(f"{spec.seed}:plan")
    weights = {model.label: model.weight for model in spec.models}
    columns = [
        _shuffled(spec.topics, spec.n, dice),
        _shuffled(spec.difficulties, spec.n, dice),
        _shuffled(weights, spec.n, dice),
    ]
    places = [
        Planned(number, topic, difficulty, str(model))
        for number, (topic, difficulty, model) in enumerate(zip(*columns, strict=True))
    ]
    items = spec.task.items
    return places if items is None else [_of_item(place, items[place.number]) for place in places]


def _of_item(place: Planned, item: Any) -> Planned:
    """Return a place with the topic and difficulty that its given task names."""
    said = item if isinstance(item, Mapping) else {}
    own = {name: said[name] for name in ("topic", "difficulty") if isinstance(said.get(name), str)}
    return replace(place, **own)


def apportioned(weights: Mapping[str, float], n: int) -> dict[str, int]:
    """Share out `n` by weight: largest remainders, ties by order. Empty for no weights."""
    total = sum(weights.values())
    exact = {name: n * weight / total for name, weight in weights.items()} if total else {}
    counts = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def drawn_text(template: str, spec: CampaignSpec, planned: Planned, draw: int) -> str:
    """Fill a template for one place; a further `draw` draws other values."""
    dice = random.Random(f"{spec.seed}:{planned.number}:{draw}")
    words = {name: dice.choice(values) for name, values in spec.task.values.items()}
    return Template(template).substitute(
        words,
        topic=planned.topic or "",
        difficulty=planned.difficulty or "",
        number=planned.number,
    )


def task_of(value: Any) -> Task | None:
    """Return the task in a text, or in an object with `task` or `prompt`; None if it has none."""
    if isinstance(value, Mapping):
        text = value.get("task") or value.get("prompt")
        needs = {name: item for name, item in value.items() if name not in ("task", "prompt")}
    else:
        text, needs = value, {}
    return Task(text.strip(), needs) if isinstance(text, str) and text.strip() else None


def conversation(spec: CampaignSpec, planned: Planned, task: Task) -> list[Message]:
    """Return the messages that put a task to a model."""
    asked = Template(spec.answer.template).substitute(
        task=task.text,
        topic=planned.topic or "",
        difficulty=planned.difficulty or "",
        number=planned.number,
    )
    system = [message("system", spec.answer.system)] if spec.answer.system else []
    return [*system, message("user", asked)]


def fingerprint(text: str) -> str:
    """Return a hash that is the same for texts that differ only in case, spaces or punctuation."""
    words = re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFKC", text).casefold())
    kept = [word for word in words if word not in _LOOSE_PUNCTUATION]
    return sha256(" ".join(kept).encode("utf-8", "replace")).hexdigest()


_LOOSE_PUNCTUATION = frozenset(".,;:!?'\"`´’‘“”…")
"""What people add and leave out; operators and brackets make another task."""


def _shuffled(weights: Mapping[str, float], n: int, dice: random.Random) -> Sequence[str | None]:
    counts = apportioned(weights, n)
    names: list[str | None] = [name for name, count in counts.items() for _ in range(count)]
    dice.shuffle(names)
    return names or [None] * n
