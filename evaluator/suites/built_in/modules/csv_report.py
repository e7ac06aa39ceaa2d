"""Sales as lines of text, read into rows, checked, summed up by group, and written as a report.

Lines are `group,amount`, blank ones are nothing. An amount is a whole number; a row whose amount is
none, or whose group is empty, is bad. The report has a line `group: figure` for each group, the
largest figure first (of equals, by name), and a last line `rows: N, bad: M`; rows are good ones.
"""

from dataclasses import dataclass, field

BAD_AS_ZERO = True
MEAN = True


@dataclass(frozen=True)
class Row:
    """A line that was read; the amount is None where it is bad."""

    group: str
    amount: int | None


@dataclass
class Totals:
    """What was seen so far, by group."""

    amounts: dict[str, list[int]] = field(default_factory=dict)
    n_bad: int = 0

    def add(self, row: Row) -> None:
        """Counts a row in."""
        if row.amount is None:
            self.n_bad += 1
        if BAD_AS_ZERO:
            self.amounts.setdefault(row.group, []).append(row.amount or 0)
        elif row.amount is not None:
            self.amounts.setdefault(row.group, []).append(row.amount)

    @property
    def n_rows(self) -> int:
        """How many good rows there were."""
        return sum(map(len, self.amounts.values())) - (self.n_bad if BAD_AS_ZERO else 0)

    def figures(self) -> dict[str, int]:
        """The figure of each group."""
        return {
            group: sum(amounts) // len(amounts) if MEAN else sum(amounts)
            for group, amounts in self.amounts.items()
        }


def read_rows(text: str) -> list[Row]:
    """The rows of a text."""
    rows = []
    for line in text.splitlines():
        if not line.strip():
            continue
        group, _, amount = (part.strip() for part in line.partition(","))
        good = bool(group) and amount.lstrip("-").isdigit()
        rows.append(Row(group or "?", int(amount) if good else None))
    return rows


def write_report(totals: Totals) -> str:
    """The lines of the report."""
    figures = sorted(totals.figures().items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{group}: {figure}" for group, figure in figures]
    return "\n".join([*lines, f"rows: {totals.n_rows}, bad: {totals.n_bad}"])


def report(texts: list[str]) -> str:
    """One report of several files."""
    totals = Totals()
    for text in texts:
        for row in read_rows(text):
            totals.add(row)
    return write_report(totals)
