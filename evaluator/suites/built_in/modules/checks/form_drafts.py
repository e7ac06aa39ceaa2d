"""Judges tests of `form_drafts`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.form_drafts import CLEAR, KEEP_BAD, Drafts, Form

CHECKS = Checks(
    rules={
        "KEEP_BAD": {
            True: "A value that fails its rule is saved like any other.",
            False: "A value that fails its rule is not saved.",
        },
        "CLEAR": {
            True: "Submitting begins anew, without drafts.",
            False: "Submitting leaves the drafts as they are.",
        },
    },
    faults=[
        Fault(
            "a draft holds the last field only",
            "self.drafts.save({**self.drafts.current, field: value})",
            "self.drafts.save({field: value})",
        ),
        Fault(
            "drafts are built on the newest one, not on the current one",
            "self.drafts.save({**self.drafts.current, field: value})",
            "self.drafts.save({**self.drafts.history[-1], field: value})",
        ),
        Fault(
            "setting a field changes the current draft",
            "self.drafts.save({**self.drafts.current, field: value})",
            "self.drafts.current[field] = value",
        ),
        Fault(
            "a value that is there already is saved again",
            "self.drafts.current.get(field) != value",
            "value is not None",
        ),
        Fault(
            "the newest draft is checked",
            "values = self.drafts.current",
            "values = self.drafts.history[-1]",
        ),
        Fault(
            "the newest draft is sent",
            "self.outbox.append(dict(self.drafts.current))",
            "self.outbox.append(dict(self.drafts.history[-1]))",
        ),
        Fault("problems do not stop a form", "        if not problems:", "        if True:"),
        Fault("nothing arrives", "self.outbox.append(dict(self.drafts.current))", "pass"),
        Fault(
            "undo goes back to the start",
            "self.drafts.move(-1)",
            "self.drafts.move(-self.drafts.at)",
        ),
    ],
)


def form() -> Form:
    """Two fields with rules."""
    return Form({"age": str.isdigit, "mail": lambda text: "@" in text}, Drafts(), [])


def test_a_form_is_filled_in_and_sent() -> None:
    """Fields without a rule go along."""
    made = form()
    assert made.submit() == ["age", "mail"]
    assert made.set("age", "30")
    assert made.set("note", "hi")
    assert made.submit() == ["mail"]
    assert made.outbox == []
    assert made.set("mail", "a@b")
    assert made.submit() == []
    assert made.outbox == [{"age": "30", "note": "hi", "mail": "a@b"}]


def test_after_sending() -> None:
    """The form is empty, or as it was."""
    made = form()
    made.set("age", "30")
    made.set("mail", "a@b")
    made.submit()
    assert made.drafts.current == ({} if CLEAR else {"age": "30", "mail": "a@b"})
    assert made.undo() is not CLEAR
    assert made.submit() == (["age", "mail"] if CLEAR else ["mail"])
    made.set("age", "31")
    made.set("mail", "c@d")
    made.submit()
    assert made.outbox == [{"age": "30", "mail": "a@b"}, {"age": "31", "mail": "c@d"}]


def test_undo_and_redo() -> None:
    """Draft by draft, and no further than there are."""
    made = form()
    assert not made.undo()
    made.set("age", "1")
    made.set("age", "2")
    made.set("note", "x")
    assert not made.redo()
    assert made.undo()
    assert made.drafts.current == {"age": "2"}
    assert made.undo()
    assert made.drafts.current == {"age": "1"}
    assert made.redo()
    assert made.redo()
    assert made.drafts.current == {"age": "2", "note": "x"}
    assert [made.undo() for _ in range(4)] == [True, True, True, False]


def test_something_new_after_undo() -> None:
    """It is built on what is shown, and nothing can be redone."""
    made = form()
    made.set("age", "1")
    made.set("mail", "a@b")
    made.set("note", "old")
    made.undo()
    made.undo()
    made.set("note", "new")
    assert made.drafts.current == {"age": "1", "note": "new"}
    assert not made.redo()
    assert made.submit() == ["mail"]
    assert made.undo()
    assert made.drafts.current == {"age": "1"}


def test_what_is_undone_is_not_sent() -> None:
    """Checks and sending see the current draft."""
    made = form()
    made.set("age", "1")
    made.set("mail", "a@b")
    made.set("age", "99")
    made.undo()
    assert made.submit() == []
    assert made.outbox == [{"age": "1", "mail": "a@b"}]
    other = form()
    other.set("age", "1")
    other.set("mail", "a@b")
    other.undo()
    assert other.submit() == ["mail"]
    assert other.outbox == []


def test_values_that_fail() -> None:
    """They are told at once, and saved or not."""
    made = form()
    made.set("age", "5")
    made.set("mail", "a@b")
    assert not made.set("age", "old")
    assert made.drafts.current["age"] == ("old" if KEEP_BAD else "5")
    assert made.submit() == (["age"] if KEEP_BAD else [])
    assert len(made.outbox) == (0 if KEEP_BAD else 1)


def test_the_same_value_again() -> None:
    """Is no draft."""
    made = form()
    assert made.set("age", "5")
    assert made.set("age", "5")
    assert made.undo()
    assert made.drafts.current == {}
    assert not made.undo()
