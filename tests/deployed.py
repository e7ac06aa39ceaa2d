"""What `deploy/` says, read as its readers do: compose.yaml, its variables, commands, settings."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
import yaml

import collector.client
from flywheel.cli import app as command_line
from foundation.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent
DEPLOY = PROJECT / "deploy"

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}")


def variables_of(path: Path) -> dict[str, str]:
    """The lines NAME=value of an environment file."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def composition(**variables: str) -> dict[str, Any]:
    """compose.yaml with `.env.example` and `variables` filled in, as Compose does it."""
    known = {**variables_of(DEPLOY / ".env.example"), **variables}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return _VARIABLE.sub(replace, value) if isinstance(value, str) else value

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return known[found[1]] if found[1] in known else found[2]

    return {name: fill(value) for name, value in raw_composition().items()}


@cache
def raw_composition() -> dict[str, Any]:
    """compose.yaml as it is written, with its anchors merged."""
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return read


def is_ours(service: dict[str, Any]) -> bool:
    """Whether a service of compose.yaml runs one of our images, whose entry point is `flywheel`."""
    return str(service["image"]).startswith("agent-flywheel/")


def image_environment() -> dict[str, str]:
    """The variables that the images of deploy/Dockerfile set for what runs in them."""
    text = (DEPLOY / "Dockerfile").read_text().split(" AS runtime")[1].split("\nFROM ")[0]
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert block
    return dict(re.findall(r"(\w+)=(\S+)", block[1]))


def known_variables() -> set[str]:
    """Every FLYWHEEL_ variable that the product or its client reads."""
    ours = {f"FLYWHEEL_{name.upper()}" for name in Settings.model_fields}
    return ours | set(re.findall(r"FLYWHEEL_\w+", collector.client.__doc__ or ""))


def parse(words: list[str]) -> str:
    """Parse `flywheel WORDS` without running it; the words that name the command.

    Raises:
        UsageError: (of click) there is no such command, or it takes no such option or value.
    """
    command = typer.main.get_command(command_line)
    named = ["flywheel"]
    context = command.context_class(command, info_name="flywheel")
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, list(words))
        named.append(name)
        context = command.context_class(command, info_name=name, parent=context)
    command.make_context(named[-1], list(words))
    return " ".join(named)


def named_variables(text: str) -> Iterator[str]:
    """The FLYWHEEL_ variables that a text names."""
    yield from re.findall(r"\bFLYWHEEL_[A-Z][A-Z_]*[A-Z]\b", text)
