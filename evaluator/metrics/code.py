"""All that is measured of code answers beside their verdict: style, SOLID, security lint.

Many answers are measured in one go, since ruff is started once for all of them.
"""

import ast
import warnings
from collections.abc import Sequence
from typing import Any, Final

from evaluator.metrics.lint import Finding, lint
from evaluator.metrics.security import SEVERITIES, security_findings
from evaluator.metrics.solid import PRINCIPLES, solid_ratings
from evaluator.metrics.style import style_parts, style_score

STYLE_PARTS: Final = ("function_length", "names", "type_hints", "docstrings", "simplicity")


def assess_code(codes: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is measured of each code, by name; plain JSON.

    `style` (0-1) and its parts `style_*`, `longest_function` (lines), `complexity` (McCabe, the
    greatest), `solid` (0-1) and its parts `solid_*`, `security_findings` (how many), of which
    `security_high`, `security_medium` and `security_low`, and `security_rules` (their ids). A part
    is None where it does not apply; code that cannot be read has no metrics at all.

    Raises:
        MissingExtra: ruff is not installed.
    """
    found = lint(codes)
    return [
        {} if findings is None else _assess(code, findings)
        for code, findings in zip(codes, found, strict=True)
    ]


def _assess(code: str, findings: Sequence[Finding]) -> dict[str, Any]:
    tree = _parsed(code)
    if tree is None or not tree.body:
        return {}
    parts, ratings = style_parts(tree, findings), solid_ratings(tree)
    weak = security_findings(findings)
    return {
        "style": style_score(parts),
        **{f"style_{name}": parts[name] for name in STYLE_PARTS},
        "longest_function": parts["longest_function"],
        "complexity": parts["complexity"],
        "solid": ratings["solid"],
        **{f"solid_{name}": ratings[name] for name in PRINCIPLES},
        "security_findings": len(weak),
        **{f"security_{name}": sum(one.severity == name for one in weak) for name in SEVERITIES},
        "security_rules": sorted({one.rule for one in weak}),
    }


def _parsed(code: str) -> ast.Module | None:
    """The syntax tree; None for what Python cannot read, or nests too deep for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in a string of an answer is not our concern
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
