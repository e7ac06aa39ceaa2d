"""One call of ruff for many pieces of untrusted code: what it finds in each, without running any.

ruff only parses; the code is written to a private temporary folder under names of ours, no setting
or cache of the machine is read, and `# noqa` in the code is not obeyed. A text that makes ruff fail
is found by halving the batch, so that it spoils only its own findings.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from foundation.errors import MissingExtra

RULES: Final = ("S", "C901", "N", "ANN0", "ANN2", "D101", "D102", "D103", "D106")
"""Security, complexity, names, type hints and docstrings."""

MAX_BYTES: Final = 200_000
"""Longer code is not measured: no answer to a task is that long, and ruff's time is ours."""

_BATCH: Final = 500
_TIMEOUT_S: Final = 60.0
_OPTIONS: Final = (
    *("check", "--isolated", "--no-cache", "--ignore-noqa", "--no-fix", "--exit-zero", "--quiet"),
    *("--output-format", "json", "--target-version", f"py3{sys.version_info.minor}"),
    *("--config", "lint.mccabe.max-complexity=0", "--select", ",".join(RULES)),
)
_SYNTAX: Final = "invalid-syntax"


@dataclass(frozen=True, order=True)
class Finding:
    """What ruff says of one place; lines from 1."""

    line: int
    rule: str
    message: str


def lint(codes: Sequence[str]) -> list[list[Finding] | None]:
    """Return ruff's findings of each code in order of lines; None where it could not be read.

    That is where it is no valid Python of the running version, is longer than `MAX_BYTES`, or
    makes ruff fail.

    Raises:
        MissingExtra: ruff is not installed.
    """
    ruff = _ruff()
    distinct = list(dict.fromkeys(code for code in codes if _is_readable(code)))
    found: dict[str, list[Finding] | None] = {}
    for start in range(0, len(distinct), _BATCH):
        batch = distinct[start : start + _BATCH]
        found.update(zip(batch, _lint_batch(ruff, batch), strict=True))
    return [found.get(code) for code in codes]


def _ruff() -> str:
    """The ruff beside this interpreter, else the one on the path."""
    beside = Path(sys.executable).parent
    found = shutil.which("ruff", path=str(beside)) or shutil.which("ruff")
    if found is None:
        raise MissingExtra("ruff", "evaluate")
    return found


def _is_readable(code: str) -> bool:
    try:
        return len(code.encode()) <= MAX_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _lint_batch(ruff: str, codes: Sequence[str]) -> list[list[Finding] | None]:
    """Lint one batch; where ruff fails, its halves."""
    rows = _run(ruff, codes)
    if rows is not None:
        return _by_code(rows, len(codes))
    if len(codes) == 1:
        return [None]
    middle = len(codes) // 2
    return [*_lint_batch(ruff, codes[:middle]), *_lint_batch(ruff, codes[middle:])]


def _run(ruff: str, codes: Sequence[str]) -> list[dict[str, Any]] | None:
    """What ruff printed, its rows; None where it crashed, hung or said something else."""
    with tempfile.TemporaryDirectory(prefix="flywheel-lint-") as folder:
        for number, code in enumerate(codes):
            Path(folder, f"answer_{number}.py").write_text(code, encoding="utf-8", newline="")
        try:
            done = subprocess.run(
                [ruff, *_OPTIONS, folder],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
                cwd=folder,
                env={"HOME": folder, "PATH": "", "NO_COLOR": "1"},
            )
        except subprocess.TimeoutExpired:
            return None
    if done.returncode != 0:
        return None
    try:
        rows = json.loads(done.stdout)
    except ValueError:
        return None
    return rows if isinstance(rows, list) else None


def _by_code(rows: Sequence[dict[str, Any]], count: int) -> list[list[Finding] | None]:
    found: list[list[Finding]] = [[] for _ in range(count)]
    broken: set[int] = set()
    for row in rows:
        number = int(Path(row["filename"]).stem.removeprefix("answer_"))
        rule = row["code"] or _SYNTAX
        if rule in (_SYNTAX, "E902"):
            broken.add(number)
        found[number].append(Finding(row["location"]["row"], rule, row["message"]))
    return [None if number in broken else sorted(some) for number, some in enumerate(found)]
