"""Accounts as events: a store, a projection that reads it, and a bank that writes to it.

The projection holds balances and remembers how many events it has read. The bank refuses amounts
below 1, and withdrawals that the balance which it sees does not cover; refused commands leave no
event. A transfer is a withdrawal and then a deposit.
"""

from dataclasses import dataclass

CURRENT = True
CREDIT = True


@dataclass(frozen=True)
class Event:
    """Money that came (above 0) or went."""

    account: str
    amount: int


class Refused(Exception):
    """The bank does not do it."""


class Events:
    """All that happened, in order."""

    def __init__(self) -> None:
        self.items: list[Event] = []

    def append(self, event: Event) -> None:
        """Adds one at the end."""
        self.items.append(event)

    def after(self, position: int) -> list[Event]:
        """Those behind the first `position` ones."""
        return self.items[position:]


class Balances:
    """A projection of events; counts those it has read."""

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}
        self.position = 0

    def catch_up(self, events: Events) -> None:
        """Reads what is new."""
        for event in events.after(self.position):
            self.amounts[event.account] = self.amounts.get(event.account, 0) + event.amount
            self.position += 1


class Bank:
    """Takes commands."""

    def __init__(self, events: Events, balances: Balances) -> None:
        self.events = events
        self.balances = balances

    def deposit(self, account: str, amount: int) -> None:
        """Adds money."""
        if amount < 1:
            raise Refused(account)
        self.events.append(Event(account, amount))

    def withdraw(self, account: str, amount: int) -> None:
        """Takes money."""
        if CURRENT:
            self.balances.catch_up(self.events)
        balance = self.balances.amounts.get(account, 0)
        if amount < 1 or balance - amount < (-100 if CREDIT else 0):
            raise Refused(account)
        self.events.append(Event(account, -amount))

    def transfer(self, source: str, target: str, amount: int) -> None:
        """Moves money."""
        self.withdraw(source, amount)
        self.deposit(target, amount)
