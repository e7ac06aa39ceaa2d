"""The figures of an evaluation beside its success rate: reliability, speed, cost, style, counts.

Of answers that were given to an earlier question neither time nor cost is counted again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

import numpy as np

from evaluator.answers import Answer
from evaluator.asking import Measured
from evaluator.graders import extract_code
from evaluator.metrics.bias import PairResult, bias_gap
from evaluator.metrics.code import assess_code
from evaluator.metrics.passk import pass_ks
from evaluator.tables import SuiteTask
from foundation.errors import MissingExtra

CODE_GRADERS: Final = ("asserts", "calls", "project", "secure_code")
"""Graders whose tasks are answered with code."""
BIAS: Final = "bias"
"""Task type of the halves of pairs, whose ids and halves the attributes `pair` and `group` say."""
_DIGITS: Final = 6
_OFTEN: Final = 5


def metrics_of(measured: Measured) -> dict[str, Any]:
    """Return the metrics of an evaluation as plain JSON; what could not be measured is None.

    `pass_k` has `pass@1`, `pass^1` and so on; `answers` counts what became of them; `graded` holds
    the means of what graders measured beside the score, `code` those of the style of code answers;
    `bias_gap` is how differently the halves of pairs fared.
    """
    answers = [made.answer for made in measured.attempts]
    costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
    fresh = [answer for answer in answers if not answer.is_cached]
    return {
        "pass_k": _rounded(pass_ks(measured.outcomes())),
        "answers": _counts(answers, len(measured.errors)),
        "grader_errors": dict(Counter(measured.errors.values()).most_common(_OFTEN)),
        "latency_ms": _quantiles(answer.seconds for answer in fresh),
        "ttft_ms": _quantiles(answer.ttft_s for answer in fresh),
        "tokens_per_s": measured.tokens_per_s,
        "cost_usd": round(sum(costs), _DIGITS) if costs else None,
        "graded": means_of([grade.metrics for grade in measured.grades if grade]),
        "code": _code(measured),
        "bias_gap": _bias(measured),
    }


def _code(measured: Measured) -> dict[str, float] | None:
    """Return the mean style of the samples that are code; None without any, or without ruff.

    A text that was given five times is looked at once and counts five times, as in every other
    mean of samples.
    """
    given = Counter(
        (made.answer.text, str(made.task.reference.get("entry_point") or ""))
        for made in measured.attempts
        if made.task.grader in CODE_GRADERS and made.answer.text and made.answer.n_chars is None
    )
    distinct = sorted(given)
    try:
        assessed = assess_code([extract_code(*answer) for answer in distinct])
    except MissingExtra:
        return None
    per_sample = (
        metrics
        for answer, metrics in zip(distinct, assessed, strict=True)
        for _ in range(given[answer])
    )
    return means_of(per_sample) or None


def _bias(measured: Measured) -> dict[str, Any] | None:
    """Return the gap over the suite's pairs of tasks; None without any that was graded."""
    gap = bias_gap(
        PairResult(made.task.attributes["pair"], made.task.attributes["group"], grade.passed)
        for made, grade in zip(measured.attempts, measured.grades, strict=True)
        if grade is not None and _is_half_of_a_pair(made.task)
    )
    return gap.as_json() if gap else None


def _is_half_of_a_pair(task: SuiteTask) -> bool:
    own = task.attributes
    return own.get("task_type") == BIAS and "pair" in own and own.get("group") in ("a", "b")


def means_of(measured: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each number by name, over the samples that have it; nested by dots."""
    values: dict[str, list[float]] = defaultdict(list)
    for metrics in measured:
        for name, value in _numbers(metrics):
            values[name].append(value)
    return _rounded({name: fmean(found) for name, found in sorted(values.items())})


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


def _counts(answers: Sequence[Answer], n_errors: int) -> dict[str, int]:
    """Count what became of the answers; one may count several times."""
    return {
        "asked": len(answers),
        "cached": sum(answer.is_cached for answer in answers),
        "lost": sum(answer.text is None for answer in answers),
        "empty": sum(answer.text is not None and not answer.text.strip() for answer in answers),
        "too_long": sum(answer.n_chars is not None for answer in answers),
        "at_token_limit": sum(answer.finish == "length" for answer in answers),
        "repaired": sum(answer.was_repaired for answer in answers),
        "grader_threw": n_errors,
    }


def _quantiles(seconds: Iterable[float | None]) -> dict[str, float] | None:
    """Return p50 and p95 in milliseconds; None if nothing was timed."""
    known = [1000 * value for value in seconds if value is not None]
    if not known:
        return None
    p50, p95 = np.quantile(known, [0.5, 0.95])
    return _rounded({"p50": float(p50), "p95": float(p95)})


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}
