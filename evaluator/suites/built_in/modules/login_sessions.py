"""Accounts, sessions, and the login that ties them together.

Three wrong passwords in a row lock an account; a right one before that starts the count anew. A
session ends 30 minutes after its time began, and when the password of its user is changed, which
also unlocks the account. Times are minutes.
"""

ONE_EACH = True
IDLE = True


class Accounts:
    """Passwords, and how often in a row a wrong one was given."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self.passwords = dict(passwords)
        self.failures: dict[str, int] = {}

    def is_locked(self, user: str) -> bool:
        """Whether there were three failures in a row."""
        return self.failures.get(user, 0) >= 3

    def check(self, user: str, password: str) -> bool:
        """Whether the password is right; counts."""
        right = self.passwords.get(user) == password
        self.failures[user] = 0 if right else self.failures.get(user, 0) + 1
        return right


class Sessions:
    """Who is logged in, and since when; tokens count from 1."""

    def __init__(self) -> None:
        self.users: dict[int, str] = {}
        self.since: dict[int, int] = {}

    def begin(self, user: str, now: int) -> int:
        """Opens a session and returns its token."""
        token = len(self.since) + 1
        self.users[token] = user
        self.since[token] = now
        return token

    def end_all(self, user: str) -> None:
        """Ends the sessions of a user."""
        self.users = {token: name for token, name in self.users.items() if name != user}

    def is_open(self, token: int, now: int) -> bool:
        """Whether the session was begun and has not ended."""
        return token in self.users and now - self.since[token] < 30


class Login:
    """What the pages of a site call."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self.accounts = accounts
        self.sessions = sessions

    def log_in(self, user: str, password: str, now: int) -> int | None:
        """A token; None where the password is wrong or the account locked."""
        if self.accounts.is_locked(user) or not self.accounts.check(user, password):
            return None
        if ONE_EACH:
            self.sessions.end_all(user)
        return self.sessions.begin(user, now)

    def user_of(self, token: int, now: int) -> str | None:
        """Who holds the token; None where its session is not open."""
        if not self.sessions.is_open(token, now):
            return None
        if IDLE:
            self.sessions.since[token] = now
        return self.sessions.users[token]

    def change_password(self, user: str, password: str) -> None:
        """Sets a password."""
        self.accounts.passwords[user] = password
        self.accounts.failures[user] = 0
        self.sessions.end_all(user)
