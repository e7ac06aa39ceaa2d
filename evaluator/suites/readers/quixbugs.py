"""Reader of QuixBugs (jkoppel/QuixBugs, MIT): one line of a small program is wrong; mend it.

Programs with listed cases are checked by asserts made of them, the graph and list programs by their
own tests. Two programs take exponential time even when right; they are left out.
"""

import ast
from pathlib import Path
from typing import Any

from evaluator.suites.jsonl import bad_field, field_of, read_rows
from evaluator.suites.task import Task
from foundation.chat import message

ORIGIN = "jkoppel/QuixBugs, MIT"
_ASK = "This Python function has a bug. Answer with the whole corrected function in one code block."
_ROUGH = ("sqrt",)
"""Programs whose last argument says how far from the expected value they may be."""


def read_quixbugs(path: Path, *, keep_slow: bool = False) -> list[Task]:
    """Read rows of name, spec, buggy, correct and testcases or pytest_source; as `read_tasks`.

    Args:
        path: the JSONL file.
        keep_slow: also read programs that do not finish in seconds when they are right.
    """
    rows = read_rows(path)
    return [_task(path, number, row) for number, row in rows if keep_slow or not row.get("slow")]


def _task(path: Path, number: int, row: dict[str, Any]) -> Task:
    name, spec, buggy, correct = (
        field_of(path, number, row, field, str) for field in ("name", "spec", "buggy", "correct")
    )
    tree = _parsed(path, number, correct)
    cases = row.get("testcases")
    given = "" if cases is not None else str(row.get("node_source") or "")
    test = (
        _asserts(path, number, name, tree, cases) if cases is not None else _own(path, number, row)
    )
    context = f"It uses this class:\n\n```python\n{given}```\n\n" if given else ""
    prompt = f"{_ASK}\n\n{spec.strip()}\n\n{context}```python\n{buggy}```"
    return Task(
        f"QuixBugs/{name}",
        [message("user", prompt)],
        "asserts",
        {"entry_point": name, "prompt": given, "test": test},
        {"task_type": "bugfix", "family": name, "licence": "MIT", "origin": ORIGIN},
    )


def _asserts(path: Path, number: int, name: str, tree: ast.Module, cases: Any) -> str:
    """Return one assert a case; what a generator yields is compared as a list."""
    field_of(path, number, {"testcases": cases}, "testcases", list)
    lines = []
    for case in cases:
        if not isinstance(case, list) or len(case) != 2:
            raise bad_field(path, number, "testcases", case, "pairs of arguments and result")
        given, expected = case
        arguments = given if isinstance(given, list) else [given]
        call = f"{name}({', '.join(map(repr, arguments))})"
        if name in _ROUGH:
            lines.append(f"assert abs({call} - {expected!r}) <= {arguments[-1]!r}")
        elif _is_generator(tree, name):
            lines.append(f"assert list({call}) == {expected!r}")
        else:
            lines.append(f"assert {call} == {expected!r}")
    return "\n".join(lines)


def _own(path: Path, number: int, row: dict[str, Any]) -> str:
    """Return the program's own tests, without their imports, and a call of each."""
    source = field_of(path, number, row, "pytest_source", str)
    body = [
        node
        for node in _parsed(path, number, source).body
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.If)
    ]
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    calls = [f"{name}()" for name in names if name.startswith("test")]
    return "\n\n".join([*map(ast.unparse, body), "\n".join(calls)])


def _is_generator(tree: ast.Module, name: str) -> bool:
    """Return whether a function yields, itself and not in a function inside."""
    waiting: list[ast.AST] = [
        child
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == name
        for child in node.body
    ]
    for node in waiting:
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return False


def _parsed(path: Path, number: int, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise bad_field(path, number, "code", str(error), "valid Python") from error
