"""Judges tests of `text_patches`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.text_patches import (
    APPEND,
    SEARCH,
    Conflict,
    History,
    Lines,
    Patch,
    apply,
    diff,
)

CHECKS = Checks(
    rules={
        "SEARCH": {
            True: "A patch that does not fit at its line is tried at each line from the top; "
            "not one without old lines.",
            False: "A patch that does not fit at its line is a conflict.",
        },
        "APPEND": {
            True: "Reverting adds a version.",
            False: "Reverting replaces the last version.",
        },
    },
    faults=[
        Fault(
            "a commit throws away what came since",
            "self.versions.append(apply(patch, self.versions[-1]))",
            "self.versions.append(lines)",
        ),
        Fault(
            "a commit is applied to what it was edited from",
            "apply(patch, self.versions[-1]))",
            "apply(patch, self.versions[base]))",
        ),
        Fault(
            "a commit is compared with the last version",
            "diff(self.versions[base], lines)",
            "diff(self.versions[-1], lines)",
        ),
        Fault(
            "a revert does its change once more",
            "diff(self.versions[number - 1], self.versions[number]).inverse()",
            "diff(self.versions[number - 1], self.versions[number])",
        ),
        Fault(
            "a revert undoes all since the version",
            "lines = apply(patch, self.versions[-1])",
            "lines = self.versions[number - 1]",
        ),
        Fault(
            "a revert undoes all from the beginning",
            "diff(self.versions[number - 1], self.versions[number])",
            "diff(self.versions[0], self.versions[number])",
        ),
        Fault(
            "a patch is put where it says", "place = place_of(patch, lines)", "place = patch.start"
        ),
        Fault(
            "new lines are taken for the old ones in the text",
            "*lines[place + len(patch.old) :]",
            "*lines[place + len(patch.new) :]",
        ),
    ],
)

TEXT = ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ("abcd", "abXd", Patch(2, ["c"], ["X"])),
        ("abcd", "abcd", Patch(4, [], [])),
        ("abcd", "cd", Patch(0, ["a", "b"], [])),
        ("abcd", "abcdef", Patch(4, [], ["e", "f"])),
        ("aaa", "aa", Patch(2, ["a"], [])),
        ("aa", "aaa", Patch(2, [], ["a"])),
        ("", "xy", Patch(0, [], ["x", "y"])),
        ("abc", "xbz", Patch(0, ["a", "b", "c"], ["x", "b", "z"])),
    ],
)
def test_a_difference_can_be_applied_and_undone(before: str, after: str, patch: Patch) -> None:
    """It leads from one text to the other, and back."""
    found = diff(list(before), list(after))
    assert found == patch
    assert apply(found, list(before)) == list(after)
    assert apply(found.inverse(), list(after)) == list(before)


def test_a_text_that_changed_in_the_meantime() -> None:
    """A patch moves with its lines, or is a conflict."""
    patch = diff(TEXT, ["one", "two", "3", "four"])
    for lines in (["zero", *TEXT], TEXT[1:], TEXT[2:3]):
        if SEARCH:
            expected = [line if line != "three" else "3" for line in lines]
            assert apply(patch, lines) == expected
        else:
            with pytest.raises(Conflict, match="2"):
                apply(patch, lines)
    with pytest.raises(Conflict, match="2"):
        apply(patch, ["one", "two", "other", "four"])
    with pytest.raises(Conflict, match="4"):
        apply(diff(TEXT, [*TEXT, "five"]), TEXT[:3])
    with pytest.raises(Conflict, match="0"):
        apply(Patch(0, ["one", "two"], []), ["one"])


def test_two_edits_of_one_version() -> None:
    """Both are in the last one."""
    history = History(TEXT)
    assert history.commit(["one", "two", "three", "4"], 0) == 1
    assert history.commit(["1", "two", "three", "four"], 0) == 2
    assert history.versions == [TEXT, [*TEXT[:3], "4"], ["1", "two", "three", "4"]]
    with pytest.raises(Conflict, match="3"):
        history.commit(["one", "two", "three", "vier"], 0)
    assert len(history.versions) == 3
    assert history.commit(["1", "two"], 2) == 3


def test_two_edits_that_move_lines() -> None:
    """The second is edited from the first version, where its lines stood higher."""
    history = History(TEXT)
    history.commit(["new", *TEXT], 0)
    if SEARCH:
        history.commit(["one", "two", "3", "four"], 0)
        assert history.versions[-1] == ["new", "one", "two", "3", "four"]
    else:
        with pytest.raises(Conflict, match="2"):
            history.commit(["one", "two", "3", "four"], 0)
        assert len(history.versions) == 2


def test_reverting_one_change_of_two() -> None:
    """The other stays."""
    history = History(TEXT)
    history.commit(["1", "two", "three", "four"], 0)
    history.commit(["1", "two", "three", "4"], 1)
    history.revert(1)
    last: Lines = ["one", "two", "three", "4"]
    assert history.versions[-1] == last
    assert len(history.versions) == (4 if APPEND else 3)
    assert (["1", "two", "three", "4"] in history.versions) is APPEND
    with pytest.raises(Conflict, match="0"):
        history.revert(1)
    assert history.versions[-1] == last
    assert history.commit(["one", "two", "three", "4", "five"], len(history.versions) - 1) == (
        4 if APPEND else 3
    )


def test_reverting_a_later_change() -> None:
    """The first one stays."""
    history = History(TEXT)
    history.commit(["1", "two", "three", "four"], 0)
    history.commit(["1", "2", "three", "four"], 1)
    history.commit(["1", "2", "three", "4"], 2)
    history.revert(2)
    assert history.versions[-1] == ["1", "two", "three", "4"]


def test_reverting_the_last_change() -> None:
    """It is as before."""
    history = History(TEXT)
    history.commit(TEXT[1:], 0)
    history.revert(1)
    assert history.versions == ([TEXT, TEXT[1:], TEXT] if APPEND else [TEXT, TEXT])
