"""Each part of `notifications` alone, with stand-ins for the others."""

import pytest
from solution import Dispatcher, Person, Templates


class Text:
    def render(self, name, language, values):
        return "text" if name == "known" else None


class Awake:
    language, channel = "en", "mail"

    def is_quiet(self, hour):
        return False


class Asleep(Awake):
    def is_quiet(self, hour):
        return True


@pytest.mark.parametrize(("hour", "quiet"), [(21, False), (22, True), (6, True), (7, False)])
def test_person(hour, quiet):
    assert Person("en", "mail", 22, 7).is_quiet(hour) is quiet
    assert Person("en", "mail", 7, 22).is_quiet(hour) is not quiet
    assert not Person().is_quiet(hour)


def test_templates():
    templates = Templates({("hello", "en"): "Hello {name}", ("hello", "de"): "Hallo {name}"})
    assert templates.render("hello", "de", {"name": "ann"}) == "Hallo ann"
    assert templates.render("hello", "fr", {"name": "ann"}) == "Hello ann"
    assert templates.render("bye", "en", {}) is None


def test_dispatcher():
    made = Dispatcher(Text(), {"ann": Awake(), "bob": Asleep()})
    assert made.notify("ann", "known", {}, 5)
    assert made.sent == [("mail", "ann", "text")]
    assert not made.notify("bob", "known", {}, 5)
    assert made.held == [("bob", "text")]
    assert not made.notify("ann", "unknown", {}, 5)
    assert made.dropped == 1


def test_release():
    made = Dispatcher(Text(), {"ann": Awake(), "bob": Asleep()})
    made.held = [("bob", "one"), ("ann", "two")]
    assert made.release(5) == 1
    assert made.held == [("bob", "one")]
