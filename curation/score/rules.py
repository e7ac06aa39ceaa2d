"""A team's own rules: `module:function`, each from an attempt to a reason to drop it, or None.

A rule that throws, or that returns something else, drops its row with the reason
`rule_error:<name>`; the build goes on, the card counts it and the log says what was thrown.
"""

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any, Final

from curation.score.outcome import RULE_ERROR, Attempt
from foundation.errors import BadInput

log = logging.getLogger(__name__)

MAX_REASON_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule and the name that the recipe calls it by."""

    name: str
    decide: Callable[[Attempt], Any]


def load_rules(names: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules by their `module:function` names.

    Raises:
        BadInput: no such module or function, or the module does not load.
    """
    return tuple(Rule(name, _function(name)) for name in names)


def broken_rule(attempt: Attempt, rules: Sequence[Rule]) -> str | None:
    """Return the reason of the first rule that has one, or None."""
    for rule in rules:
        reason = _decided(rule, attempt)
        if reason is not None:
            return reason
    return None


def _decided(rule: Rule, attempt: Attempt) -> str | None:
    short = rule.name.partition(":")[2]
    try:
        reason = rule.decide(attempt)
    except Exception as error:  # a stranger's code: whatever it throws costs its own row only
        _say_once(rule.name, f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS])
        return f"{RULE_ERROR}:{short}"
    if reason is None:
        return None
    if not isinstance(reason, str) or not reason.strip():
        return f"{RULE_ERROR}:{short}"
    return reason.strip()[:MAX_REASON_CHARS]


@lru_cache(maxsize=100)
def _say_once(name: str, what: str) -> None:
    """Log what a rule threw, each thing once: it may throw on every row."""
    log.warning("the rule %s threw %s", name, what)


def _function(name: str) -> Callable[[Attempt], Any]:
    module_name, _, function_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function_name, None)
    except Exception as error:  # loading a stranger's module may throw anything
        raise _no_rule(name, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, FunctionType):
        raise _no_rule(name, "there is no such function in it")
    return found


def _no_rule(name: str, why: str) -> BadInput:
    return BadInput(
        "curation recipe extra_rules",
        name,
        "module:function of a function that takes an attempt",
        f"It was not found: {why}. Put the module where the workers can import it.",
    )
