"""Many experiments at once: one primary metric each, and a share of alpha for each role.

Twenty useless candidates a year at 5 % are one false promotion a year.
"""

import math
from collections.abc import Mapping


def alpha_per_role(alpha: float, n_roles: int) -> float:
    """Return the level of each of `n_roles` experiments at which any false promotion has `alpha`.

    Bonferroni: it needs no independence. Fix it when the experiment starts: with the number of
    roles that may run experiments, not with those that happen to run one now.

    Args:
        alpha: chance of any false promotion, 0-1.
        n_roles: at least 1.
    """
    return alpha / max(1, n_roles)


def e_bh(log_e: Mapping[str, float], alpha: float) -> set[str]:
    """Return the names that may be called better with a false discovery rate of at most `alpha`.

    The e-BH procedure (Wang & Ramdas, arXiv 2009.02824): the k largest are taken for the largest k
    with E_(k) >= n / (alpha k). It holds under any dependence, for e-values of *now*: the largest
    so far of an e-process is no e-value.
    """
    ranked = sorted(log_e, key=lambda name: log_e[name], reverse=True)
    n = len(ranked)
    taken = [
        k for k, name in enumerate(ranked, start=1) if log_e[name] >= math.log(n / (alpha * k))
    ]
    return set(ranked[: taken[-1]]) if taken else set()
