"""Judges tests of `login_sessions`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.login_sessions import (
    IDLE,
    ONE_EACH,
    Accounts,
    Login,
    Sessions,
)

CHECKS = Checks(
    rules={
        "ONE_EACH": {
            True: "A new login ends the other sessions of the same user.",
            False: "A user may have several sessions.",
        },
        "IDLE": {
            True: "Each use of an open session begins its time anew.",
            False: "The time of a session begins with its login alone.",
        },
    },
    faults=[
        Fault(
            "a locked account takes the right password",
            "self.accounts.is_locked(user) or not self.accounts.check(user, password)",
            "not self.accounts.check(user, password)",
        ),
        Fault(
            "a locked account is told only after the password was counted",
            "self.accounts.is_locked(user) or not self.accounts.check(user, password)",
            "not self.accounts.check(user, password) or self.accounts.is_locked(user)",
        ),
        Fault(
            "a new password leaves the sessions open",
            "        self.accounts.failures[user] = 0\n        self.sessions.end_all(user)",
            "        self.accounts.failures[user] = 0",
        ),
        Fault(
            "a new password leaves the account locked",
            "        self.accounts.failures[user] = 0\n        self.sessions",
            "        self.sessions",
        ),
        Fault(
            "the session is begun for the password",
            "self.sessions.begin(user, now)",
            "self.sessions.begin(password, now)",
        ),
        Fault(
            "sessions begin at minute 0",
            "self.sessions.begin(user, now)",
            "self.sessions.begin(user, 0)",
        ),
        Fault(
            "the time of another session is renewed",
            "self.sessions.since[token] = now",
            "self.sessions.since[1] = now",
        ),
    ],
)


def login() -> Login:
    """A site with two users."""
    return Login(Accounts({"ann": "apple", "bob": "berry"}), Sessions())


def test_a_token_tells_its_user() -> None:
    """Each its own."""
    site = login()
    ann, bob = site.log_in("ann", "apple", 100), site.log_in("bob", "berry", 100)
    assert (ann, bob) == (1, 2)
    assert site.user_of(1, 101) == "ann"
    assert site.user_of(2, 101) == "bob"
    assert site.user_of(3, 101) is None
    assert site.log_in("eve", "apple", 100) is None


def test_three_failures_lock_until_the_password_is_changed() -> None:
    """The right password does not help any more."""
    site = login()
    assert [site.log_in("ann", "wrong", 1) for _ in range(3)] == [None, None, None]
    assert site.log_in("ann", "apple", 2) is None
    assert site.log_in("ann", "apple", 3) is None
    assert site.log_in("bob", "berry", 3) == 1
    site.change_password("ann", "avocado")
    assert site.log_in("ann", "apple", 4) is None
    assert site.log_in("ann", "avocado", 4) == 2


def test_a_right_password_forgives_failures() -> None:
    """Two failures, success, two failures: still open."""
    site = login()
    for password in ("no", "no", "apple", "no", "no"):
        site.log_in("ann", password, 1)
    assert not site.accounts.is_locked("ann")
    assert site.log_in("ann", "apple", 2) == 2


def test_a_session_ends_after_half_an_hour() -> None:
    """Of rest, or in all."""
    site = login()
    site.log_in("bob", "berry", 90)
    site.log_in("ann", "apple", 100)
    assert site.user_of(2, 129) == "ann"
    assert site.user_of(2, 130) == ("ann" if IDLE else None)
    assert site.user_of(2, 159) == ("ann" if IDLE else None)
    assert site.user_of(2, 189) is None
    assert site.user_of(1, 120) is None


def test_further_logins_of_a_user() -> None:
    """Other users keep their sessions."""
    site = login()
    site.log_in("bob", "berry", 100)
    site.log_in("ann", "apple", 100)
    assert site.log_in("ann", "apple", 105) == 3
    assert site.user_of(2, 106) == (None if ONE_EACH else "ann")
    assert site.user_of(3, 106) == "ann"
    assert site.user_of(1, 106) == "bob"


def test_a_new_password_ends_the_sessions() -> None:
    """Those of that user only."""
    site = login()
    site.log_in("ann", "apple", 100)
    site.log_in("bob", "berry", 100)
    site.change_password("ann", "avocado")
    assert site.user_of(1, 101) is None
    assert site.user_of(2, 101) == "bob"
    assert site.log_in("ann", "avocado", 102) == 3
    assert site.user_of(3, 103) == "ann"
