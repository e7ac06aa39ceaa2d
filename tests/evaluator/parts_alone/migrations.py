"""Each part of `migrations` alone, with stand-ins for the others."""

import pytest
from solution import Broken, Database, Migration, Runner

USERS, POSTS = Migration(1, "users"), Migration(5, "posts")


class Anything:
    def create(self, table):
        pass

    def drop(self, table):
        pass


class Nothing(Anything):
    def create(self, table):
        raise Broken(table)


def test_database():
    database = Database(["old"])
    database.create("new")
    assert database.tables == {"old", "new"}
    with pytest.raises(Broken):
        database.create("new")
    database.drop("old")
    with pytest.raises(Broken):
        database.drop("old")
    assert database.tables == {"new"}


def test_runner():
    runner = Runner(Anything(), [])
    assert runner.pending([POSTS, USERS]) == [USERS, POSTS]
    assert runner.up([POSTS, USERS]) == 2
    assert Runner(Anything(), [USERS]).pending([POSTS, USERS]) == [POSTS]


def test_runner_fails():
    with pytest.raises(Broken):
        Runner(Nothing(), []).up([USERS])


def test_down():
    runner = Runner(Anything(), [USERS, POSTS])
    runner.down(1)
    assert runner.ledger == [USERS]
    runner.down(5)
    assert runner.ledger == []
