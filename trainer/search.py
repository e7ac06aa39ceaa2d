"""Hyper-parameter search, small and budgeted: what to try next, and who goes on to a longer try.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): all candidates train a few
steps, the best of them `eta` times as many, and so on; optuna proposes the candidates. Here is what
decides; `flywheel.searching` runs it, each trial a training of its own. No torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any, Final

from foundation.errors import BadInput
from trainer.recipe import GROUPS, Recipe

DEFAULT_SPACE: Final[dict[str, Any]] = {"lr": [0.3, 1.0, 3.0]}
"""Three points of the learning rate, times the recipe's own: what a sweep must at least have."""

_OWN_LOSS: Final = ("method", "max_length", "too_long", "preference", "distillation")
"""Knobs, and groups of them, that another validation loss comes with, or other validation rows."""
_SAME_LOSS: Final = (
    "preference.precompute_reference",
    "distillation.on_policy",
    "distillation.max_new_tokens",
)
_TIMES: Final = ("lr",)
"""Knobs whose listed values are factors of the recipe's own, in the default space."""


@dataclass(frozen=True)
class Between:
    """A range of a knob: from low to high, by their logarithm if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and for how much.

    Attributes:
        space: by knob (`lr`, or `preference.beta` for one of a group) the values to choose among,
            or `{"low", "high", "log"}`.
        trials: candidates of the first round, at least 2.
        steps: optimizer steps of each in the first round, at least 1.
        eta: one in `eta` goes on, to `eta` times the steps; at least 2.
        rounds: at most, at least 1; the last one is never longer than the recipe's own training.
        minutes: wall time after which no further trial begins; None: no limit.
        seed: of the proposals.
        suite: tasks that trials are compared by; None: by their validation loss.
    """

    space: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_SPACE))
    trials: int = 3
    steps: int = 50
    eta: int = 3
    rounds: int = 2
    minutes: float | None = None
    seed: int = 0
    suite: str | None = None

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        for name, least in (("trials", 2), ("steps", 1), ("eta", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise BadInput(name, getattr(self, name), f"at least {least}", "Correct the plan.")
        if not self.space:
            raise BadInput("space", self.space, "at least one knob", "Name one: --over lr=…")

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "space": dict(self.space)}

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Return (candidates, steps) of each round."""
        found, n, steps = [], self.trials, self.steps
        for _ in range(self.rounds):
            found.append((n, steps))
            if n == 1:
                break
            n, steps = max(1, n // self.eta), steps * self.eta
        return found


@dataclass(frozen=True)
class Trial:
    """One candidate in one round.

    Attributes:
        knobs: what it changes of the recipe.
        steps: how long it trained.
        score: larger is better; None: its training failed or diverged.
    """

    knobs: Mapping[str, Any]
    steps: int
    score: float | None


def require_comparable(space: Mapping[str, Any]) -> None:
    """Check that trials over a space can be compared by their validation losses.

    Raises:
        BadInput: a knob changes what the loss is: half the beta has another loss, not a better one.
    """
    for knob in space:
        if knob not in _SAME_LOSS and knob.partition(".")[0] in _OWN_LOSS:
            raise BadInput(
                "--over",
                knob,
                "knobs that leave the validation loss, by which trials are compared, as it is",
                "Compare by tasks: --suite NAME",
            )


def parse_space(given: Sequence[str]) -> dict[str, Any]:
    """Return the space of texts: `lr=1e-4..1e-3` (a range, by its logarithm), `r=8,16,32`.

    Raises:
        BadInput: a text that is neither, or a knob that no recipe has.
    """
    space: dict[str, Any] = {}
    for text in given:
        knob, equals, values = text.partition("=")
        if not equals or not values:
            raise BadInput("--over", text, "knob=low..high or knob=a,b,c", "As in --over r=8,16.")
        low, dots, high = values.partition("..")
        if dots:
            space[knob] = _range(text, _number(low), _number(high))
        else:
            space[knob] = [_number(value) for value in values.split(",")]
        changed(Recipe(), {knob: _first(space[knob])})
    return space


def _range(text: str, low: Any, high: Any) -> dict[str, Any]:
    both_numbers = all(isinstance(end, int | float) for end in (low, high))
    if not both_numbers or not 0 < low < high:
        shown = "two numbers above 0, the lower one first"
        raise BadInput("--over", text, shown, "As in --over lr=1e-4..1e-3.")
    return {"low": low, "high": high, "log": True}


def parse_knob(text: str) -> tuple[str, Any]:
    """Return name and value of a text such as `lr=1e-3` or `target_modules=q_proj,v_proj`.

    Raises:
        BadInput: it has no value, or names no knob.
    """
    knob, equals, value = text.partition("=")
    if not equals or not value:
        raise BadInput("--set", text, "knob=value", "As in --set lr=1e-3.")
    parts = [_number(part) for part in value.split(",")]
    is_list = len(parts) > 1 or isinstance(_default(knob), list)
    return knob, parts if is_list else parts[0]


def _default(knob: str) -> Any:
    group, dot, name = knob.partition(".")
    values = Recipe().to_dict()
    return values.get(group, {}).get(name) if dot and group in GROUPS else values.get(knob)


def changed(recipe: Recipe, knobs: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some knobs changed; alpha follows r as 2r unless it is named.

    Raises:
        BadInput: a knob that does not exist, or a value out of its range.
    """
    values: dict[str, Any] = {}
    for name, value in knobs.items():
        group, dot, knob = name.partition(".")
        if dot and group in GROUPS:
            values.setdefault(group, dict(recipe.to_dict()[group]))[knob] = value
        else:
            values[name] = value
    if "r" in values and "alpha" not in values:
        values["alpha"] = 2 * values["r"]
    return Recipe.from_dict({**recipe.to_dict(), **values})


def for_round(recipe: Recipe, knobs: Mapping[str, Any], steps: int) -> Recipe:
    """Return the recipe of a trial: shortened, looked at three times at least."""
    eval_steps = max(1, min(recipe.eval_steps, math.ceil(steps / 3)))
    return replace(changed(recipe, knobs), max_steps=steps, eval_steps=eval_steps)


class Proposals:
    """What to try: optuna's TPE over the space, or every point of a small grid once."""

    def __init__(self, recipe: Recipe, plan: SearchPlan) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = {name: _absolute(recipe, plan, name) for name in plan.space}
        grid = {name: values for name, values in self._space.items() if isinstance(values, list)}
        points = math.prod(len(values) for values in grid.values())
        is_grid = len(grid) == len(self._space) and points <= plan.trials
        sampler = optuna.samplers.TPESampler(seed=plan.seed, n_startup_trials=4)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self.n = points if is_grid else plan.trials
        for point in product(*grid.values()) if is_grid else ():
            self._study.enqueue_trial(dict(zip(grid, point, strict=True)))
        self._asked: list[Any] = []

    def ask(self) -> dict[str, Any]:
        """Return the knobs of the next candidate."""
        trial = self._study.ask()
        self._asked.append(trial)
        return {name: _suggested(trial, name, values) for name, values in self._space.items()}

    def tell(self, score: float | None) -> None:
        """Say how the last one did; None for one that failed."""
        import optuna

        state = optuna.trial.TrialState
        if score is None:
            self._study.tell(self._asked[-1], state=state.FAIL)
        else:
            self._study.tell(self._asked[-1], score)


def survivors(trials: Sequence[Trial], n: int) -> list[Trial]:
    """Return the `n` best of a round, best first; those that failed never, ties by their order."""
    able = [trial for trial in trials if trial.score is not None]
    return sorted(able, key=lambda trial: -(trial.score or 0.0))[:n]


def _absolute(recipe: Recipe, plan: SearchPlan, name: str) -> Any:
    """Return what a knob may be; the default space's factors become values."""
    values = plan.space[name]
    if name in _TIMES and dict(plan.space) == DEFAULT_SPACE:
        return [round(factor * getattr(recipe, name), 12) for factor in values]
    return values


def _suggested(trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, Mapping):
        low, high, log = values["low"], values["high"], bool(values.get("log"))
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=log)
        return trial.suggest_float(name, low, high, log=log)
    return trial.suggest_categorical(name, list(values))


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _first(values: Any) -> Any:
    return values["low"] if isinstance(values, Mapping) else values[0]
