"""A process that runs evalplus' `untrusted_check`; see `benchmarks.evaluation_sandbox`.

It runs in a venv of its own and needs the standard library and evalplus only. A line of stdin,
`[runs, single runs, at once]`, asks for a round; it is answered by a line of JSON.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

untrusted_check: Any = import_module("evalplus.evaluate").untrusted_check
CODE = "def add(a, b):\n    return a + b\n"
INPUTS, EXPECTED = [[1, 2], [0, 0], [-5, 3]], [3, 0, -2]


def one(_: int = 0) -> float:
    """Checks one answer; returns the milliseconds that it took."""
    start = time.perf_counter()
    status, _details = untrusted_check(
        "humaneval", CODE, INPUTS, "add", EXPECTED, 0.0, [0.01] * 3, fast_check=True
    )
    if status != "pass":
        raise RuntimeError(f"an honest answer ended in {status}")
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Answers rounds until the input ends."""
    for line in sys.stdin:
        runs, single, at_once = json.loads(line)
        start = time.perf_counter()
        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(one, range(runs)))
        per_s = runs / (time.perf_counter() - start)
        times = [one() for _ in range(single)]
        sys.stdout.write(json.dumps({"per_s": per_s, "single_ms": times}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
