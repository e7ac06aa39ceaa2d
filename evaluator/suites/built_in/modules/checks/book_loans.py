"""Judges tests of `book_loans`."""

import pytest

from evaluator.suites.built_in.modules.book_loans import (
    FEES_BLOCK,
    FROM_DUE,
    Desk,
    Fees,
    Loan,
    Loans,
    Refused,
)
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "FROM_DUE": {
            True: "A renewed loan lasts 14 days from its due day.",
            False: "A renewed loan lasts 14 days from the day of renewing.",
        },
        "FEES_BLOCK": {
            True: "Who owes a fee may not borrow.",
            False: "Who owes a fee may borrow.",
        },
    },
    faults=[
        Fault(
            "a loan that ended is still there",
            "self.loans.by_book.pop(book)",
            "self.loans.by_book[book]",
        ),
        Fault(
            "the fee is not on the reader's account",
            "self.fees.add(loan.reader, today - loan.due)",
            "5 * max(0, today - loan.due)",
        ),
        Fault(
            "the fee is for the days of the loan",
            "self.fees.add(loan.reader, today - loan.due)",
            "self.fees.add(loan.reader, today - loan.due + 14)",
        ),
        Fault(
            "the fee is on the account of the book",
            "self.fees.add(loan.reader,",
            "self.fees.add(book,",
        ),
        Fault("a turn stays after it was used", "            turns.pop(0)", "            pass"),
        Fault("anybody may take a turn", "turns and turns[0] != reader", "False"),
        Fault(
            "the books of all readers count",
            "self.loans.count(reader) >= 2",
            "len(self.loans.by_book) >= 2",
        ),
        Fault(
            "those who wait do not stop renewing",
            "today > loan.due or self.turns.get(book)",
            "today > loan.due",
        ),
        Fault("renewing is not kept", "self.loans.by_book[book] = Loan(loan.reader, due)", "pass"),
        Fault(
            "fees of anybody block",
            "self.fees.owed.get(reader, 0)",
            "any(self.fees.owed.values())",
        ),
    ],
)


def desk() -> Desk:
    """A library with four books."""
    return Desk({"emma", "faust", "iliad", "ulysses"}, Loans(), Fees())


def test_lending_and_taking_back() -> None:
    """One reader at a time."""
    made = desk()
    assert made.lend("emma", "ann", 10) == 24
    with pytest.raises(Refused, match="emma"):
        made.lend("emma", "bob", 11)
    assert made.take_back("emma", 24) == 0
    assert made.lend("emma", "bob", 25) == 39
    assert made.loans.by_book == {"emma": Loan("bob", 39)}
    with pytest.raises(Refused, match="missing"):
        made.lend("missing", "ann", 26)


def test_two_books_at_most() -> None:
    """Each reader."""
    made = desk()
    made.lend("emma", "ann", 0)
    made.lend("faust", "ann", 0)
    made.lend("iliad", "bob", 0)
    with pytest.raises(Refused, match="ann"):
        made.lend("ulysses", "ann", 0)
    made.take_back("faust", 1)
    assert made.lend("ulysses", "ann", 1) == 15


def test_late_books_cost() -> None:
    """The one who had them, and may bar from the next."""
    made = desk()
    made.lend("emma", "ann", 0)
    made.lend("faust", "ann", 0)
    assert made.take_back("emma", 15) == 5
    assert made.take_back("faust", 17) == 15
    assert made.fees.owed == {"ann": 20}
    if FEES_BLOCK:
        with pytest.raises(Refused, match="ann"):
            made.lend("emma", "ann", 20)
        assert made.loans.by_book == {}
        made.fees.owed["ann"] = 0
    assert made.lend("faust", "bob", 20) == 34
    assert made.lend("emma", "ann", 20) == 34


def test_renewing() -> None:
    """Up to the due day, and the new day holds for the fee."""
    made = desk()
    made.lend("emma", "ann", 0)
    assert made.renew("emma", 4) == (28 if FROM_DUE else 18)
    due = made.renew("emma", 18)
    assert due == (42 if FROM_DUE else 32)
    assert made.loans.by_book["emma"] == Loan("ann", due)
    with pytest.raises(Refused, match="emma"):
        made.renew("emma", due + 1)
    assert made.take_back("emma", due + 2) == 10
    made.lend("faust", "bob", 0)
    assert made.renew("faust", 14) == 28


def test_turns() -> None:
    """In the order of the reservations, and then anybody."""
    made = desk()
    made.lend("emma", "ann", 0)
    with pytest.raises(Refused, match="emma"):
        made.reserve("emma", "ann")
    with pytest.raises(Refused, match="faust"):
        made.reserve("faust", "bob")
    made.reserve("emma", "bob")
    made.reserve("emma", "cid")
    with pytest.raises(Refused, match="emma"):
        made.renew("emma", 1)
    made.take_back("emma", 2)
    for reader in ("cid", "ann"):
        with pytest.raises(Refused, match=reader):
            made.lend("emma", reader, 3)
    assert made.lend("emma", "bob", 3) == 17
    with pytest.raises(Refused, match="emma"):
        made.renew("emma", 4)
    made.take_back("emma", 4)
    made.lend("emma", "cid", 5)
    assert made.renew("emma", 5) == (33 if FROM_DUE else 19)
    made.take_back("emma", 6)
    assert made.lend("emma", "ann", 7) == 21


def test_a_refused_reader_keeps_the_turn() -> None:
    """Until there is room for the book."""
    made = desk()
    made.lend("emma", "ann", 0)
    made.reserve("emma", "bob")
    made.lend("faust", "bob", 0)
    made.lend("iliad", "bob", 0)
    made.take_back("emma", 1)
    with pytest.raises(Refused, match="bob"):
        made.lend("emma", "bob", 1)
    with pytest.raises(Refused, match="cid"):
        made.lend("emma", "cid", 1)
    made.take_back("iliad", 1)
    assert made.lend("emma", "bob", 1) == 15
