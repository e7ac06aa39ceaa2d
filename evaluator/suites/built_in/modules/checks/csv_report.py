"""Judges tests of `csv_report`."""

from evaluator.suites.built_in.modules.csv_report import (
    BAD_AS_ZERO,
    MEAN,
    Totals,
    read_rows,
    report,
    write_report,
)
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "BAD_AS_ZERO": {
            True: "A bad row counts as 0 in its group; an empty group is `?`.",
            False: "A bad row is left out of its group.",
        },
        "MEAN": {
            True: "A group's figure is the mean of its amounts, rounded down.",
            False: "A group's figure is the sum of its amounts.",
        },
    },
    faults=[
        Fault(
            "each file begins a new report",
            "    for text in texts:\n",
            "    for text in texts:\n        totals = Totals()\n",
        ),
        Fault("only the first file is read", "for text in texts:", "for text in texts[:1]:"),
        Fault(
            "the last row of a file is lost",
            "for row in read_rows(text):",
            "for row in read_rows(text)[:-1]:",
        ),
        Fault("each row is added twice", "totals.add(row)", "totals.add(row), totals.add(row)"),
        Fault(
            "files are glued together at their ends",
            "        for row in read_rows(text):\n            totals.add(row)\n",
            "        pass\n    for row in read_rows(''.join(texts)):\n        totals.add(row)\n",
        ),
        Fault(
            "the report counts bad rows as rows",
            "rows: {totals.n_rows}",
            "rows: {totals.n_rows + totals.n_bad}",
        ),
    ],
)


def test_two_files_make_one_report() -> None:
    """A group may stand in both."""
    files = ["tea, 5\nrice,8\n\ntea,6", "salt,1\n tea , 8 "]
    figure = {True: 6, False: 19}[MEAN]
    expected = ["rice: 8", f"tea: {figure}", "salt: 1", "rows: 5, bad: 0"]
    if not MEAN:
        expected[:2] = expected[1::-1]
    assert report(files) == "\n".join(expected)


def test_bad_rows_are_counted() -> None:
    """From whichever file, and whatever is wrong with them."""
    files = ["tea,10\ntea,much\n,7", "tea,-1\nrice\nrice,3"]
    lines = report(files).splitlines()
    assert lines[-1] == "rows: 3, bad: 3"
    assert "tea: " + str((3 if BAD_AS_ZERO else 4) if MEAN else 9) in lines
    assert "rice: " + str((1 if BAD_AS_ZERO else 3) if MEAN else 3) in lines
    assert ("?: 0" in lines) is BAD_AS_ZERO


def test_equal_figures_stand_by_name() -> None:
    """Negative ones last."""
    assert report(["b,2\na,2\nc,-4", "d,3"]) == "d: 3\na: 2\nb: 2\nc: -4\nrows: 4, bad: 0"


def test_no_rows_at_all() -> None:
    """No group is made up."""
    assert report([]) == report(["", "\n \n"]) == "rows: 0, bad: 0"


def test_totals_between_reader_and_writer() -> None:
    """What is added later shows in the next report."""
    totals = Totals()
    for row in read_rows("tea,4\nrice,x"):
        totals.add(row)
    first = write_report(totals)
    for row in read_rows("tea,6"):
        totals.add(row)
    assert first.splitlines()[0] == "tea: 4"
    assert write_report(totals).splitlines()[0] == ("tea: 5" if MEAN else "tea: 10")
    assert write_report(totals).endswith("rows: 2, bad: 1")
