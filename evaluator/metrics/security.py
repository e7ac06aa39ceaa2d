"""Security lint: ruff's S rules (flake8-bandit) as findings with a severity and a weakness number.

A lint knows patterns, not attacks: no finding is no proof of safety, and a finding may be harmless
where its input is trusted. Rules that say nothing of an answer to a task are left out (`IGNORED`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from evaluator.metrics.lint import Finding

IGNORED: Final = frozenset(("S101", "S311", "S404", "S603", "S607"))
"""Left out unless asked for: asserts, ordinary random numbers, and processes started without a
shell, which are all ordinary code where no secret and no stranger's text is involved."""

SEVERITIES: Final = ("low", "medium", "high")

_HIGH: Final = (
    *("S102", "S103", "S201", "S202", "S301", "S302", "S307", "S324", "S501", "S502", "S506"),
    *("S507", "S601", "S602", "S604", "S605", "S609", "S612", "S701", "S702"),
)
_LOW: Final = (
    "S101",
    "S105",
    "S106",
    "S107",
    "S110",
    "S112",
    "S311",
    "S404",
    "S603",
    "S606",
    "S607",
)
_CWE: Final = {
    **dict.fromkeys(("S102", "S307"), "CWE-95"),
    "S103": "CWE-732",
    "S104": "CWE-605",
    **dict.fromkeys(("S105", "S106", "S107"), "CWE-798"),
    **dict.fromkeys(("S108", "S306"), "CWE-377"),
    **dict.fromkeys(("S110", "S112"), "CWE-703"),
    "S113": "CWE-400",
    "S201": "CWE-489",
    "S202": "CWE-22",
    **dict.fromkeys(("S301", "S302", "S506"), "CWE-502"),
    **dict.fromkeys(("S303", "S304", "S305", "S324"), "CWE-327"),
    "S308": "CWE-79",
    "S310": "CWE-918",
    "S311": "CWE-330",
    **dict.fromkeys((f"S{number}" for number in range(313, 320)), "CWE-611"),
    **dict.fromkeys(("S312", "S321"), "CWE-319"),
    **dict.fromkeys(("S323", "S501"), "CWE-295"),
    **dict.fromkeys(("S502", "S503", "S504", "S508", "S509"), "CWE-327"),
    "S505": "CWE-326",
    "S507": "CWE-295",
    **dict.fromkeys(("S601", "S602", "S604", "S605", "S606", "S609"), "CWE-78"),
    **dict.fromkeys(("S608", "S610", "S611"), "CWE-89"),
    "S612": "CWE-94",
    **dict.fromkeys(("S701", "S702", "S704"), "CWE-79"),
}


@dataclass(frozen=True)
class SecurityFinding:
    """One weakness that the lint sees.

    Attributes:
        line: from 1.
        rule: ruff's id, such as S608.
        severity: low, medium or high, after bandit.
        cwe: number of the weakness in the Common Weakness Enumeration; empty where none fits.
        message: ruff's words.
    """

    line: int
    rule: str
    severity: str
    cwe: str
    message: str


def security_findings(
    findings: Iterable[Finding], rules: Sequence[str] | None = None
) -> list[SecurityFinding]:
    """Return the findings of security rules.

    Args:
        findings: what ruff says of one code.
        rules: ids or beginnings of ids ("S6") that count; None for all but `IGNORED`.
    """
    return [
        SecurityFinding(
            one.line, one.rule, severity_of(one.rule), _CWE.get(one.rule, ""), one.message
        )
        for one in findings
        if _counts(one.rule, rules)
    ]


def severity_of(rule: str) -> str:
    """Return how grave a rule's finding is: low, medium or high."""
    if rule in _HIGH:
        return "high"
    return "low" if rule in _LOW else "medium"


def _counts(rule: str, rules: Sequence[str] | None) -> bool:
    if not (rule.startswith("S") and rule[1:].isdigit()):
        return False
    return rule not in IGNORED if rules is None else rule.startswith(tuple(rules))
