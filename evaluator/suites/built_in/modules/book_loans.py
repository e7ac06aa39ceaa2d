"""A library: its books, its loans with their due days, fees, and the desk that lends.

Loans last 14 days. A book is lent to one reader at a time. One who brings a book back late pays 5
for each day after the due day. Nobody may have more than two books. Reserving a book that is lent
gives the reader the next turn; without a reservation anybody may borrow it.
"""

from dataclasses import dataclass

FROM_DUE = True
FEES_BLOCK = True


class Refused(Exception):
    """The desk does not do it."""


@dataclass(frozen=True)
class Loan:
    """Who has a book, and until when."""

    reader: str
    due: int


class Loans:
    """What is lent, by book."""

    def __init__(self) -> None:
        self.by_book: dict[str, Loan] = {}

    def count(self, reader: str) -> int:
        """How many books a reader has."""
        return sum(loan.reader == reader for loan in self.by_book.values())


class Fees:
    """What readers owe."""

    def __init__(self) -> None:
        self.owed: dict[str, int] = {}

    def add(self, reader: str, days: int) -> int:
        """Adds the fee for days after the due day; returns it."""
        fee = 5 * max(0, days)
        self.owed[reader] = self.owed.get(reader, 0) + fee
        return fee


class Desk:
    """Lends books and takes them back."""

    def __init__(self, books: set[str], loans: Loans, fees: Fees) -> None:
        self.books = books
        self.loans = loans
        self.fees = fees
        self.turns: dict[str, list[str]] = {}

    def lend(self, book: str, reader: str, today: int) -> int:
        """Lends a book; returns its due day."""
        turns = self.turns.get(book, [])
        if book not in self.books or book in self.loans.by_book:
            raise Refused(book)
        if (turns and turns[0] != reader) or self.loans.count(reader) >= 2:
            raise Refused(reader)
        if FEES_BLOCK and self.fees.owed.get(reader, 0):
            raise Refused(reader)
        if turns:
            turns.pop(0)
        self.loans.by_book[book] = Loan(reader, today + 14)
        return today + 14

    def renew(self, book: str, today: int) -> int:
        """Makes a loan longer by 14 days; not once it is late, nor where others wait."""
        loan = self.loans.by_book[book]
        if today > loan.due or self.turns.get(book):
            raise Refused(book)
        due = (loan.due if FROM_DUE else today) + 14
        self.loans.by_book[book] = Loan(loan.reader, due)
        return due

    def reserve(self, book: str, reader: str) -> None:
        """Puts a reader behind those who wait for a book that is lent."""
        if book not in self.loans.by_book or self.loans.by_book[book].reader == reader:
            raise Refused(book)
        self.turns.setdefault(book, []).append(reader)

    def take_back(self, book: str, today: int) -> int:
        """Ends a loan; returns the fee."""
        loan = self.loans.by_book.pop(book)
        return self.fees.add(loan.reader, today - loan.due)
