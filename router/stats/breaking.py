"""The watch over a serving version: whether bad events have become more frequent than a limit.

Most of the evidence counts from the beginning and sees a version that is broken from the start; the
rest allows for a change at any time, so that a long healthy past does not hide a later break. Their
weighted mean is an e-process. The state is a few numbers, however long the version has served: a
look reads only what came since the last one.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evaluator.evidence import Restarted, log_e_rate
from foundation.intervals import wilson
from router.stats.pairs import Floats


@dataclass(frozen=True)
class RateWatch:
    """Evidence that bad events happen more often than a limit, now or since some time.

    Attributes:
        limit: tolerated rate, 0-1 exclusive.
        bad: bad events so far, of one life or of each life, [...].
        changed: evidence that allows for a change at any time.
    """

    limit: float
    bad: Floats
    changed: Restarted

    @classmethod
    def fresh(cls, limit: float, lives: tuple[int, ...] = ()) -> "RateWatch":
        """Return the watch before any event: E = 1.

        Args:
            limit: tolerated rate, 0-1 exclusive.
            lives: shape of the lives watched at once; a single one by default.
        """
        return cls(limit, np.zeros(lives), Restarted.fresh(np.full(lives, limit)))

    @property
    def n(self) -> int:
        """Events so far."""
        return self.changed.n

    def after(self, event: ArrayLike) -> "RateWatch":
        """Return the watch after one more event of each life; true is bad."""
        bad = self.bad + np.asarray(event, dtype=float)
        return RateWatch(self.limit, bad, self.changed.after(event))

    def after_all(self, events: Iterable[bool]) -> "RateWatch":
        """Return the watch after more events of a single life, in order."""
        watch = self
        for event in events:
            watch = watch.after(event)
        return watch

    @property
    def log_e(self) -> Floats:
        """Log E against 'bad events never came more often than the limit', [...]."""
        return together(log_e_rate(self.bad, self.n, self.limit), self.changed.log_e)

    def as_json(self) -> dict[str, Any]:
        """Return the state of a single life, to be stored between two looks."""
        return {
            "limit": self.limit,
            "n": self.n,
            "bad": int(self.bad),
            "growth": self.changed.growth.tolist(),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "RateWatch":
        """Return the watch whose `as_json` this is."""
        begun = Restarted.fresh(state["limit"])
        growth = np.asarray(state["growth"], dtype=float)
        changed = Restarted(begun.limit, begun.alternatives, growth, int(state["n"]))
        return cls(float(state["limit"]), np.asarray(float(state["bad"])), changed)


ENOUGH_BESIDE = 50
"""Calls of the other version from which it tells what both suffer, also if none of them was bad."""


def is_shared(bad: int, n: int, bad_beside: int, n_beside: int) -> bool:
    """Return whether the other version does no better, as far as one can know: it is the load's.

    One bad call beside is enough to ask: an outage hits both from its first minute on, and a
    healthy version would be quarantined for it before fifty calls are there. All counts must be of
    the same time.
    """
    if not n or not n_beside or (not bad_beside and n_beside < ENOUGH_BESIDE):
        return False
    rate = bad_beside / n_beside
    return bad / n <= max(rate, wilson(rate, n_beside)[1])


def together(from_start: ArrayLike, changed: ArrayLike) -> Floats:
    """Return the logarithm of the weighted mean of both kinds of evidence."""
    log_e: Floats = np.logaddexp(
        np.asarray(from_start) + math.log(_FROM_START),
        np.asarray(changed) + math.log1p(-_FROM_START),
    )
    return log_e


_FROM_START = 0.85
"""Weight of the evidence that counts from the beginning: as quick as it alone at 10 % errors."""
