"""What a whole `flywheel curate` costs: 100,000 imported interactions, then 1,000 new ones.

    python -m benchmarks.curation_whole [--quick]

The real commands on an embedded PostgreSQL of their own: `flywheel import` brings in made-up calls
around functions of Python's own standard library (requests of 20 task types, answers of code, test
outcomes, one in ten a repeat), `flywheel curate` makes the dataset, and both again for the 1,000
new ones. Measured is the process of `curate` and, apart, what PostgreSQL worked meanwhile.
"""

import argparse
import ast
import json
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bars import Figure, report
from foundation.embedded import start_embedded

FLYWHEEL = (sys.executable, "-m", "flywheel")
TASK_TYPES = tuple(f"type-{number:02d}" for number in range(20))
MEMORY_BAR_GIB = 2.0
AGAIN_BAR = 0.05
_MAPPING = """
role: coder
prompt: $.prompt
answer: $.answer
task_type: $.task_type
episode: $.episode
key: $.key
feedback:
  - {kind: success, value: $.passed, source: test}
"""


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    wall_s: float
    cpu_s: float
    """Of the process itself."""
    postgres_cpu_s: float
    peak_mib: float
    answer: dict[str, Any]


def measure(quick: bool = False) -> list[Figure]:
    """Measure the first build and the next one; the figures."""
    n_rows, n_more = (10_000, 1_000) if quick else (100_000, 1_000)
    with tempfile.TemporaryDirectory(prefix="bench-curate-") as folder:
        first, again = _measure(Path(folder), n_rows, n_more)
    share = again.wall_s / first.wall_s
    cpu_share = (again.cpu_s + again.postgres_cpu_s) / (first.cpu_s + first.postgres_cpu_s)
    return [
        Figure(
            f"flywheel curate, {n_rows:,} imported interactions: wall",
            first.wall_s,
            "s",
            detail={"kept": first.answer.get("card", {}).get("kept")},
        ),
        Figure("the same, CPU of the process", first.cpu_s, "s"),
        Figure("the same, CPU of PostgreSQL", first.postgres_cpu_s, "s"),
        Figure(
            "the same, peak memory of the process",
            first.peak_mib / 1024,
            "GiB",
            at_most=MEMORY_BAR_GIB,
        ),
        Figure(
            f"again after {n_more:,} new ones, wall: share of the first",
            share,
            "",
            at_most=None if quick else AGAIN_BAR,
            detail={"wall_s": again.wall_s, "cpu_s": again.cpu_s, "number": again.answer["number"]},
        ),
        Figure(
            f"again after {n_more:,} new ones, CPU of both: share of the first",
            cpu_share,
            "",
            at_most=None if quick else AGAIN_BAR,
            detail={"cpu_s": again.cpu_s, "postgres_cpu_s": again.postgres_cpu_s},
        ),
    ]


def _measure(folder: Path, n_rows: int, n_more: int) -> tuple[Cost, Cost]:
    home = folder / "home"
    url = start_embedded(home)
    environment = os.environ | {
        "FLYWHEEL_HOME": str(home),
        "FLYWHEEL_DATABASE_URL": url,
        "FLYWHEEL_ROLES": '["coder"]',
    }
    mapping = folder / "mapping.yaml"
    mapping.write_text(_MAPPING)
    _run(["db", "upgrade"], environment)
    calls = made_up_calls(seed=0)
    costs = []
    for number, n in enumerate((n_rows, n_more)):
        path = folder / f"calls-{number}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(next(calls)) + "\n" for _ in range(n))
        _run(["import", "mapped", str(path), "--map", str(mapping)], environment)
        costs.append(_run(["curate", "--role", "coder", "--json"], environment))
    return costs[0], costs[1]


def made_up_calls(seed: int) -> Iterator[dict[str, Any]]:
    """Yield calls without end: a request around some functions, others as the answer.

    Three in a hundred repeat an earlier call to the letter, seven with a line added.
    """
    drawn = random.Random(seed)
    functions = _library_functions()
    earlier: list[dict[str, Any]] = []
    number = 0
    while True:
        number += 1
        luck = drawn.random()
        if earlier and luck < 0.1:
            call = dict(drawn.choice(earlier))
            if luck >= 0.03:
                call["answer"] = _edited(call["answer"], drawn)
        else:
            kind = drawn.choice(TASK_TYPES)
            asked = f"Request {number} of {kind}: rework this part."
            call = {
                "prompt": f"{asked}\n{_code(functions, drawn)}",
                "answer": _code(functions, drawn),
                "task_type": kind,
            }
            if len(earlier) < 5000:
                earlier.append(call)
        yield call | {
            "key": f"call-{number}",
            "episode": f"episode-{number // 4}",
            "passed": int(drawn.random() < 0.75),
        }


def _library_functions() -> list[str]:
    """The functions and classes of 20 to 150 words of Python's standard library, as sources."""
    folder = Path(os.__file__).parent
    found = []
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
                if 20 <= len(text.split()) <= 150:
                    found.append(text)
    return found


def _code(functions: list[str], drawn: random.Random) -> str:
    """Return some functions of 120 words or more together: whole code, as an answer is."""
    taken: list[str] = []
    while sum(len(text.split()) for text in taken) < 120:
        taken.append(drawn.choice(functions))
    return "\n\n".join(taken)


def _edited(text: str, drawn: random.Random) -> str:
    return f"{text}\n\nedited = {drawn.randrange(1000)}"


def _run(arguments: list[str], environment: dict[str, str]) -> Cost:
    """Run a command of ours to its end and return what it took.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    before, began = _postgres_cpu_s(), time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([*FLYWHEEL, *arguments], env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            said = err.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"flywheel {' '.join(arguments)}: {said}")
        out.seek(0)
        answer = json.load(out) if "--json" in arguments else {}
    return Cost(
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        postgres_cpu_s=_postgres_cpu_s() - before,
        peak_mib=usage.ru_maxrss / 1024,
        answer=answer,
    )


def _postgres_cpu_s() -> float:
    """CPU seconds of every PostgreSQL process here so far, ended backends included."""
    total = 0.0
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "postgres":
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
                total += times.children_user + times.children_system
    return total


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure a whole build.")
    parser.add_argument("--quick", action="store_true", help="10,000 rows, no bar for the next one")
    return report("curation-whole", measure(parser.parse_args().quick))


if __name__ == "__main__":
    sys.exit(main())
