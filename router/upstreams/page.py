"""The health page: what each gateway process knows of its upstreams, as HTML of its own.

No script, nothing fetched. Names of models may come from callers: hostile text, all of it escaped.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from foundation.lone_page import environment
from router.upstreams.health import DOWN, UP

GOOD, WORSE, BAD = "ok", "degraded", "down"


def verdict(processes: Iterable[Mapping[str, Any]]) -> str:
    """Return the state of everything in one word: `ok`, `degraded` or `down`. Pure.

    `down` only where no circuit of a server or model is up in any process; a file that could not
    be taken over is `degraded`.
    """
    listed = list(processes)
    states = [row["state"] for process in listed for row in process["upstreams"]]
    if states and all(state == DOWN for state in states):
        return BAD
    broken = any((process.get("file") or {}).get("problem") for process in listed)
    return WORSE if broken or any(state != UP for state in states) else GOOD


def as_html(processes: Iterable[Mapping[str, Any]]) -> str:
    """Return the page of the given processes.

    Args:
        processes: each with `host`, `pid`, `seen` (when it said so, in words), what
            `Forwarder.state` returns, `file` of `WatchedConfig.told`, and `cache` of
            `ResponseCache.counts` or None.
    """
    listed = list(processes)
    template = _environment().get_template("health.html")
    return template.render(processes=listed, verdict=verdict(listed))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment(Path(__file__).parent)
    made.filters["count"] = lambda number: f"{number:,}"
    return made
