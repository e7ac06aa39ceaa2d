"""The engine's metrics, in Prometheus' text format."""

import threading
import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric

from collector.metrics import exposition
from foundation.meters import ENGINE, SECONDS, Kind, declare

_COUNTERS = {
    "rows": "Answers begun.",
    "dropped": "Requests given up by their callers.",
    "failed": "Requests that ended in an error.",
    "refused": "Requests sent away, since too many waited.",
    "steps": "Forward passes that made a token for each row under way.",
    "prefills": "Forward passes that read prompts.",
    "tokens": "Tokens made.",
    "prompt_tokens": "Tokens of the prompts.",
    "cached_tokens": "Tokens of the prompts that had been read before.",
    "preempted": "Rows that had to wait again, since memory was full.",
    "adapters_evicted": "Adapters whose weights were let go for others.",
}
_GAUGES = {
    "running": "Rows under way.",
    "waiting": "Rows that wait to join.",
    "largest_batch": "Most rows of a step so far.",
    "adapters_resident": "Adapters whose weights are in memory.",
    "adapter_bytes": "Bytes of their weights.",
    "kv_bytes": "Bytes of keys and values of rows under way.",
    "prefix_bytes": "Bytes of keys and values kept of prompts.",
}


_FIRST = declare(
    "histogram",
    "flywheel_engine_first_token_seconds",
    "serving",
    "From the request to its first token.",
    (),
    (ENGINE,),
)
_WHOLE = declare(
    "histogram",
    "flywheel_engine_request_seconds",
    "serving",
    "From the request to its last token.",
    (),
    (ENGINE,),
)
_KINDS: tuple[tuple[Kind, Mapping[str, str]], ...] = (("counter", _COUNTERS), ("gauge", _GAUGES))
_DECLARED = {
    name: declare(kind, f"flywheel_engine_{name}", "serving", meaning, ("base",), (ENGINE,))
    for kind, names in _KINDS
    for name, meaning in names.items()
}


class Timings:
    """How long callers waited."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._first, self._whole = (
            Histogram(one.name, one.meaning, buckets=SECONDS, registry=CollectorRegistry())
            for one in (_FIRST, _WHOLE)
        )
        self._pace = threading.Lock()
        self._seconds_per_answer, self._last = 0.0, time.monotonic()

    @property
    def seconds_per_answer(self) -> float:
        """Seconds between two answers lately, a moving mean; 0 before the second."""
        return self._seconds_per_answer

    def first_token(self, seconds: float) -> None:
        """Note a request's first token."""
        self._first.observe(seconds)

    def answered(self, seconds: float, n_answers: int) -> None:
        """Note a request's end."""
        self._whole.observe(seconds)
        with self._pace:
            now = time.monotonic()
            each = min(now - self._last, seconds) / max(n_answers, 1)
            self._seconds_per_answer += 0.1 * (each - self._seconds_per_answer)
            self._last = now

    def families(self) -> list[Metric]:
        """Return both histograms."""
        return [family for one in (self._first, self._whole) for family in one.collect()]


def text(
    counters: Mapping[str, Mapping[str, int]], timings: Timings, more: Iterable[Metric] = ()
) -> bytes:
    """Return all metrics.

    Args:
        counters: by base model, what `_COUNTERS` and `_GAUGES` name; "" is the engine as a whole.
        timings: of all.
        more: what the process counts otherwise.
    """
    families: list[Metric] = [
        metric.family(
            ((base,), float(values[name])) for base, values in counters.items() if name in values
        )
        for name, metric in _DECLARED.items()
    ]
    return exposition([*families, *timings.families(), *more])
