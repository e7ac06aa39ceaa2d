"""What a campaign is to collect: the YAML file as checked values.

Texts are `string.Template`s: `$topic`, `$difficulty`, `$number` and each name of `values`; the
answer's template has `$task` too. A dollar sign itself is `$$`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any, ClassVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from collector.scrub import Scrubber
from foundation.errors import BadInput

CHECKS = ("python_asserts", "exact", "json")
_WORDS = ("topic", "difficulty", "number")
_REMEDY = "Correct the campaign file; docs/campaigns.md tells its fields."
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Model:
    """One model that answers.

    Args:
        model: litellm's name, such as `openai/gpt-4o-mini`.
        label: how reports call it; the model's name by default.
        weight: its share of the answers.
        api_base: address of an OpenAI-compatible server (…/v1).
        api_key_env: environment variable that holds the key; never the key itself.
        local: it runs on this machine, so only within the idle window.
        input_usd_per_mtok, output_usd_per_mtok: price in dollars per million tokens; by default
            litellm's, and nothing for a local model.
        parameters: further parameters of the request.
    """

    model: str
    label: str = ""
    weight: float = 1.0
    api_base: str | None = None
    api_key_env: str | None = None
    local: bool = False
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.model)
        _require(self.weight >= 0, f"models.{self.label}.weight", self.weight, "0 or more")
        for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
            price = getattr(self, name)
            _require(price is None or price >= 0, f"models.{self.label}.{name}", price, "0 or more")

    def connection(self) -> dict[str, Any]:
        """Return where the model is called and with which key.

        Raises:
            BadInput: the variable of the key is not set.
        """
        where: dict[str, Any] = {"api_base": self.api_base} if self.api_base else {}
        if self.api_key_env:
            key = os.environ.get(self.api_key_env)
            _require(key, f"models.{self.label}.api_key_env", self.api_key_env, "a set variable")
            where["api_key"] = key
        return where


@dataclass(frozen=True)
class Tasks:
    """Where tasks come from: exactly one of the first three.

    Args:
        template: text of a task.
        items: tasks themselves, or a JSONL file of them beside the YAML file; each a text, or an
            object with `task` and what the check needs, `topic` and `difficulty`.
        generator: prompt that makes a model invent a task; it answers with the task, or with a JSON
            object like one of `items`.
        model: label of the model that invents; the first by default.
        values: lists that a template's further names are drawn from.
        max_draws: how often a task is drawn anew when the one drawn exists already.
    """

    template: str | None = None
    items: list[Any] | None = None
    generator: str | None = None
    model: str | None = None
    values: dict[str, list[Any]] = field(default_factory=dict)
    max_draws: int = 4

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        given = [name for name in ("template", "items", "generator") if getattr(self, name)]
        _require(len(given) == 1, "task", given, "exactly one of template, items and generator")
        _require(self.max_draws >= 1, "task.max_draws", self.max_draws, "1 or more")
        for name, values in self.values.items():
            _require(values, f"task.values.{name}", values, "a list that is not empty")
        _require_names("task.template", self.template, {*_WORDS, *self.values})
        _require_names("task.generator", self.generator, {*_WORDS, *self.values})


@dataclass(frozen=True)
class Answer:
    """How a task is put to the model: `template` holds `$task`, `system` comes before it."""

    template: str = "$task"
    system: str | None = None

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        _require_names("answer.template", self.template, {*_WORDS, "task"})
        found = "task" in Template(self.template).get_identifiers()
        _require(found, "answer.template", self.template, "a text with $task")


@dataclass(frozen=True)
class Idle:
    """When local models may run; utilisations are shares from 0 to 1.

    Args:
        gpu_below, gpu_above: bounds of the busiest GPU's utilisation.
        cpu_below: bound of the one-minute load per core, used where there is no GPU to be seen.
        or_else: label of a model that answers in their stead; without one the campaign waits.
        poll_s: seconds that a measurement holds.
    """

    gpu_below: float | None = None
    gpu_above: float | None = None
    cpu_below: float | None = None
    or_else: str | None = None
    poll_s: float = 15.0

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        bounds = (self.gpu_below, self.gpu_above, self.cpu_below)
        _require(any(b is not None for b in bounds), "idle", bounds, "at least one bound")
        for name in ("gpu_below", "gpu_above"):
            share = getattr(self, name)
            _require(share is None or 0 <= share <= 1, f"idle.{name}", share, "a share from 0 to 1")
        _require(self.poll_s > 0, "idle.poll_s", self.poll_s, "more than 0 seconds")


@dataclass(frozen=True)
class Check:
    """How an answer is proven right: `python_asserts` runs it in the sandbox."""

    kind: str

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        _require(self.kind in CHECKS, "check.kind", self.kind, f"one of {', '.join(CHECKS)}")


@dataclass(frozen=True)
class CampaignSpec:
    """A campaign.

    Args:
        n: answers wanted.
        topics, difficulties: weight by name; the mix is kept exactly.
        concurrency: calls at once.
        requests_per_minute: calls started in any minute, those that invent tasks included.
        budget_usd: never passed; what a call may cost at most is set aside before it.
        max_tokens: of one answer.
        max_attempts: tries of a call that a provider fails.
        known_tasks: how many of the role's newest logged calls a task is compared with.
        seed: of all that is drawn.
    """

    name: str
    role: str
    n: int
    models: list[Model]
    task: Tasks
    answer: Answer = field(default_factory=Answer)
    task_type: str | None = None
    topics: dict[str, float] = field(default_factory=dict)
    difficulties: dict[str, float] = field(default_factory=dict)
    temperature: float | None = None
    max_tokens: int = 1024
    concurrency: int = 4
    requests_per_minute: float | None = None
    budget_usd: float | None = None
    timeout_s: float = 120.0
    max_attempts: int = 3
    idle: Idle | None = None
    check: Check | None = None
    known_tasks: int = 50_000
    seed: int = 0

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        for name in ("n", "max_tokens", "concurrency", "max_attempts"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("requests_per_minute", "budget_usd", "timeout_s"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, value, "more than 0")
        _require(self.known_tasks >= 0, "known_tasks", self.known_tasks, "0 or more")
        labels = [model.label for model in self.models]
        _require(labels, "models", labels, "at least one model")
        _require(len(labels) == len(set(labels)), "models", labels, "a label for each of them")
        _require_weights("models", {model.label: model.weight for model in self.models})
        for name in ("topics", "difficulties"):
            if getattr(self, name):
                _require_weights(name, getattr(self, name))
        instead = self.idle.or_else if self.idle else None
        for where, label in (("idle.or_else", instead), ("task.model", self.task.model)):
            _require(label in (None, *labels), where, label, f"one of {', '.join(labels)}")
        if self.task.items is not None:
            n_items = len(self.task.items)
            _require(self.n <= n_items, "n", self.n, f"at most the {n_items} of task.items")
        if instead is not None:
            is_local = self.model(instead).local
            _require(not is_local, "idle.or_else", instead, "a model that is not local")

    def model(self, label: str) -> Model:
        """Return a model by its label."""
        return next(model for model in self.models if model.label == label)

    def as_json(self) -> dict[str, Any]:
        """Return the specification as JSON values, from which `spec_of` makes it again."""
        return asdict(self)

    def hash(self) -> str:
        """Return a hash of everything in it."""
        return sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


def kept_spec(spec: CampaignSpec, scrubber: Scrubber) -> CampaignSpec:
    """Return a specification as it is kept and worked off: without secrets and personal data.

    Raises:
        BadInput: something is found where no placeholder can stand for it: in the name or a model.
    """
    values = spec.as_json()
    for name in ("name", "models"):
        found = scrubber.json(values[name])[1]
        _require(not found, name, f"{', '.join(found)} in it", "no secret; see api_key_env")
    return spec_of(scrubber.json(values)[0])


def read_spec(path: Path) -> CampaignSpec:
    """Read a YAML file.

    Raises:
        BadInput: it cannot be read, or a field is missing, unknown or out of its range.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput("campaign file", str(path), "a file", f"{error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadInput("campaign file", str(path), "YAML", f"Correct it: {reason}") from error
    task = loaded.get("task") if isinstance(loaded, dict) else None
    if isinstance(task, dict) and isinstance(task.get("items"), str):
        loaded = {**loaded, "task": {**task, "items": _items(path.parent / task["items"])}}
    return spec_of(loaded)


def spec_of(values: Any) -> CampaignSpec:
    """Make a specification of plain values; raises as `read_spec`."""
    if not isinstance(values, Mapping):
        raise BadInput("campaign", values, "names with values", _REMEDY)
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        # a name that does not exist explains the one that is missing
        first = min(
            error.errors(), key=lambda fault: fault["type"] != "unexpected_keyword_argument"
        )
        where = ".".join(map(str, first["loc"]))
        raise BadInput(where, first["input"], _wanted(first["msg"]), _REMEDY) from error


def _items(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except OSError as error:
        raise BadInput("task.items", str(path), "a file", f"{error.strerror}.") from error
    except ValueError as error:
        raise BadInput("task.items", str(path), "JSONL", f"Correct it: {error}") from error


_ADAPTER = TypeAdapter(CampaignSpec)


def _wanted(message: str) -> str:
    """Say pydantic's finding as what is expected."""
    match message:
        case "Field required":
            return "a value"
        case "Unexpected keyword argument":
            return "no such field"
    return message.removeprefix("Input should be ")


def _require(right: Any, what: str, value: Any, expected: str) -> None:
    if not right:
        raise BadInput(what, value, expected, _REMEDY)


def _require_weights(what: str, weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        _require(is_number and weight >= 0, f"{what}.{name}", weight, "a weight of 0 or more")
    _require(sum(weights.values()) > 0, what, weights, "a weight above 0")


def _require_names(what: str, text: str | None, known: set[str]) -> None:
    if text is None:
        return
    template = Template(text)
    _require(template.is_valid(), what, text, "a text in which a dollar sign itself is $$")
    for name in template.get_identifiers():
        _require(name in known, what, f"${name}", f"${', $'.join(sorted(known))}")
