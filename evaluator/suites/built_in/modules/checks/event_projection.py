"""Judges tests of `event_projection`."""

import pytest

from evaluator.suites.built_in.modules.event_projection import (
    CREDIT,
    CURRENT,
    Balances,
    Bank,
    Event,
    Events,
    Refused,
)
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "CURRENT": {
            True: "The bank brings the projection up to date before each withdrawal.",
            False: "The bank takes the projection as it is; others bring it up to date.",
        },
        "CREDIT": {
            True: "A withdrawal may leave a balance of -100, not less.",
            False: "A withdrawal may leave a balance of 0, not less.",
        },
    },
    faults=[
        Fault(
            "the deposit of a transfer comes before its withdrawal",
            "        self.withdraw(source, amount)\n        self.deposit(target, amount)",
            "        self.deposit(target, amount)\n        self.withdraw(source, amount)",
        ),
        Fault(
            "a transfer goes the wrong way",
            "        self.withdraw(source, amount)\n        self.deposit(target, amount)",
            "        self.withdraw(target, amount)\n        self.deposit(source, amount)",
        ),
        Fault(
            "the projection reads from the beginning each time",
            "events.after(self.position)",
            "events.after(0)",
        ),
        Fault(
            "the projection does not notice where it is",
            "self.position += 1",
            "self.position = len(events.items) - 1",
        ),
        Fault(
            "withdrawals are stored as deposits",
            "Event(account, -amount)",
            "Event(account, amount)",
        ),
        Fault(
            "refused withdrawals are stored",
            "            raise Refused(account)\n"
            "        self.events.append(Event(account, -amount))",
            "            self.events.append(Event(account, -amount))\n"
            "            raise Refused(account)\n"
            "        self.events.append(Event(account, -amount))",
        ),
        Fault(
            "the bank updates the balance itself too",
            "self.events.append(Event(account, amount))",
            "self.events.append(Event(account, amount))\n"
            "        self.balances.amounts[account] = "
            "self.balances.amounts.get(account, 0) + amount",
        ),
    ],
)


def bank(**amounts: int) -> Bank:
    """A bank with deposits that its projection knows."""
    made = Bank(Events(), Balances())
    for account, amount in amounts.items():
        made.deposit(account, amount)
    made.balances.catch_up(made.events)
    return made


def test_balances_follow_the_events() -> None:
    """However often the projection catches up."""
    made = bank(ann=50, bob=5)
    made.withdraw("ann", 20)
    made.deposit("ann", 1)
    for _ in range(2):
        made.balances.catch_up(made.events)
    assert made.balances.amounts == {"ann": 31, "bob": 5}
    assert made.balances.position == 4
    assert made.events.items[2:] == [Event("ann", -20), Event("ann", 1)]


def test_what_the_balance_covers() -> None:
    """To the last unit."""
    made = bank(ann=50)
    most = 150 if CREDIT else 50
    with pytest.raises(Refused, match="ann"):
        made.withdraw("ann", most + 1)
    assert len(made.events.items) == 1
    made.withdraw("ann", most)
    made.balances.catch_up(made.events)
    assert made.balances.amounts["ann"] == 50 - most
    with pytest.raises(Refused):
        made.withdraw("ann", 1)


def test_which_balance_the_bank_sees() -> None:
    """Before anybody else brings the projection up to date."""
    made = bank(ann=10)
    made.deposit("ann", 500)
    if CURRENT:
        made.withdraw("ann", 400)
        assert made.balances.position == 2
    else:
        with pytest.raises(Refused, match="ann"):
            made.withdraw("ann", 400)
        assert made.balances.position == 1
        assert made.balances.amounts == {"ann": 10}


def test_transfers() -> None:
    """Both events, or none."""
    made = bank(ann=50, bob=5)
    made.transfer("ann", "bob", 30)
    assert made.events.items[2:] == [Event("ann", -30), Event("bob", 30)]
    with pytest.raises(Refused, match="bob"):
        made.transfer("bob", "ann", 999)
    assert len(made.events.items) == 4
    made.balances.catch_up(made.events)
    assert made.balances.amounts == {"ann": 20, "bob": 35}


@pytest.mark.parametrize("amount", [0, -5])
def test_amounts_below_one(amount: int) -> None:
    """Leave no event."""
    made = bank(ann=50)
    with pytest.raises(Refused, match="ann"):
        made.deposit("ann", amount)
    with pytest.raises(Refused, match="ann"):
        made.withdraw("ann", amount)
    assert len(made.events.items) == 1


def test_a_new_account_and_amounts_of_one() -> None:
    """The smallest that is taken."""
    made = bank()
    made.deposit("new", 1)
    made.balances.catch_up(made.events)
    made.withdraw("new", 1)
    with pytest.raises(Refused):
        made.withdraw("other", 101 if CREDIT else 1)
    made.balances.catch_up(made.events)
    assert made.balances.amounts == {"new": 0}
