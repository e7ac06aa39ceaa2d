"""What a key opens: scopes, each as narrow as the work of somebody who carries it.

No scope includes another, with two exceptions: who may write calls may say what became of them, and
`admin` makes keys, hence can have any.
"""

from collections.abc import Collection, Sequence
from typing import Final

from foundation.errors import BadInput

GATEWAY, INGEST, FEEDBACK, READ, REVIEW = "gateway", "ingest", "feedback", "read", "review"
BUILD, PROMOTE, ADMIN, METRICS = "build", "promote", "admin", "metrics"

SCOPES: Final = {
    GATEWAY: "ask models through the gateway",
    INGEST: "write calls and feedback",
    FEEDBACK: "write feedback",
    READ: "read the log, datasets, versions, verdicts, experiments, usage",
    REVIEW: "label what waits for people",
    BUILD: "make datasets, trainings, evaluations, exports; declare metrics; try letters again",
    PROMOTE: "experiments, promotion, rollback, policy, schedules, emergency stop",
    ADMIN: "everything: keys, budgets",
    METRICS: "read the figures for Prometheus",
}
"""Every scope, and what it is for."""

NARROWABLE: Final = frozenset({GATEWAY, INGEST, FEEDBACK})
"""Scopes of keys of some roles or projects: elsewhere nothing is left out by role or project."""

BY_DEFAULT: Final = (GATEWAY,)
"""What a key opens that says nothing of scopes."""

_INCLUDED: Final = {FEEDBACK: INGEST}


def opens(scopes: Collection[str], wanted: str) -> bool:
    """Say whether a key of these scopes may do what takes the scope `wanted`."""
    return wanted in scopes or ADMIN in scopes or _INCLUDED.get(wanted) in scopes


def opens_service(scopes: Collection[str]) -> bool:
    """Say whether a key of these scopes opens anything of the service."""
    return any(scope != GATEWAY for scope in scopes)


def sane_scopes(scopes: Sequence[str], *, is_narrow: bool) -> list[str] | None:
    """Return the scopes as they are kept; None for the default.

    Args:
        scopes: as they were asked for.
        is_narrow: whether the key is one of some roles or projects.

    Raises:
        BadInput: there is no such scope, or it cannot be narrowed.
    """
    for scope in scopes:
        if scope not in SCOPES:
            known = ", ".join(SCOPES)
            raise BadInput("scope of a key", scope, f"one of {known}", "Choose one of them.")
        if is_narrow and scope not in NARROWABLE:
            raise BadInput(
                "scope of a key of some roles or projects",
                scope,
                f"one of {', '.join(sorted(NARROWABLE))}",
                "What is read, made or promoted is not left out by role or project: "
                "make a key of its own without --role and --project.",
            )
    kept = [scope for scope in SCOPES if scope in scopes]
    return kept if kept and tuple(kept) != BY_DEFAULT else None
