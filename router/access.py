"""Who may ask for which version of a role: users reach the one in production only.

Coordinator rules of the three versions of a role. They can be changed per role, in
`settings.access` of its policy: `{"experimental": ["agent", "service"], "plain": []}`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from foundation.errors import Forbidden
from router.keys import AGENT, ANALYSIS, OPERATOR, SERVICE, USER, Caller

PLAIN: Final = "plain"
"""A model of an upstream: no version of ours, so it has no stage."""

CALLABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "production": (AGENT, USER, SERVICE),
    PLAIN: (AGENT, USER, SERVICE),
    "experimental": (SERVICE,),
    "candidate": (SERVICE,),
    "retired": (SERVICE,),
    "quarantined": (),
}
"""Kinds of keys that may ask for a version by its name, by its stage.

A quarantined one is for analysis only: a service whose key names the role `analysis`.
"""


def may_join_experiment(caller: Caller) -> bool:
    """Say whether a caller's calls may be answered by an experiment's treatment."""
    return caller.kind != USER


def refusal(
    caller: Caller, stage: str | None, allowed: Mapping[str, Sequence[str]] | None = None
) -> str | None:
    """Return who may ask by name for a version of this stage, if the caller may not; else None.

    A plain model has no stage. `allowed` are changes to `CALLABLE` by the role's policy; nothing
    opens quarantine.
    """
    if caller.kind == OPERATOR:
        return None
    if stage == "quarantined":
        is_analyst = caller.kind == SERVICE and ANALYSIS in (caller.roles or ())
        return None if is_analyst else f"a service's key with the role {ANALYSIS!r}"
    kinds = {**CALLABLE, **(allowed or {})}.get(stage or PLAIN, ())
    if caller.kind in kinds:
        return None
    return f"a key of kind {' or '.join(kinds)}" if kinds else "the master key"


def require_callable(
    caller: Caller,
    role: str,
    version: str,
    stage: str | None,
    allowed: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Check that a caller may ask for a version, or a plain model, by its name.

    Who asks for `role:<role>` gets who serves it, or the arm of an experiment that
    `may_join_experiment`: that needs `caller.require_role` only.

    Raises:
        Forbidden: they may not.
    """
    who = refusal(caller, stage, allowed)
    if who is not None:
        raise Forbidden(
            f"{stage or PLAIN} model {version!r} for a key of kind {caller.kind}",
            caller.name,
            who,
            f"Ask for model role:{role}.",
        )
