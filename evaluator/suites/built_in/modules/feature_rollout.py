"""Feature flags: their shares, groups of users, and the record of who saw what.

A flag is on for a share of users, in percent, chosen by a fixed number of flag and user, and for
all members of its groups. Asking whether it is on for a user records the answer as shown.
"""

import zlib

ONCE = True
KILLED = True


def bucket(flag: str, user: str) -> int:
    """A number from 0 to 99, always the same for a flag and a user."""
    return zlib.crc32(f"{flag}:{user}".encode()) % 100


class Groups:
    """Who belongs to which group."""

    def __init__(self, members: dict[str, list[str]]) -> None:
        self.members = members

    def contain(self, groups: list[str], user: str) -> bool:
        """Whether the user is in one of the groups."""
        return any(user in self.members.get(group, []) for group in groups)


class Flags:
    """The share and the groups of each flag."""

    def __init__(self) -> None:
        self.shares: dict[str, int] = {}
        self.groups: dict[str, list[str]] = {}

    def define(self, flag: str, share: int, groups: list[str]) -> None:
        """Adds or changes a flag."""
        self.shares[flag] = share
        self.groups[flag] = groups


class Rollout:
    """Answers for users."""

    def __init__(self, flags: Flags, groups: Groups) -> None:
        self.flags = flags
        self.groups = groups
        self.shown: list[tuple[str, str, bool]] = []

    def is_on(self, flag: str, user: str) -> bool:
        """Whether the user has the feature; an unknown flag is KeyError and not recorded."""
        share = self.flags.shares[flag]
        member = self.groups.contain(self.flags.groups[flag], user)
        if KILLED:
            on = share > 0 and (member or bucket(flag, user) < share)
        else:
            on = member or bucket(flag, user) < share
        self.record(flag, user, on)
        return on

    def record(self, flag: str, user: str, on: bool) -> None:
        """Notes an answer."""
        entry = (flag, user, on)
        if not ONCE or entry not in self.shown:
            self.shown.append(entry)

    def users_on(self, flag: str) -> list[str]:
        """Who was last told that the flag is on, by name."""
        last = {user: on for name, user, on in self.shown if name == flag}
        return sorted(user for user, on in last.items() if on)
