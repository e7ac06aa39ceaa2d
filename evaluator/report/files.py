"""A report as a file, in the format that its name ends in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from evaluator.report.markdown import as_markdown
from evaluator.report.page import as_html
from foundation.errors import BadInput

FORMATS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    ".md": as_markdown,
    ".html": as_html,
    ".json": lambda report: json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n",
}
"""Suffix of a file -> what makes its text."""


def require_format(path: Path) -> None:
    """Refuse a file that no format is known for; raises BadInput."""
    if path.suffix not in FORMATS:
        raise BadInput(
            "report file", path.name, f"a name that ends in {', '.join(FORMATS)}", "Rename it."
        )


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a report of `verdict_report`; raises as `require_format`."""
    require_format(path)
    path.write_text(FORMATS[path.suffix](report), encoding="utf-8")
