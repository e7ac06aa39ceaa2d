"""Notifications: templates by language, what people prefer, and the dispatcher of both.

A person has a language, a channel, and quiet hours from one hour up to, but not including, another
(over midnight too; equal ones mean none), in which texts are held back. Templates hold `{name}`
where values go. A person of whom nothing is known gets English by mail at any hour.
"""

from dataclasses import dataclass

KEEP_ALL = True
IN_ENGLISH = True


@dataclass(frozen=True)
class Person:
    """What someone prefers."""

    language: str = "en"
    channel: str = "mail"
    quiet_from: int = 0
    quiet_to: int = 0

    def is_quiet(self, hour: int) -> bool:
        """Whether nothing may be sent at that hour."""
        if self.quiet_from <= self.quiet_to:
            return self.quiet_from <= hour < self.quiet_to
        return hour >= self.quiet_from or hour < self.quiet_to


class Templates:
    """Texts by name and language."""

    def __init__(self, texts: dict[tuple[str, str], str]) -> None:
        self.texts = texts

    def render(self, name: str, language: str, values: dict[str, str]) -> str | None:
        """The text with its values; None where there is none."""
        text = self.texts.get((name, language))
        if IN_ENGLISH and text is None:
            text = self.texts.get((name, "en"))
        return None if text is None else text.format(**values)


class Dispatcher:
    """Sends texts, or holds them back."""

    def __init__(self, templates: Templates, people: dict[str, Person]) -> None:
        self.templates = templates
        self.people = people
        self.sent: list[tuple[str, str, str]] = []
        self.held: list[tuple[str, str]] = []
        self.dropped = 0

    def notify(self, name: str, template: str, values: dict[str, str], hour: int) -> bool:
        """Sends `(channel, name, text)` now where that is possible; returns whether it was."""
        person = self.people.get(name, Person())
        text = self.templates.render(template, person.language, {"name": name, **values})
        if text is None:
            self.dropped += 1
            return False
        if person.is_quiet(hour):
            if not KEEP_ALL:
                self.held = [item for item in self.held if item[0] != name]
            self.held.append((name, text))
            return False
        self.sent.append((person.channel, name, text))
        return True

    def release(self, hour: int) -> int:
        """Sends what was held back for people who are not quiet now; returns how much."""
        waiting, self.held = self.held, []
        for name, text in waiting:
            person = self.people.get(name, Person())
            if person.is_quiet(hour):
                self.held.append((name, text))
            else:
                self.sent.append((person.channel, name, text))
        return len(waiting) - len(self.held)
