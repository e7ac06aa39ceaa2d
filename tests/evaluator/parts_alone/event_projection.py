"""Each part of `event_projection` alone, with stand-ins for the others."""

import pytest
from solution import Balances, Bank, Event, Events, Refused


class Three:
    def after(self, position):
        return [Event("ann", 5), Event("ann", -2), Event("bob", 1)][position:]


class Sink:
    def append(self, event):
        self.last = event


class Fifty:
    amounts = {"ann": 50, "bob": 50}

    def catch_up(self, events):
        pass


def test_events():
    events = Events()
    one, two = Event("ann", 1), Event("bob", -2)
    events.append(one)
    events.append(two)
    assert events.items == [one, two]
    assert events.after(1) == [two]
    assert events.after(0) == [one, two]


def test_balances():
    balances = Balances()
    balances.catch_up(Three())
    balances.catch_up(Three())
    assert balances.amounts == {"ann": 3, "bob": 1}
    assert balances.position == 3


def test_bank():
    events = Sink()
    bank = Bank(events, Fifty())
    bank.deposit("ann", 7)
    assert events.last.account == "ann"
    bank.withdraw("ann", 150)
    assert events.last.account == "ann"
    bank.transfer("ann", "bob", 20)
    for refused in (
        lambda: bank.withdraw("ann", 151),
        lambda: bank.withdraw("ann", 0),
        lambda: bank.deposit("ann", 0),
    ):
        with pytest.raises(Refused):
            refused()
