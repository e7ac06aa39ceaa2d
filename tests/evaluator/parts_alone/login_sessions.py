"""Each part of `login_sessions` alone, with stand-ins for the others."""

from solution import Accounts, Login, Sessions


class Anybody:
    def __init__(self):
        self.passwords = {}
        self.failures = {}

    def is_locked(self, user):
        return user == "locked"

    def check(self, user, password):
        return password == "right"


class Tokens:
    def __init__(self):
        self.users = {7: "ann"}
        self.since = {7: 0}

    def begin(self, user, now):
        return 7

    def end_all(self, user):
        pass

    def is_open(self, token, now):
        return token == 7


def test_accounts():
    accounts = Accounts({"ann": "apple"})
    assert [accounts.check("ann", word) for word in ("x", "x", "apple", "x", "x")] == [
        False, False, True, False, False,
    ]  # fmt: skip
    assert not accounts.is_locked("ann")
    accounts.check("ann", "x")
    assert accounts.is_locked("ann")
    assert not accounts.is_locked("bob")


def test_sessions():
    sessions = Sessions()
    assert sessions.begin("ann", 100) == 1
    assert sessions.begin("bob", 105) == 2
    assert sessions.is_open(1, 129)
    assert not sessions.is_open(1, 130)
    assert not sessions.is_open(3, 100)
    sessions.end_all("ann")
    assert sessions.users == {2: "bob"}
    assert not sessions.is_open(1, 101)


def test_login():
    login = Login(Anybody(), Tokens())
    assert login.log_in("ann", "right", 5) == 7
    assert login.log_in("ann", "wrong", 5) is None
    assert login.log_in("locked", "right", 5) is None
    assert login.user_of(7, 9) == "ann"
    assert login.user_of(8, 9) is None


def test_change_password():
    accounts = Anybody()
    Login(accounts, Tokens()).change_password("ann", "new")
    assert accounts.passwords == {"ann": "new"}
