"""A form on a phone: its fields with rules, drafts that can be undone, and what is submitted.

Setting a field saves a draft of all fields. Undo goes back to the draft before; redo forward again,
until something new is set. Submitting checks all rules and names the fields that fail, sorted; if
none does, the values go to the outbox.
"""

from collections.abc import Callable

KEEP_BAD = True
CLEAR = True

Values = dict[str, str]
Rule = Callable[[str], bool]


class Drafts:
    """All drafts, and which one is current; the first is empty."""

    def __init__(self) -> None:
        self.history: list[Values] = [{}]
        self.at = 0

    @property
    def current(self) -> Values:
        """The values now."""
        return self.history[self.at]

    def save(self, values: Values) -> None:
        """Adds a draft behind the current one; what could be redone is gone."""
        self.history = [*self.history[: self.at + 1], dict(values)]
        self.at += 1

    def move(self, steps: int) -> bool:
        """Goes back or forward where there is a draft; returns whether there was."""
        if not 0 <= self.at + steps < len(self.history):
            return False
        self.at += steps
        return True


class Form:
    """Fields with rules; a field must be there if it has a rule."""

    def __init__(self, rules: dict[str, Rule], drafts: Drafts, outbox: list[Values]) -> None:
        self.rules = rules
        self.drafts = drafts
        self.outbox = outbox

    def set(self, field: str, value: str) -> bool:
        """Sets a field; returns whether its rule holds."""
        good = field not in self.rules or self.rules[field](value)
        if (KEEP_BAD or good) and self.drafts.current.get(field) != value:
            self.drafts.save({**self.drafts.current, field: value})
        return good

    def undo(self) -> bool:
        """Goes back by one draft."""
        return self.drafts.move(-1)

    def redo(self) -> bool:
        """Goes forward by one draft."""
        return self.drafts.move(1)

    def problems(self) -> list[str]:
        """The fields that are missing or fail."""
        values = self.drafts.current
        return sorted(
            field
            for field, rule in self.rules.items()
            if field not in values or not rule(values[field])
        )

    def submit(self) -> list[str]:
        """Sends the values where there is no problem; returns the problems."""
        problems = self.problems()
        if not problems:
            self.outbox.append(dict(self.drafts.current))
            if CLEAR:
                self.drafts = Drafts()
        return problems
