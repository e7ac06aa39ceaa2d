"""Judges tests of `deploy_states`."""

import pytest

from evaluator.suites.built_in.modules.deploy_states import (
    LOG_REFUSED,
    ROLL_BACK,
    Deployer,
    Log,
    Refused,
    States,
)
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "LOG_REFUSED": {
            True: "A step that is refused is logged as `refused`.",
            False: "A step that is refused leaves nothing in the log.",
        },
        "ROLL_BACK": {
            True: "Where the live release fails, the one that went live before it goes live "
            "again if it is retired; so a retired release can.",
            False: "Where the live release fails, none is live.",
        },
    },
    faults=[
        Fault(
            "two releases are live",
            'if state == "live" and before is not None:',
            'if state == "lively" and before is not None:',
        ),
        Fault(
            "the old release is retired behind the back of the log",
            'self.advance(before, "retired")',
            'self.states.move(before, "retired")',
        ),
        Fault(
            "the new release is retired",
            'self.advance(before, "retired")',
            'self.advance(release, "retired")',
        ),
        Fault(
            "the log is written before the step",
            "        before = self.live\n",
            "        before = self.live\n        self.log.note(release, state)\n",
        ),
        Fault(
            "steps are not logged",
            "        self.log.note(release, state)\n        if",
            "        if",
        ),
        Fault(
            "the old release is looked for after the step",
            '        if state == "live" and before',
            '        before = self.live\n        if state == "live" and before',
        ),
        Fault(
            "the failed release is taken for the earlier one",
            "self.log.last_live(release)",
            "self.log.last_live('')",
        ),
    ],
)


def deployer(*live: str) -> Deployer:
    """With releases that went live one after the other."""
    made = Deployer(States(), Log())
    for release in live:
        made.advance(release, "built")
        made.advance(release, "live")
    return made


def test_going_live_retires_what_was_live() -> None:
    """Only that, and the log says so."""
    made = deployer("v1", "v2")
    made.advance("v3", "built")
    assert made.live == "v2"
    assert made.states.states == {"v1": "retired", "v2": "live", "v3": "built"}
    assert made.log.entries == [
        ("v1", "built"),
        ("v1", "live"),
        ("v2", "built"),
        ("v2", "live"),
        ("v1", "retired"),
        ("v3", "built"),
    ]


@pytest.mark.parametrize(
    ("release", "state"),
    [("v3", "live"), ("v2", "built"), ("v1", "failed"), ("v2", "new"), ("v3", "retired")],
)
def test_what_is_no_step_changes_nothing(release: str, state: str) -> None:
    """But for a line in the log."""
    made = deployer("v1", "v2")
    before = len(made.log.entries)
    with pytest.raises(Refused, match=state):
        made.advance(release, state)
    assert made.states.states == {"v1": "retired", "v2": "live"}
    assert made.log.entries[before:] == ([(release, "refused")] if LOG_REFUSED else [])


def test_the_live_release_fails() -> None:
    """The one before it takes over, or none."""
    made = deployer("v1", "v2", "v3")
    made.advance("v3", "failed")
    assert made.live == ("v2" if ROLL_BACK else None)
    assert made.states.states["v3"] == "failed"
    assert made.states.states["v1"] == "retired"
    later = [("v3", "failed"), ("v2", "live")] if ROLL_BACK else [("v3", "failed")]
    assert made.log.entries[-len(later) :] == later
    with pytest.raises(Refused):
        made.advance("v3", "built")


def test_failures_in_a_row() -> None:
    """A release that failed never comes back."""
    made = deployer("v1", "v2")
    made.advance("v2", "failed")
    if ROLL_BACK:
        made.advance("v1", "failed")
    assert made.live is None
    made.advance("v3", "built")
    made.advance("v3", "live")
    made.advance("v3", "failed")
    assert made.live is None
    assert made.states.states["v2"] == made.states.states["v3"] == "failed"


def test_a_failure_beside_the_live_release() -> None:
    """Before it was ever live."""
    made = deployer("v1", "v2")
    made.advance("v3", "failed")
    made.advance("v4", "built")
    made.advance("v4", "failed")
    assert made.live == "v2"
    assert made.states.states["v1"] == "retired"
    assert made.log.entries[-1] == ("v4", "failed")


def test_a_retired_release_by_hand() -> None:
    """It can go live again, or never."""
    made = deployer("v1", "v2")
    if ROLL_BACK:
        made.advance("v1", "live")
        assert (made.live, made.states.states["v2"]) == ("v1", "retired")
    else:
        with pytest.raises(Refused):
            made.advance("v1", "live")
        assert made.live == "v2"
