"""A constitution: principles, read from a YAML file and checked; one is drawn for each prompt."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import yaml

from foundation.errors import BadInput

MOST_CHARS: Final = 2000
"""Of one principle: it stands in every question."""
_REMEDY: Final = "Write it like the default: flywheel constitution principles"


@dataclass(frozen=True)
class Principle:
    """One principle: its name, and what it asks of an answer; yes means a fault."""

    name: str
    asks: str


@dataclass(frozen=True)
class Constitution:
    """Principles in their order."""

    principles: tuple[Principle, ...]

    @property
    def digest(self) -> str:
        """Hash of all principles: with another one, prompts are answered anew."""
        said = json.dumps([(one.name, one.asks) for one in self.principles])
        return hashlib.sha256(said.encode()).hexdigest()

    def drawn(self, interaction_id: UUID, seed: int) -> Principle:
        """Return the principle of a prompt: by lot from its id, so no text can choose it."""
        lot = hashlib.sha256(f"{seed}\0{self.digest}\0{interaction_id}".encode()).digest()
        return self.principles[int.from_bytes(lot[:8]) % len(self.principles)]

    def as_json(self) -> list[dict[str, str]]:
        """Return plain values; `constitution_of` gives the same constitution back."""
        return [{"name": one.name, "asks": one.asks} for one in self.principles]


def load(path: Path | None = None) -> Constitution:
    """Return the constitution of a file, or the default one.

    Raises:
        BadInput: the file cannot be read, or is not a list of named principles.
    """
    try:
        said = path.read_text() if path else default_text()
        values = yaml.safe_load(said)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput("principles file", str(path), "a readable YAML file", str(error)) from error
    if not isinstance(values, dict) or set(values) != {"principles"}:
        raise BadInput("principles file", values, "a mapping with `principles`", _REMEDY)
    return constitution_of(values["principles"])


def default_text() -> str:
    """Return the file of the default principles, to begin one's own from."""
    return files("curation.constitution").joinpath("default.yaml").read_text()


def constitution_of(values: Any) -> Constitution:
    """Return the constitution of plain values.

    Raises:
        BadInput: no list of at least one principle with distinct names.
    """
    if not isinstance(values, list) or not values:
        raise BadInput("principles", values, "a list of at least one", _REMEDY)
    found = tuple(_principle(value) for value in values)
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise BadInput("principles", names, "distinct names", _REMEDY)
    return Constitution(found)


def _principle(value: Any) -> Principle:
    if not isinstance(value, dict) or set(value) != {"name", "asks"}:
        raise BadInput("principle", value, "a mapping with `name` and `asks`", _REMEDY)
    for key in ("name", "asks"):
        text = value[key]
        if not isinstance(text, str) or not text.strip() or len(text) > MOST_CHARS:
            raise BadInput(
                f"principle: {key}", text, f"text of 1 to {MOST_CHARS} characters", _REMEDY
            )
    return Principle(value["name"].strip(), value["asks"].strip())
