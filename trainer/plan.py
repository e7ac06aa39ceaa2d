"""The decisions around a training: whether, how, on which base, and when again.

Pure rules of the decision ledger. An input that nobody knows is None: it is named in the reasons
and never guessed. A rule then still answers when no value of the unknown could change its answer,
and says "unknown" otherwise. A threshold that is None is not asked, which is how the `demo` profile
relaxes a rule, and the reasons say so.
"""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from foundation.decisions import Ruling, load, rule
from foundation.errors import BadInput
from trainer.recipe import SFT_FULL, SFT_LORA, SFT_QLORA

SHOULD_TRAIN = "trainer.should_train"
CHOOSE_METHOD = "trainer.choose_method"
CHOOSE_BASE = "trainer.choose_base"
SHOULD_RETRAIN = "trainer.should_retrain"

STANDARD, DEMO = "standard", "demo"
YES, NO, WAIT, NOW, UNKNOWN = "yes", "no", "wait", "now", "unknown"
KEEP_BASELINE = "keep-baseline"

T = TypeVar("T")


@dataclass(frozen=True)
class ShouldTrainInputs:
    """What is known about a role before it is trained; None where nobody knows.

    Attributes:
        baseline_success: share of tasks that the present model solves, 0-1.
        tasks_per_day: tasks of the role per day.
        budget_usd: money for the project, in US dollars.
        timeline_weeks: weeks until it must be done.
    """

    baseline_success: float | None = None
    tasks_per_day: float | None = None
    budget_usd: float | None = None
    timeline_weeks: float | None = None

    def __post_init__(self) -> None:
        """Refuse a success rate given in percent; raises BadInput."""
        _require_share("baseline_success", self.baseline_success)


@dataclass(frozen=True)
class ShouldTrainThresholds:
    """Limits of `trainer.should_train`; a limit of None is not asked.

    Attributes:
        excellent_success: success (0-1) from which training has nothing to win.
        min_tasks_per_day: tasks per day below which it does not pay.
        min_budget_usd: budget in US dollars below which it is not begun.
        min_timeline_weeks: weeks below which it cannot be finished.
        profile: standard or demo, for the reasons.
    """

    excellent_success: float = 0.95
    min_tasks_per_day: float | None = 10.0
    min_budget_usd: float | None = 10_000.0
    min_timeline_weeks: float | None = 10.0
    profile: str = STANDARD


@dataclass(frozen=True)
class ChooseMethodInputs:
    """Data and machine; None where nobody knows.

    Attributes:
        n_examples: training examples.
        has_gpu: whether a GPU trains.
        memory_gb: memory of a CPU machine in GB.
        time_budget_h: hours the training may take on a CPU.
    """

    n_examples: int | None = None
    has_gpu: bool | None = None
    memory_gb: float | None = None
    time_budget_h: float | None = None


@dataclass(frozen=True)
class ChooseMethodThresholds:
    """Limits of `trainer.choose_method`; a limit of None is not asked.

    Attributes:
        min_examples: examples below which to wait for more.
        full_min_examples: examples from which a GPU trains all weights.
        min_memory_gb: GB of memory below which a CPU holds the base in 4 bits.
        min_time_budget_h: hours below which a CPU holds the base in 4 bits.
        profile: standard or demo, for the reasons.
        note: why a profile differs.
    """

    min_examples: int = 500
    full_min_examples: int = 10_000
    min_memory_gb: float = 32.0
    min_time_budget_h: float | None = 48.0
    profile: str = STANDARD
    note: str = ""


@dataclass(frozen=True)
class ChooseBaseInputs:
    """Whose base model, and how hard the tasks are (`easy`, `hard`; None where nobody knows)."""

    role: str
    complexity: str | None = None


@dataclass(frozen=True)
class ChooseBaseThresholds:
    """The configurable mapping of `trainer.choose_base`.

    Attributes:
        models: base model by `role` or `role/complexity`; `keep-baseline` for no training.
    """

    models: dict[str, str] = field(
        default_factory=lambda: {
            "coder/easy": "Qwen/Qwen2.5-Coder-7B",
            "coder/hard": "Qwen/Qwen2.5-Coder-14B",
            "tester": "Qwen/Qwen2.5-7B",
            "reviewer": "Qwen/Qwen2.5-14B",
            "coordinator": "Qwen/Qwen2.5-14B",
            "researcher": KEEP_BASELINE,
        }
    )


@dataclass(frozen=True)
class ShouldRetrainInputs:
    """What happened since the last training; None where nobody knows.

    Attributes:
        success_at_training: success rate when the serving version was trained, 0-1.
        success_now: success rate today, 0-1.
        n_new_examples: examples curated since.
        months_since_training: months since.
    """

    success_at_training: float | None = None
    success_now: float | None = None
    n_new_examples: int | None = None
    months_since_training: float | None = None

    def __post_init__(self) -> None:
        """Refuse success rates given in percent; raises BadInput."""
        _require_share("success_at_training", self.success_at_training)
        _require_share("success_now", self.success_now)


@dataclass(frozen=True)
class ShouldRetrainThresholds:
    """Limits of `trainer.should_retrain`.

    Attributes:
        drift_points: drop of the success rate in percentage points that asks for training now.
        min_new_examples: new examples that are worth a training after `min_months`.
        min_months: months after which enough new examples are trained on.
        max_months: months after which training is due in any case.
    """

    drift_points: float = 5.0
    min_new_examples: int = 1_000
    min_months: float = 6.0
    max_months: float = 12.0


SHOULD_TRAIN_PROFILES = {
    STANDARD: ShouldTrainThresholds(),
    DEMO: ShouldTrainThresholds(
        min_tasks_per_day=None, min_budget_usd=None, min_timeline_weeks=None, profile=DEMO
    ),
}
CHOOSE_METHOD_PROFILES = {
    STANDARD: ChooseMethodThresholds(),
    DEMO: ChooseMethodThresholds(
        min_examples=50,
        min_memory_gb=1.0,
        min_time_budget_h=None,
        profile=DEMO,
        note="The 32 GB limit is meant for a base of 7 billion parameters; the demo base has half "
        "a million (2 MB), so 1 GB is enough and no time limit is asked.",
    ),
}


def profile(profiles: dict[str, T], name: str) -> T:
    """Return the thresholds of a profile; raises BadInput for an unknown name."""
    try:
        return profiles[name]
    except KeyError:
        raise BadInput(
            "threshold profile", name, f"one of {', '.join(profiles)}", "Name one of those."
        ) from None


@rule(SHOULD_TRAIN)
def should_train(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `yes` (a pilot), `no` or `unknown`; inputs and thresholds as the dataclasses above."""
    known, limits = load(ShouldTrainInputs, inputs), load(ShouldTrainThresholds, thresholds)
    refusals: list[str] = []
    success = known.baseline_success
    if success is not None and success >= limits.excellent_success:
        refusals.append(
            f"Already excellent: baseline success {success:.1%} is at least "
            f"{limits.excellent_success:.0%}."
        )
    asked = (
        ("Low volume", "tasks_per_day", limits.min_tasks_per_day, "tasks per day"),
        ("Budget too small", "budget_usd", limits.min_budget_usd, "US dollars"),
        ("Timeline too short", "timeline_weeks", limits.min_timeline_weeks, "weeks"),
    )
    relaxed = []
    for title, name, limit, unit in asked:
        value = getattr(known, name)
        if limit is None:
            relaxed.append(name)
        elif value is not None and value < limit:
            refusals.append(f"{title}: {value:,g} {unit} is less than {limit:,g}.")
    missing = _missing(known, relaxed)
    notes = _profile_notes(limits.profile, relaxed) + _unknown_notes(missing)
    if refusals:
        return Ruling(NO, (*refusals, *notes))
    if missing:
        return Ruling(UNKNOWN, ("No known input speaks against training.", *notes))
    return Ruling(
        YES, ("Start a pilot: there is something to win and nothing speaks against it.", *notes)
    )


@rule(CHOOSE_METHOD)
def choose_method(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `wait`, `sft-full`, `sft-lora`, `sft-qlora` or `unknown`."""
    known, limits = load(ChooseMethodInputs, inputs), load(ChooseMethodThresholds, thresholds)
    notes = _method_notes(limits)
    if known.n_examples is None:
        return Ruling(UNKNOWN, (*_unknown_notes(["n_examples"]), *notes))
    if known.n_examples < limits.min_examples:
        reason = f"{known.n_examples:,} examples are fewer than {limits.min_examples:,}: "
        return Ruling(WAIT, (reason + "collect more.", *notes))
    if known.has_gpu is None:
        return Ruling(UNKNOWN, (*_unknown_notes(["has_gpu"]), *notes))
    if known.has_gpu:
        return _method_on_gpu(known.n_examples, limits, notes)
    return _method_on_cpu(known, limits, notes)


def _method_notes(limits: ChooseMethodThresholds) -> tuple[str, ...]:
    if limits.profile == STANDARD:
        return ()
    start = f"Profile {limits.profile}: the least number of examples is {limits.min_examples:,}."
    return (start, limits.note) if limits.note else (start,)


def _method_on_gpu(
    n_examples: int, limits: ChooseMethodThresholds, notes: tuple[str, ...]
) -> Ruling:
    if n_examples >= limits.full_min_examples:
        reason = f"GPU and {n_examples:,} examples, at least {limits.full_min_examples:,}: "
        return Ruling(SFT_FULL, (reason + "full fine-tuning.", *notes))
    reason = f"GPU and {n_examples:,} examples, fewer than {limits.full_min_examples:,}: LoRA."
    return Ruling(SFT_LORA, (reason, *notes))


def _method_on_cpu(
    known: ChooseMethodInputs, limits: ChooseMethodThresholds, notes: tuple[str, ...]
) -> Ruling:
    small: list[str] = []
    memory = known.memory_gb
    if memory is not None and memory < limits.min_memory_gb:
        small.append(
            f"CPU with {memory:g} GB of memory, less than {limits.min_memory_gb:g}: QLoRA."
        )
    hours, least = known.time_budget_h, limits.min_time_budget_h
    if least is not None and hours is not None and hours < least:
        small.append(f"CPU with {hours:g} h to train, less than {least:g}: QLoRA.")
    if small:
        return Ruling(SFT_QLORA, (*small, *notes))
    missing = ["memory_gb"] if memory is None else []
    if least is not None and hours is None:
        missing.append("time_budget_h")
    if missing:
        return Ruling(UNKNOWN, (*_unknown_notes(missing), *notes))
    return Ruling(SFT_LORA, ("CPU with enough memory and time: LoRA.", *notes))


@rule(CHOOSE_BASE)
def choose_base(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say the base model's name, `keep-baseline`, or `unknown` for what the mapping lacks."""
    known, mapping = load(ChooseBaseInputs, inputs), load(ChooseBaseThresholds, thresholds).models
    for key in (f"{known.role}/{known.complexity}", known.role):
        if key not in mapping:
            continue
        if mapping[key] == KEEP_BASELINE:
            return Ruling(KEEP_BASELINE, (f"{key} keeps its baseline: not trained.",))
        return Ruling(mapping[key], (f"{key} is mapped to {mapping[key]}.",))
    levels = sorted(key for key in mapping if key.startswith(f"{known.role}/"))
    if levels and known.complexity is None:
        reason = f"Unknown: complexity; {known.role} has {' and '.join(levels)}."
        return Ruling(UNKNOWN, (reason,))
    reason = f"No base model is configured for {known.role} tasks of complexity {known.complexity}."
    return Ruling(UNKNOWN, (reason,))


@rule(SHOULD_RETRAIN)
def should_retrain(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `now`, `yes`, `wait` or `unknown`."""
    known, limits = load(ShouldRetrainInputs, inputs), load(ShouldRetrainThresholds, thresholds)
    months = known.months_since_training
    drift = _drift_points(known)
    drifted = _at_least(drift, limits.drift_points)
    many = _at_least(known.n_new_examples, limits.min_new_examples)
    ripe = _both(many, _at_least(months, limits.min_months))
    due = _at_least(months, limits.max_months)
    notes = _unknown_notes(_missing(known, []))
    if drifted:
        reason = f"Success fell by {drift:.1f} points, at least {limits.drift_points:g}."
        return Ruling(NOW, (reason, *notes))
    if ripe:
        reason = f"{known.n_new_examples:,} new examples after {months:g} months."
        return Ruling(YES, (reason, *notes))
    if due:
        reason = f"{months:g} months since the last training, at least {limits.max_months:g}."
        return Ruling(YES, (reason, *notes))
    if None in (drifted, ripe, due):
        return Ruling(UNKNOWN, ("No known input asks for a training.", *notes))
    return Ruling(WAIT, ("Little drift, and too few new examples or too little time.", *notes))


def _drift_points(known: ShouldRetrainInputs) -> float | None:
    if known.success_at_training is None or known.success_now is None:
        return None
    # Rounded: 0.60 - 0.55 is 4.999999999999993 points in binary fractions.
    return round(100 * (known.success_at_training - known.success_now), 9)


def _at_least(value: float | None, limit: float) -> bool | None:
    return None if value is None else value >= limit


def _both(first: bool | None, second: bool | None) -> bool | None:
    """`and` of three values: False beside anything is False, True beside unknown is unknown."""
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def _require_share(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise BadInput(name, value, "a share of 0 to 1", "Give 0.95 for 95 percent.")


def _missing(known: Any, relaxed: list[str]) -> list[str]:
    names = [entry.name for entry in fields(known)]
    return [name for name in names if getattr(known, name) is None and name not in relaxed]


def _unknown_notes(missing: list[str]) -> tuple[str, ...]:
    return (f"Unknown: {', '.join(missing)}.",) if missing else ()


def _profile_notes(name: str, relaxed: list[str]) -> tuple[str, ...]:
    if not relaxed:
        return ()
    return (f"Profile {name}: {', '.join(relaxed)} are not asked.",)
