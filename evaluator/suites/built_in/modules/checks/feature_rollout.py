"""Judges tests of `feature_rollout`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.feature_rollout import (
    KILLED,
    ONCE,
    Flags,
    Groups,
    Rollout,
    bucket,
)

CHECKS = Checks(
    rules={
        "ONCE": {
            True: "The same answer for a flag and a user is recorded once.",
            False: "Every answer is recorded.",
        },
        "KILLED": {
            True: "A share of 0 turns a flag off for its groups too.",
            False: "A share of 0 leaves a flag on for its groups.",
        },
    },
    faults=[
        Fault("answers are not recorded", "self.record(flag, user, on)", "pass"),
        Fault(
            "all flags choose the same users",
            "bucket(flag, user)",
            "bucket('', user)",
        ),
        Fault("all users are in one bucket", "bucket(flag, user)", "bucket(flag, '')"),
        Fault(
            "the groups of all flags count",
            "self.groups.contain(self.flags.groups[flag], user)",
            "self.groups.contain(sum(self.flags.groups.values(), []), user)",
        ),
        Fault(
            "the flag is taken for a group",
            "self.groups.contain(self.flags.groups[flag], user)",
            "self.groups.contain([flag], user)",
        ),
        Fault(
            "flag and user are recorded the wrong way round",
            "self.record(flag, user, on)",
            "self.record(user, flag, on)",
        ),
        Fault(
            "membership is recorded for the answer",
            "self.record(flag, user, on)",
            "self.record(flag, user, member)",
        ),
    ],
)

USERS = [f"user{number}" for number in range(40)]


def rollout(share: int) -> Rollout:
    """With two flags and a group for each."""
    made = Rollout(Flags(), Groups({"staff": ["ann", "bob"], "beta": ["dan"]}))
    made.flags.define("dark", share, ["staff", "nobody"])
    made.flags.define("search", 100, ["beta"])
    return made


def test_a_share_of_the_users() -> None:
    """Those whose bucket is below it, flag by flag, and no others."""
    edge = bucket("dark", "user7")
    for share, on in ((edge, False), (edge + 1, True)):
        made = rollout(share)
        assert made.is_on("dark", "user7") is on
        found = [user for user in USERS if made.is_on("dark", user)]
        assert found == [user for user in USERS if bucket("dark", user) < share]
        assert made.users_on("dark") == sorted(found)
        assert made.users_on("search") == []
    assert all(rollout(100).is_on("search", user) for user in USERS)
    assert not any(rollout(0).is_on("dark", user) for user in USERS)


def test_buckets_spread() -> None:
    """From 0 to 99, each flag for itself."""
    assert bucket("dark", "user7") == 67
    assert {bucket("dark", f"user{n}") for n in range(2000)} == set(range(100))
    assert [bucket("dark", user) for user in USERS] != [bucket("search", user) for user in USERS]


def test_groups_of_the_flag_only() -> None:
    """Whatever their bucket."""
    made = rollout(10)
    assert [bucket("dark", user) >= 10 for user in ("ann", "bob", "dan")] == [True] * 3
    assert [made.is_on("dark", user) for user in ("ann", "bob", "dan")] == [True, True, False]
    assert made.users_on("dark") == ["ann", "bob"]


def test_a_share_of_nothing() -> None:
    """For members of a group too, or not."""
    made = rollout(0)
    assert made.is_on("dark", "ann") is not KILLED
    assert made.shown == [("dark", "ann", not KILLED)]
    made.flags.define("dark", 1, ["staff"])
    assert made.is_on("dark", "ann")


def test_the_record_over_time() -> None:
    """It tells the last answer of each user."""
    made = rollout(100)
    for user in ("zoe", "ann", "zoe"):
        made.is_on("dark", user)
    entries = [("dark", "zoe", True), ("dark", "ann", True)]
    assert made.shown == (entries if ONCE else [*entries, ("dark", "zoe", True)])
    made.flags.define("dark", 0, [])
    assert not made.is_on("dark", "zoe")
    assert made.users_on("dark") == ["ann"]
    assert made.shown[-1] == ("dark", "zoe", False)


def test_an_unknown_flag() -> None:
    """Is an error and no record."""
    made = rollout(50)
    with pytest.raises(KeyError, match="light"):
        made.is_on("light", "ann")
    assert made.shown == []
