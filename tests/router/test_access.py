"""Who may ask for which version by its name."""

import pytest

from foundation.errors import Forbidden
from router.access import may_join_experiment, refusal, require_callable
from router.keys import LOCAL, Caller

STAGES = ("production", None, "experimental", "candidate", "retired", "quarantined")


def who(kind: str, *roles: str) -> Caller:
    return Caller(None, "k", kind, frozenset(roles) if roles else None)


@pytest.mark.parametrize(
    ("caller", "reached"),
    [
        (who("user"), ("production", None)),
        (who("agent"), ("production", None)),
        (who("service"), STAGES[:5]),
        (who("service", "analysis", "coder"), STAGES),
        (who("agent", "analysis"), ("production", None)),
        (LOCAL, STAGES),
    ],
    ids=["user", "agent", "service", "analyst", "agent who says analysis", "operator"],
)
def test_by_name(caller: Caller, reached: tuple[str | None, ...]) -> None:
    assert tuple(stage for stage in STAGES if refusal(caller, stage) is None) == reached


def test_a_roles_policy_changes_who_but_opens_no_quarantine() -> None:
    allowed = {"experimental": ["agent"], "plain": [], "quarantined": ["user", "agent"]}
    assert refusal(who("agent"), "experimental", allowed) is None
    assert refusal(who("service"), "experimental", allowed) == "a key of kind agent"
    assert refusal(who("agent"), None, allowed) == "the master key"
    assert refusal(who("agent"), "quarantined", allowed) is not None


def test_the_refusal_says_who_may_and_what_to_ask_instead() -> None:
    with pytest.raises(Forbidden) as caught:
        require_callable(who("user"), "coder", "coder-v2", "experimental")
    assert str(caught.value) == (
        "experimental model 'coder-v2' for a key of kind user: got 'k', "
        "expected a key of kind service. Ask for model role:coder."
    )
    require_callable(who("user"), "coder", "coder-v1", "production")


def test_users_are_in_no_experiment() -> None:
    assert [may_join_experiment(who(kind)) for kind in ("user", "agent", "service")] == [
        *(False, True, True),
    ]
    assert may_join_experiment(LOCAL)
