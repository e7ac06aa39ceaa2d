"""pass@k and pass^k, unbiased, over tasks.

Of the n answers to a task c pass. pass@k is the probability that at least one of k answers drawn
without replacement passes, 1 - C(n-c, k) / C(n, k) (Chen et al., "Evaluating Large Language Models
Trained on Code", arXiv 2107.03374); pass^k that all k do, C(c, k) / C(n, k) (Yao et al., tau-bench,
arXiv 2406.12045). The plug-in estimates 1 - (1 - c/n)^k and (c/n)^k are biased and not used.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean
from typing import Final

from foundation.errors import BadInput

KS: Final = (1, 2, 3, 5, 10)
"""The k that reports show, as far as there are so many answers."""

Outcomes = Sequence[bool | None]
"""The answers to one task: passed, failed, or None for a lost one."""


@dataclass(frozen=True)
class PassK:
    """Both figures for one k.

    Attributes:
        k: how many answers are drawn.
        at_least_one: mean pass@k over tasks, 0-1; None where no task has k answers.
        all_of_them: mean pass^k over tasks, 0-1; likewise.
        n_tasks: tasks with at least k answers that are not lost: those that the means are over.
        n_short: tasks with fewer, left out.
        n_lost: lost answers, in all tasks; they count neither as passed nor as failed.
    """

    k: int
    at_least_one: float | None
    all_of_them: float | None
    n_tasks: int
    n_short: int
    n_lost: int


def pass_at_k(n: int, c: int, k: int) -> float | None:
    """Return the probability (0-1) that one of k of n answers passes, when c of n do.

    None for fewer than k answers. Raises BadInput unless 0 <= c <= n and k >= 1.
    """
    _require_counts(n, c, k)
    return 1 - comb(n - c, k) / comb(n, k) if n >= k else None


def pass_all_k(n: int, c: int, k: int) -> float | None:
    """Return the probability (0-1) that all of k of n answers pass; otherwise as `pass_at_k`."""
    _require_counts(n, c, k)
    return comb(c, k) / comb(n, k) if n >= k else None


def pass_k(tasks: Iterable[Outcomes], k: int) -> PassK:
    """Return both figures over tasks; every task counts the same. Raises as `pass_at_k`."""
    known = list(tasks)
    counts = [_counts(outcomes) for outcomes in known]
    pairs = [(pass_at_k(n, c, k), pass_all_k(n, c, k)) for n, c in counts]
    one = [value for value, _ in pairs if value is not None]
    every = [value for _, value in pairs if value is not None]
    return PassK(
        k=k,
        at_least_one=fmean(one) if one else None,
        all_of_them=fmean(every) if every else None,
        n_tasks=len(one),
        n_short=len(known) - len(one),
        n_lost=sum(passed is None for outcomes in known for passed in outcomes),
    )


def pass_ks(tasks: Iterable[Outcomes], ks: Sequence[int] = KS) -> dict[str, float]:
    """Return `pass@k` and `pass^k` by name for each k that every answered task has answers for.

    A k that only some tasks have answers for would be a mean over other tasks, so it is left out;
    tasks whose answers are all lost stand aside.
    """
    answered = [outcomes for outcomes in tasks if _counts(outcomes)[0]]
    figures: dict[str, float] = {}
    for k in ks:
        found = pass_k(answered, k)
        if found.n_short or found.at_least_one is None or found.all_of_them is None:
            continue
        figures |= {f"pass@{k}": found.at_least_one, f"pass^{k}": found.all_of_them}
    return figures


def _counts(outcomes: Outcomes) -> tuple[int, int]:
    """How many answers are not lost, and how many of them pass."""
    known = [passed for passed in outcomes if passed is not None]
    return len(known), sum(known)


def _require_counts(n: int, c: int, k: int) -> None:
    if not 0 <= c <= n or k < 1:
        raise BadInput(
            "pass@k", f"n={n}, c={c}, k={k}", "0 <= c <= n and k >= 1", "Count the answers again."
        )
