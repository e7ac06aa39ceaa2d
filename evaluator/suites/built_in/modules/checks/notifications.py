"""Judges tests of `notifications`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.notifications import (
    IN_ENGLISH,
    KEEP_ALL,
    Dispatcher,
    Person,
    Templates,
)

CHECKS = Checks(
    rules={
        "KEEP_ALL": {
            True: "All texts that are held back are sent when they are released.",
            False: "Of the texts held back for a person only the last one stays.",
        },
        "IN_ENGLISH": {
            True: "Where a template is missing in a language, the English one is sent.",
            False: "Where a template is missing in a language, nothing is sent.",
        },
    },
    faults=[
        Fault(
            "everybody gets English",
            "self.templates.render(template, person.language,",
            'self.templates.render(template, "en",',
        ),
        Fault(
            "the template does not know whom it is for",
            '{"name": name, **values}',
            '{"name": "", **values}',
        ),
        Fault(
            "quiet hours are not kept",
            "        if person.is_quiet(hour):\n            self.held",
            "        if False:\n            self.held",
        ),
        Fault(
            "what is held back is sent too",
            "            self.held.append((name, text))\n            return False",
            "            self.held.append((name, text))\n"
            "            self.sent.append((person.channel, name, text))\n            return False",
        ),
        Fault(
            "of all texts only the last one is held back",
            "self.held = [item for item in self.held if item[0] != name]",
            "self.held = []",
        ),
        Fault(
            "what is released is not sent",
            "            else:\n                self.sent.append((person.channel, name, text))\n"
            "        return",
            "        return",
        ),
        Fault(
            "quiet hours do not count when texts are released",
            "            if person.is_quiet(hour):\n                self.held",
            "            if person.is_quiet(0):\n                self.held",
        ),
        Fault(
            "held texts are released again and again",
            "waiting, self.held = self.held, []",
            "waiting = list(self.held)",
        ),
        Fault(
            "all goes by mail",
            "        self.sent.append((person.channel, name, text))\n        return True",
            '        self.sent.append(("mail", name, text))\n        return True',
        ),
        Fault(
            "name and channel are mixed up",
            "        self.sent.append((person.channel, name, text))\n        return True",
            "        self.sent.append((name, person.channel, text))\n        return True",
        ),
    ],
)


def dispatcher() -> Dispatcher:
    """Two templates, three people."""
    texts = {
        ("hello", "en"): "Hello {name}",
        ("hello", "de"): "Hallo {name}",
        ("morning", "de"): "Morgen {name}",
        ("paid", "en"): "{name} paid {sum}",
    }
    people = {
        "ann": Person("de", "push", 22, 7),
        "bob": Person("en", "sms", 12, 14),
        "cid": Person("fr"),
    }
    return Dispatcher(Templates(texts), people)


def test_everyone_in_their_way() -> None:
    """Language, channel, values."""
    made = dispatcher()
    assert all(made.notify(name, "hello", {}, 10) for name in ("ann", "bob", "eve"))
    assert made.notify("bob", "paid", {"sum": "5"}, 11)
    assert made.notify("bob", "paid", {"sum": "6", "name": "Robert"}, 14)
    assert made.sent == [
        ("push", "ann", "Hallo ann"),
        ("sms", "bob", "Hello bob"),
        ("mail", "eve", "Hello eve"),
        ("sms", "bob", "bob paid 5"),
        ("sms", "bob", "Robert paid 6"),
    ]
    assert (made.held, made.dropped) == ([], 0)


@pytest.mark.parametrize(
    ("name", "hour", "quiet"),
    [
        ("ann", 21, False),
        ("ann", 22, True),
        ("ann", 0, True),
        ("ann", 6, True),
        ("ann", 7, False),
        ("bob", 11, False),
        ("bob", 12, True),
        ("bob", 13, True),
        ("bob", 14, False),
        ("eve", 0, False),
    ],
)
def test_quiet_hours(name: str, hour: int, quiet: bool) -> None:
    """Both ends, and over midnight."""
    made = dispatcher()
    assert made.notify(name, "hello", {}, hour) is not quiet
    assert len(made.sent) == (0 if quiet else 1)
    assert len(made.held) == (1 if quiet else 0)
    assert made.dropped == 0


def test_what_waits_is_released_once() -> None:
    """In its order, to those who are not quiet."""
    made = dispatcher()
    made.notify("ann", "hello", {}, 23)
    made.notify("bob", "hello", {}, 13)
    made.notify("ann", "morning", {}, 1)
    assert made.release(23) == 1
    assert made.sent == [("sms", "bob", "Hello bob")]
    late = ["Hallo ann", "Morgen ann"] if KEEP_ALL else ["Morgen ann"]
    assert made.held == [("ann", text) for text in late]
    assert made.release(7) == len(late)
    assert made.release(8) == 0
    assert made.sent[1:] == [("push", "ann", text) for text in late]
    assert made.dropped == 0


def test_templates_that_are_missing() -> None:
    """In a language, or in all."""
    made = dispatcher()
    assert made.notify("cid", "hello", {}, 9) is IN_ENGLISH
    assert made.notify("ann", "paid", {"sum": "7"}, 9) is IN_ENGLISH
    assert not made.notify("bob", "bye", {}, 9)
    assert made.dropped == (1 if IN_ENGLISH else 3)
    assert made.sent == (
        [("mail", "cid", "Hello cid"), ("push", "ann", "ann paid 7")] if IN_ENGLISH else []
    )
    assert not made.notify("ann", "bye", {}, 23)
    assert made.held == []


def test_preferences_change_while_a_text_waits() -> None:
    """The channel is that of the release."""
    made = dispatcher()
    made.notify("bob", "hello", {}, 12)
    made.people["bob"] = Person(channel="push")
    assert made.release(12) == 1
    assert made.sent == [("push", "bob", "Hello bob")]
    made.notify("bob", "hello", {}, 13)
    del made.people["ann"], made.people["bob"]
    made.held.append(("ann", "text"))
    assert made.notify("bob", "hello", {}, 12)
    assert made.release(12) == 1
    assert made.sent[-2:] == [("mail", "bob", "Hello bob"), ("mail", "ann", "text")]
