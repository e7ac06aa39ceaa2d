"""Judges tests of `migrations`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.migrations import (
    LATE,
    UNDO,
    Broken,
    Database,
    Migration,
    Runner,
)

CHECKS = Checks(
    rules={
        "UNDO": {
            True: "Where a migration fails, those applied before it in the same run are undone.",
            False: "Where a migration fails, those applied before it stay.",
        },
        "LATE": {
            True: "A pending migration may have a lower number than one in the ledger.",
            False: "A pending migration below the highest number in the ledger is refused, "
            "before anything runs.",
        },
    },
    faults=[
        Fault("the ledger is not written", "self.ledger.append(migration)", "pass"),
        Fault(
            "the ledger is written before the database",
            "            try:\n",
            "            self.ledger.append(migration)\n            try:\n",
        ),
        Fault("going down leaves the table", "self.database.drop(self.ledger[-1].table)", "pass"),
        Fault("going down leaves the ledger", "            self.ledger.pop()", "            pass"),
        Fault(
            "going down begins at the first",
            "            self.database.drop(self.ledger[-1].table)\n            self.ledger.pop()",
            "            self.database.drop(self.ledger[0].table)\n            self.ledger.pop(0)",
        ),
        Fault(
            "migrations run as they are given",
            "waiting = self.pending(migrations)",
            "waiting = [one for one in migrations if one in self.pending(migrations)]",
        ),
        Fault(
            "what was applied runs again",
            "waiting = self.pending(migrations)",
            "waiting = sorted(migrations, key=lambda one: one.number)",
        ),
        Fault("a failure undoes all there is", "self.down(done)", "self.down(len(self.ledger))"),
        Fault(
            "the ledger is dropped where the database fails",
            "            self.database.drop(self.ledger[-1].table)\n            self.ledger.pop()",
            "            self.database.drop(self.ledger.pop().table)",
        ),
    ],
)

USERS, POSTS, TAGS, VOTES = (
    Migration(number, table)
    for number, table in [(1, "users"), (5, "posts"), (3, "tags"), (9, "votes")]
)


def runner(*tables: str) -> Runner:
    """On a database that has tables."""
    return Runner(Database(list(tables)), [])


def test_up_in_order_and_only_once() -> None:
    """Further ones run later."""
    made = runner("old")
    assert made.up([POSTS, USERS]) == 2
    assert made.up([POSTS, USERS]) == 0
    assert made.up([VOTES, POSTS, USERS]) == 1
    assert made.ledger == [USERS, POSTS, VOTES]
    assert made.database.tables == {"old", "users", "posts", "votes"}
    assert made.pending([VOTES, TAGS]) == [TAGS]


def test_down_from_the_end() -> None:
    """And up again."""
    made = runner()
    made.up([USERS, TAGS, POSTS])
    made.down(1)
    assert (made.ledger, made.database.tables) == ([USERS, TAGS], {"users", "tags"})
    assert made.up([USERS, TAGS, POSTS]) == 1
    made.down(2)
    assert (made.ledger, made.database.tables) == ([USERS], {"users"})
    made.down(7)
    assert (made.ledger, made.database.tables) == ([], set())


def test_a_failure_in_the_middle() -> None:
    """What ran before this run stays in any case."""
    made = runner("posts")
    made.up([USERS])
    with pytest.raises(Broken, match="posts"):
        made.up([USERS, VOTES, POSTS, TAGS])
    assert made.ledger == ([USERS] if UNDO else [USERS, TAGS])
    assert made.database.tables == {"users", "posts"} | (set() if UNDO else {"tags"})
    made.database.drop("posts")
    assert made.up([USERS, VOTES, POSTS, TAGS]) == (3 if UNDO else 2)
    assert made.ledger == [USERS, TAGS, POSTS, VOTES]


def test_a_migration_that_comes_late() -> None:
    """Between two that have run."""
    made = runner()
    made.up([USERS, POSTS])
    if LATE:
        assert made.up([USERS, TAGS, POSTS, VOTES]) == 2
        assert made.ledger == [USERS, POSTS, TAGS, VOTES]
        made.down(3)
        assert made.database.tables == {"users"}
    else:
        with pytest.raises(Broken, match="tags"):
            made.up([USERS, TAGS, POSTS, VOTES])
        assert made.ledger == [USERS, POSTS]
        assert made.database.tables == {"users", "posts"}
        assert made.up([Migration(5, "twins")]) == 1


def test_a_table_that_went_missing() -> None:
    """Going down stops there, and the ledger tells the truth."""
    made = runner()
    made.up([USERS, TAGS, POSTS])
    made.database.drop("tags")
    with pytest.raises(Broken, match="tags"):
        made.down(3)
    assert made.ledger == [USERS, TAGS]
    assert made.database.tables == {"users"}
