"""Judges tests of `plugin_registry`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.plugin_registry import (
    LAST_FIRST,
    SWITCH_OFF,
    Change,
    Hooks,
    Host,
    Missing,
    Plugin,
    Registry,
)

CHECKS = Checks(
    rules={
        "SWITCH_OFF": {
            True: "All functions of a plugin that failed are taken away, for later runs.",
            False: "A plugin that failed is run again next time.",
        },
        "LAST_FIRST": {
            True: "A hook's functions run from the last plugin that was started to the first.",
            False: "A hook's functions run from the first plugin that was started to the last.",
        },
    },
    faults=[
        Fault(
            "plugins start as they were registered",
            "plugins = self.registry.in_order()",
            "plugins = list(self.registry.plugins.values())",
        ),
        Fault(
            "plugins add to the hook of their own name",
            "self.hooks.add(hook, plugin.name, change)",
            "self.hooks.add(plugin.name, hook, change)",
        ),
        Fault(
            "functions are added under the name of the hook",
            "self.hooks.add(hook, plugin.name, change)",
            "self.hooks.add(hook, hook, change)",
        ),
        Fault(
            "a plugin adds its first function only",
            "self.hooks.add(hook, plugin.name, change)",
            "self.hooks.add(hook, plugin.name, change)\n                break",
        ),
        Fault(
            "a failure ends the run",
            "                self.failed.append(plugin)\n",
            "                self.failed.append(plugin)\n                return value\n",
        ),
        Fault(
            "the failed plugin is removed from all but its hooks",
            "self.hooks.remove(plugin)",
            "self.hooks.remove(hook)",
        ),
        Fault(
            "a failure removes the hook",
            "self.hooks.remove(plugin)",
            "self.hooks.functions.pop(hook)",
        ),
        Fault("failures are not noted", "self.failed.append(plugin)", "pass"),
        Fault("values are not handed on", "value = change(value)", "change(value)"),
    ],
)


def adding(text: str) -> Change:
    """A change that adds a text."""
    return lambda value: value + text


def failing(value: str) -> str:
    """A change that fails."""
    raise ValueError(value)


def host(*plugins: Plugin) -> Host:
    """A host that was not started."""
    made = Host(Registry(), Hooks())
    for plugin in plugins:
        made.registry.register(plugin)
    return made


A = Plugin("a", {"save": adding("a"), "load": adding("A")}, ["c"])
B = Plugin("b", {"save": adding("b")})
C = Plugin("c", {"save": adding("c")}, ["d"])
D = Plugin("d", {"save": adding("d"), "load": adding("D")})
BAD = Plugin("bad", {"load": adding("!"), "save": failing}, ["b"])


def test_plugins_start_after_what_they_need() -> None:
    """And their functions run in that order, or against it."""
    made = host(A, B, C, D)
    assert made.start() == ["d", "c", "a", "b"]
    assert made.run("save", ">") == (">bacd" if LAST_FIRST else ">dcab")
    assert made.run("load", ">") == (">AD" if LAST_FIRST else ">DA")
    assert made.run("other", ">") == ">"
    assert made.failed == []


def test_a_plugin_that_fails() -> None:
    """The others go on with the value before it."""
    made = host(A, BAD, B, C, D)
    assert made.start() == ["d", "c", "a", "b", "bad"]
    expected = ">bacd" if LAST_FIRST else ">dcab"
    assert made.run("load", ">") == (">!AD" if LAST_FIRST else ">DA!")
    assert made.run("save", ">") == expected
    assert made.failed == ["bad"]
    assert made.run("save", ">") == expected
    assert made.failed == (["bad"] if SWITCH_OFF else ["bad", "bad"])
    left = "" if SWITCH_OFF else "!"
    assert made.run("load", ">") == (f">{left}AD" if LAST_FIRST else f">DA{left}")


def test_a_failure_in_the_middle() -> None:
    """Nothing is lost before or behind it."""
    made = host(D, Plugin("worse", {"save": failing}), B)
    made.start()
    assert made.run("save", "") == ("bd" if LAST_FIRST else "db")
    assert made.run("save", "x") == ("xbd" if LAST_FIRST else "xdb")
    assert made.failed == ["worse"] * (1 if SWITCH_OFF else 2)


@pytest.mark.parametrize(
    ("plugins", "name"),
    [
        ((A, D), "c"),
        ((Plugin("x", {}, ["x"]),), "x"),
        ((Plugin("x", {}, ["y"]), Plugin("y", {}, ["x"])), "x"),
    ],
)
def test_what_is_needed_and_missing(plugins: tuple[Plugin, ...], name: str) -> None:
    """Nothing is started then."""
    made = host(*plugins)
    with pytest.raises(Missing, match=f"^{name}$"):
        made.start()
    assert made.hooks.functions == {}


def test_a_plugin_registered_again() -> None:
    """The later one counts, in the place of the first."""
    made = host(B, D, Plugin("b", {"save": adding("new")}))
    assert made.start() == ["b", "d"]
    assert made.run("save", "") == ("dnew" if LAST_FIRST else "newd")


def test_needed_twice() -> None:
    """Is started once."""
    made = host(Plugin("x", {}, ["d", "c"]), A, C, D)
    assert made.start() == ["d", "c", "x", "a"]
    assert made.run("save", "") == ("acd" if LAST_FIRST else "dca")
