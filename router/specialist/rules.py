"""The rules by which the gateway's file sends tasks to specialists: the first that fits decides.

roles:
coder:
specialists:
learned: true
rules:
- when: {language: [rust, c], difficulty: hard}
model: coder-systems
- when: {min_chars: 20000}
model: openai/gpt-long
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from foundation.errors import BadSetting
from router.specialist.classifier import Fit
from router.specialist.features import TaskFeatures

_STRICT = ConfigDict(extra="forbid", strict=True)
Names = str | tuple[str, ...]


@dataclass(frozen=True)
class When:
    """What a task must be like; what is None does not matter.

    Args:
        task_type: one of these.
        language: one of these.
        difficulty: one of these.
        min_chars: prompt of at least so many characters.
        max_chars: prompt of at most so many characters.
    """

    task_type: Names | None = None
    language: Names | None = None
    difficulty: Names | None = None
    min_chars: int | None = None
    max_chars: int | None = None

    __pydantic_config__: ClassVar = _STRICT

    def fits(self, task: TaskFeatures) -> bool:
        """Return whether a task is like this."""
        named = ("task_type", "language", "difficulty")
        return (
            all(_among(getattr(task, name), getattr(self, name)) for name in named)
            and (self.min_chars is None or task.n_chars >= self.min_chars)
            and (self.max_chars is None or task.n_chars <= self.max_chars)
        )


def _among(value: str | None, wanted: Names | None) -> bool:
    return wanted is None or value in ((wanted,) if isinstance(wanted, str) else wanted)


@dataclass(frozen=True)
class Rule:
    """Which model answers tasks of a kind: a version's name, or a model that the gateway knows."""

    model: str
    when: When = field(default_factory=When)

    __pydantic_config__: ClassVar = _STRICT


class Choice(NamedTuple):
    """A specialist, and what named it: `rule:0`, `rule:1`, …, or `learned`."""

    model: str
    by: str


@dataclass(frozen=True)
class Specialists:
    """The specialists of a role.

    Args:
        rules: tried in their order; the first that fits decides.
        learned: whether a classifier that proved itself decides where no rule fits.
    """

    rules: tuple[Rule, ...] = ()
    learned: bool = False

    __pydantic_config__: ClassVar = _STRICT

    def choose(self, task: TaskFeatures, fitted: Fit | None = None) -> Choice | None:
        """Return the model of the first rule that fits, else the classifier's; None: nobody's."""
        for place, rule in enumerate(self.rules):
            if rule.when.fits(task):
                return Choice(rule.model, f"rule:{place}")
        if not self.learned or fitted is None:
            return None
        model = fitted.choose(task)
        return None if model == fitted.default else Choice(model, "learned")


NONE = Specialists()
_READER = TypeAdapter(Specialists)


def read_specialists(role: str, raw: Mapping[str, Any] | None) -> Specialists:
    """Return the specialists that the file names for a role.

    Raises:
        BadSetting: a field is unknown or of another kind; it names the place.
    """
    if raw is None:
        return NONE
    try:
        return _READER.validate_json(json.dumps(raw, default=str))  # strict, and lists are tuples
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("roles", role, "specialists", *first["loc"]))
        raise BadSetting(
            f"FLYWHEEL_GATEWAY_FILE, {place}",
            first["input"],
            first["msg"].lower(),
            "Correct it; docs/specialists.md shows the whole section.",
        ) from error
