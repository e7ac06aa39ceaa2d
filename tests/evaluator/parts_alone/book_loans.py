"""Each part of `book_loans` alone, with stand-ins for the others."""

import pytest
from solution import Desk, Fees, Loan, Loans, Refused


class Lent:
    def __init__(self, count=0, **books):
        self.by_book = books
        self.n = count

    def count(self, reader):
        return self.n


class Free:
    owed = {}

    def add(self, reader, days):
        return 0


class Owing(Free):
    owed = {"ann": 5}


def test_loans():
    loans = Loans()
    loans.by_book = {"a": Loan("ann", 1), "b": Loan("bob", 1), "c": Loan("ann", 1)}
    assert (loans.count("ann"), loans.count("bob"), loans.count("cid")) == (2, 1, 0)


def test_fees():
    fees = Fees()
    assert [fees.add("ann", days) for days in (-3, 0, 2, 1)] == [0, 0, 10, 5]
    assert fees.owed == {"ann": 15}


def test_lend():
    assert Desk({"emma"}, Lent(), Free()).lend("emma", "ann", 10) == 24
    for desk in (
        Desk(set(), Lent(), Free()),
        Desk({"emma"}, Lent(emma=Loan("bob", 3)), Free()),
        Desk({"emma"}, Lent(2), Free()),
        Desk({"emma"}, Lent(), Owing()),
    ):
        with pytest.raises(Refused):
            desk.lend("emma", "ann", 10)


def test_renew():
    assert Desk({"emma"}, Lent(emma=Loan("ann", 14)), Free()).renew("emma", 14) == 28
    with pytest.raises(Refused):
        Desk({"emma"}, Lent(emma=Loan("ann", 14)), Free()).renew("emma", 15)


def test_reserve_and_take_back():
    desk = Desk({"emma"}, Lent(emma=Loan("ann", 14)), Free())
    desk.reserve("emma", "bob")
    assert desk.turns == {"emma": ["bob"]}
    with pytest.raises(Refused):
        desk.reserve("emma", "ann")
    assert desk.take_back("emma", 10) == 0
