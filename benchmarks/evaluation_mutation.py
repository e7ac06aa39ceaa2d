"""Mutation testing: how fast, beside mutmut, on given doctests, and verdicts of single asserts.

Real functions of `py_doctests` with the doctests that their authors gave them, and the asserts that
GPT-4 wrote for HumanEval (`tester_outputs`). CPU time is of all processes: the service, the workers
and every run. mutmut (`benchmarks/peers-evaluation.txt`) has an environment of its own, see
`make bench-venv`. It gets the same tests, one pytest file for each function, for functions that we
measure within a CPU-second, since it takes over ten times as long. Which mutants are the same is
decided by their normalised text: scores are compared on shared mutants, and what only one tool
makes is counted by operator.
"""

import ast
import gzip
import json
import os
import random
import resource
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from benchmarks.bars import Figure
from evaluator.mutation.mutants import Mutant, read_program
from evaluator.mutation.rewrite import Presentation
from evaluator.mutation.score import Report, Trial
from evaluator.mutation.score import measure as measure_tests
from evaluator.sandbox import Cases, Sandbox
from foundation.errors import BadInput

PROJECT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FLYWHEEL_TEST_DATA", PROJECT.parent / "shared" / "data"))
PEER_PYTHON = Path(
    os.environ.get(
        "FLYWHEEL_BENCH_EVALUATION_PYTHON", PROJECT / ".venv-bench-evaluation/bin/python"
    )
)
MUTANTS_PER_CORE_S = 100.0
N_FUNCTIONS, N_SHARED, ROUNDS = 100, 10, 3
MOST_CPU_S = 1.0
_SURVIVED, _KILLED, _NO_TESTS = 0, (1, 3), 33

_TEST_FILE = """\
import doctest

import {module}

EXAMPLES = {examples!r}


def test_examples():
    test = doctest.DocTestParser().get_doctest(EXAMPLES, dict(vars({module})), "m", None, 0)
    assert not doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed
"""


_MODULE = """\
def clamp(value, low=0, high=10):
    if low > high:
        raise ValueError("low is greater than high")
    if value < low:
        return low
    return high if value > high else value


def moving_average(values, size):
    if size <= 0:
        raise ValueError("size must be positive")
    averages = []
    for start in range(len(values) - size + 1):
        averages.append(sum(values[start : start + size]) / size)
    return averages


def parse_pairs(text, separator="="):
    pairs = {}
    for line in text.split("\\n"):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, found, value = line.partition(separator)
        if not found:
            break
        pairs[name.strip().lower()] = value.strip()
    return pairs
"""
_TESTS = """\
import pytest
from solution import clamp, moving_average, parse_pairs


def test_clamp():
    assert [clamp(value) for value in (-1, 0, 5, 10, 11)] == [0, 0, 5, 10, 10]
    with pytest.raises(ValueError):
        clamp(1, 5, 4)


def test_moving_average():
    assert moving_average([1, 2, 3, 6], 2) == [1.5, 2.5, 4.5]
    with pytest.raises(ValueError, match="positive"):
        moving_average([1], 0)


def test_parse_pairs():
    assert parse_pairs(" A = 1 \\n# no\\n\\nb=2=3") == {"a": "1", "b": "2=3"}
    assert parse_pairs("a=1\\nrest\\nb=2") == {"a": "1"}
"""


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick takes a tenth of the functions and one round beside mutmut."""
    if not DATA.is_dir():
        return [Figure("mutation", None, "", at_least=1, note="no FLYWHEEL_TEST_DATA")]
    functions = _functions(10 if quick else N_FUNCTIONS)
    with Sandbox() as sandbox:
        measure_tests([Trial(_MODULE, _TESTS)], sandbox)  # starts the workers
        figures = [_speed(3 if quick else 15, sandbox)]
        given, reports = _doctests(functions, sandbox)
        quickly = [
            row
            for row, report in zip(functions, reports, strict=True)
            if report.refusal is None and report.cpu_s <= MOST_CPU_S
        ]
        few, rounds = (3, 1) if quick else (N_SHARED, ROUNDS)
        return [
            *figures,
            *given,
            *_beside_mutmut(quickly[:few], rounds, sandbox),
            *_asserts(sandbox),
        ]


def _speed(rounds: int, sandbox: Sandbox) -> Figure:
    """The engine itself, on tests that take no time; every mutant that is counted is executed."""
    rates, scores = [], set()
    for _ in range(rounds):
        (report,), cpu_s = _with_cpu(lambda: measure_tests([Trial(_MODULE, _TESTS)], sandbox))
        rates.append((_n_decided(report) - report.unreached) / cpu_s)
        scores.add(report.score)
    return Figure(
        "mutation, module of 30 lines and 3 tests, per CPU-second of all processes",
        median(rates),
        "mutants/s/core",
        at_least=MUTANTS_PER_CORE_S,
        detail={
            "least": min(rates),
            "greatest": max(rates),
            "rounds": rounds,
            "mutants": _n_decided(report),
            "timeouts": len(report.timeouts),
            "scores": sorted(map(str, scores)),
            "tier": sandbox.tier,
            "kernel": os.uname().release,
        },
    )


# --- the given doctests of real functions ---------------------------------------------------


def _functions(count: int) -> list[dict[str, Any]]:
    """Functions whose doctests pass and that have something to mutate, the same ones each time."""
    with gzip.open(DATA / "py_doctests" / "functions_a.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row["doctests_pass_alone"]]
    random.Random(0).shuffle(rows)
    return list(islice(filter(_is_mutable, rows), count))


def _code(row: dict[str, Any]) -> str:
    return "\n\n".join(filter(None, (row["imports"], row["helpers"], row["source"]))) + "\n"


def _is_mutable(row: dict[str, Any]) -> bool:
    try:
        read_program(_code(row), row["name"])
    except BadInput:
        return False
    return True


def _trial(row: dict[str, Any]) -> Trial:
    return Trial(_code(row), "\n".join(row["doctests"]), within=row["name"])


def _doctests(
    functions: Sequence[dict[str, Any]], sandbox: Sandbox
) -> tuple[list[Figure], list[Report]]:
    (reports, cpu_s), wall_s = _timed(
        lambda: _with_cpu(lambda: measure_tests([_trial(row) for row in functions], sandbox))
    )
    accepted = [report for report in reports if report.refusal is None]
    scores = [report.score for report in accepted if report.score is not None]
    n_unreached = sum(report.unreached for report in accepted)
    n_timeouts = sum(len(report.timeouts) for report in accepted)
    n_decided = n_timeouts + sum(len(one.killed) + len(one.survived) for one in accepted)
    refused = {
        row["name"]: report.refusal.why
        for row, report in zip(functions, reports, strict=True)
        if report.refusal is not None
    }
    where = f"mutation, given doctests of {len(functions)} functions"
    detail = {
        "cpu_s": cpu_s,
        "processes": sum(report.n_runs for report in reports),
        "mutants": n_decided,
        "not_run_since_unreached": n_unreached,
        "timeouts": n_timeouts,
        "equivalents": sum(report.equivalents for report in reports),
        "cpu_ms_of_a_run_by_function": sorted(
            round(1000 * report.cpu_s / report.n_runs, 1) for report in accepted
        ),
    }
    figures = [
        Figure(
            f"{where}, mutants executed per CPU-second, time of the tests included",
            (n_decided - n_unreached) / cpu_s,
            "mutants/s/core",
            detail=detail,
        ),
        Figure(
            f"{where}, median score",
            median(scores) if scores else None,
            "",
            detail={"quartiles": quantiles(scores, n=4), "refused": refused, "scores": scores},
        ),
        Figure(f"{where}, wall time of all, {sandbox.size} workers", wall_s, "s"),
    ]
    return figures, reports


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def _with_cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    before = _cpu_s()
    return work(), _cpu_s() - before


def _cpu_s() -> float:
    """CPU seconds so far of this process, its workers and all that they ran."""
    total = time.process_time()
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


# --- beside mutmut --------------------------------------------------------------------------


def _beside_mutmut(
    functions: Sequence[dict[str, Any]], rounds: int, sandbox: Sandbox
) -> list[Figure]:
    name = f"mutation, {len(functions)} functions beside mutmut"
    if not PEER_PYTHON.exists():
        note = f"no {PEER_PYTHON}: make bench-venv"
        return [Figure(name, None, "", at_least=1.0, note=note)]
    ours_s: list[float] = []
    theirs_s: list[float] = []
    trials = [
        Trial(_code(row), _test_file(row, number), f"m{number:02}", row["name"])
        for number, row in enumerate(functions)
    ]
    for _ in range(rounds):
        reports, cpu_s = _with_cpu(lambda: measure_tests(trials, sandbox))
        ours_s.append(sum(map(_n_decided, reports)) / cpu_s)
        found, cpu_s = _run_mutmut(functions)
        theirs_s.append(sum(map(len, found)) / cpu_s)
    return [
        *_same_scores(name, functions, reports, found),
        Figure(f"{name}, ours, mutants decided per CPU-second", median(ours_s), "mutants/s/core"),
        Figure(f"{name}, mutmut, whole command", median(theirs_s), "mutants/s/core"),
        Figure(
            f"{name}, ours to mutmut, median of interleaved rounds",
            median(ours / theirs for ours, theirs in zip(ours_s, theirs_s, strict=True)),
            "",
            detail={"ours": ours_s, "mutmut": theirs_s},
        ),
    ]


def _n_decided(report: Report) -> int:
    return len(report.killed) + len(report.survived) + len(report.timeouts)


def _test_file(row: dict[str, Any], number: int) -> str:
    return _TEST_FILE.format(module=f"m{number:02}", examples="\n".join(row["doctests"]))


def _run_mutmut(functions: Sequence[dict[str, Any]]) -> tuple[list[dict[str, str]], float]:
    """For each function the verdict by normalised text of the mutant, and the CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("src", "tests"):
            (folder / part).mkdir()
        (folder / "pyproject.toml").write_text('[tool.mutmut]\nsource_paths = ["src"]\n')
        for number, row in enumerate(functions):
            (folder / f"src/m{number:02}.py").write_text(_code(row))
            (folder / f"tests/test_m{number:02}.py").write_text(_test_file(row, number))
        before = _children_s()
        done = subprocess.run(
            [str(PEER_PYTHON), "-m", "mutmut", "run", "--max-children", str(os.cpu_count())],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        cpu_s = _children_s() - before
        if done.returncode != 0:
            raise RuntimeError(f"mutmut ended with {done.returncode}: {done.stdout[-1500:]}")
        return [
            _read_mutmut(folder / f"mutants/src/m{number:02}.py", row["name"])
            for number, row in enumerate(functions)
        ], cpu_s


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read_mutmut(path: Path, name: str) -> dict[str, str]:
    codes = json.loads(path.with_name(path.name + ".meta").read_text())["exit_code_by_key"]
    functions = _functions_in(path.read_text())
    verdicts = {}
    for key, code in codes.items():
        own = key.rpartition(".")[2]
        if own.startswith(f"x_{name}__mutmut_"):
            node = functions[own]
            node.name = name
            verdicts[ast.unparse(node)] = (
                "killed" if code in _KILLED else
                "survived" if code in (_SURVIVED, _NO_TESTS) else f"other ({code})"
            )  # fmt: skip
    return verdicts


def _functions_in(text: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {
        node.name: node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _same_scores(
    name: str,
    functions: Sequence[dict[str, Any]],
    reports: Sequence[Report],
    found: Sequence[dict[str, str]],
) -> list[Figure]:
    """Compare the verdicts on the mutants that both make, and count what only one makes."""
    both: list[tuple[str, str, str]] = []
    only_ours: Counter[str] = Counter()
    only_theirs: list[str] = []
    for row, report, theirs in zip(functions, reports, found, strict=True):
        ours = {
            _normalised(row, mutant): (verdict, mutant)
            for verdict in ("killed", "survived", "timeouts")
            for mutant in getattr(report, verdict)
        }
        for text, (verdict, mutant) in ours.items():
            if text in theirs:
                both.append((verdict, theirs[text], f"{row['name']}, {mutant.diff}"))
            else:
                only_ours[mutant.operator] += 1
        only_theirs += [
            f"{row['name']}: {_first_change(row, text)}" for text in theirs if text not in ours
        ]
    decided = [pair for pair in both if {pair[0], pair[1]} <= {"killed", "survived"}]
    scores = [sum(pair[who] == "killed" for pair in decided) / len(decided) for who in (0, 1)]
    differ = [f"{what}: ours {one}, mutmut {other}" for one, other, what in both if one != other]
    detail = {
        "shared_mutants": len(both),
        "ours_on_shared": scores[0],
        "mutmut_on_shared": scores[1],
        "verdicts_that_differ": differ,
        "only_ours_by_operator": dict(only_ours),
        "only_mutmut": only_theirs,
        "all_of_ours": [report.score for report in reports],
    }
    return [
        Figure(
            f"{name}, difference of the scores on shared mutants",
            abs(scores[0] - scores[1]),
            "",
            at_most=0.0,
            detail=detail,
        ),
        Figure(f"{name}, share of mutmut's mutants that we make too",
               len(both) / (len(both) + len(only_theirs)), ""),
    ]  # fmt: skip


def _normalised(row: dict[str, Any], mutant: Mutant) -> str:
    text = Presentation(read_program(_code(row), row["name"]), None).text(mutant)
    return ast.unparse(_functions_in(text)[row["name"]])


def _first_change(row: dict[str, Any], text: str) -> str:
    before = ast.unparse(ast.parse(row["source"])).splitlines()
    pairs = zip(before, text.splitlines(), strict=False)
    return next((f"{one.strip()} -> {other.strip()}" for one, other in pairs if one != other), "")


# --- single asserts -------------------------------------------------------------------------


def _asserts(sandbox: Sandbox) -> list[Figure]:
    """Verdict per assert of GPT-4's tests over the canonical solutions."""
    with open(DATA / "tester_outputs" / "gpt4_tests_odd.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    solutions = _solutions()
    runs = [Cases(solutions[row["task_id"]], "\n".join(row["generated_tests"])) for row in rows]
    outcomes = sandbox.run_many(runs)
    agree = 0
    differ: list[str] = []
    for row, outcome in zip(rows, outcomes, strict=True):
        told = row["test_verdicts"] or [None] * len(row["generated_tests"])
        got: list[str | None] = [*(outcome.tests or {}).values()] or [None] * len(told)
        for text, want, have in zip(row["generated_tests"], told, got, strict=True):
            mine = {"passed": "pass", "failed": "fail"}.get(str(have), have)
            if mine == want:
                agree += 1
            else:
                why = outcome.detail or f"ours {mine}"
                differ.append(f"{row['task_id']}: {text}: told {want}, {why}")
    total = agree + len(differ)
    return [
        Figure(
            f"verdict per assert agrees with test_verdicts, {total} asserts",
            agree / total,
            "",
            at_least=1.0,
            detail={"disagreements": differ},
        )
    ]


def _solutions() -> dict[str, str]:
    found = {}
    for path in sorted((DATA / "humaneval").glob("*.jsonl*")):
        opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path, encoding="utf-8")
        with opened as file:
            for line in file:
                row = json.loads(line)
                found[row["task_id"]] = row["prompt"] + row["canonical_solution"]
    return found
