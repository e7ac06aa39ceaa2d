"""Plugins: a registry that knows what they need, hooks that they add, and the host that runs them.

A plugin adds functions to hooks. The host starts plugins so that each comes after those it needs,
otherwise in the order in which they were registered. Running a hook hands a value through its
functions, one after the other. A plugin whose function raises ValueError has failed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

SWITCH_OFF = True
LAST_FIRST = True

Change = Callable[[str], str]


class Missing(Exception):
    """A plugin needs one that is not there, or needs itself."""


@dataclass(frozen=True)
class Plugin:
    """A name, the hooks with what it adds there, and what it needs."""

    name: str
    changes: dict[str, Change]
    needs: list[str] = field(default_factory=list)


class Registry:
    """All plugins that could be started."""

    def __init__(self) -> None:
        self.plugins: dict[str, Plugin] = {}

    def register(self, plugin: Plugin) -> None:
        """Adds a plugin."""
        self.plugins[plugin.name] = plugin

    def in_order(self) -> list[Plugin]:
        """Each plugin after those it needs."""
        ordered: list[Plugin] = []

        def visit(name: str, above: tuple[str, ...]) -> None:
            if name in above or name not in self.plugins:
                raise Missing(name)
            for needed in self.plugins[name].needs:
                visit(needed, (*above, name))
            if self.plugins[name] not in ordered:
                ordered.append(self.plugins[name])

        for name in self.plugins:
            visit(name, ())
        return ordered


class Hooks:
    """Functions by hook, each with the plugin that added it."""

    def __init__(self) -> None:
        self.functions: dict[str, list[tuple[str, Change]]] = {}

    def add(self, hook: str, plugin: str, change: Change) -> None:
        """Adds a function at the end."""
        self.functions.setdefault(hook, []).append((plugin, change))

    def remove(self, plugin: str) -> None:
        """Takes away all that a plugin added."""
        for hook, functions in self.functions.items():
            self.functions[hook] = [item for item in functions if item[0] != plugin]


class Host:
    """Starts plugins and runs hooks."""

    def __init__(self, registry: Registry, hooks: Hooks) -> None:
        self.registry = registry
        self.hooks = hooks
        self.failed: list[str] = []

    def start(self) -> list[str]:
        """Adds the functions of all plugins; returns their names in order."""
        plugins = self.registry.in_order()
        for plugin in plugins:
            for hook, change in plugin.changes.items():
                self.hooks.add(hook, plugin.name, change)
        return [plugin.name for plugin in plugins]

    def run(self, hook: str, value: str) -> str:
        """Hands a value through; a function that fails leaves it as it was."""
        functions = list(self.hooks.functions.get(hook, []))
        for plugin, change in functions[::-1] if LAST_FIRST else functions:
            try:
                value = change(value)
            except ValueError:
                self.failed.append(plugin)
                if SWITCH_OFF:
                    self.hooks.remove(plugin)
        return value
