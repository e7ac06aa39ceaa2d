"""Who judges: the models of the settings, and the family that each comes from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from foundation.errors import BadSetting
from foundation.settings import get_settings

AT_ONCE: Final = 4
TIMEOUT_S: Final = 120.0

_ALIASES: Final = {
    "chatgpt": "gpt",
    "codestral": "mistral",
    "devstral": "mistral",
    "magistral": "mistral",
    "ministral": "mistral",
    "mixtral": "mistral",
    "alpaca": "llama",
    "vicuna": "llama",
    "starchat": "starcoder",
}
_FAMILIES: Final = (
    *("claude", "command", "deepseek", "falcon", "gemini", "gemma", "glm", "gpt", "granite"),
    *("grok", "kimi", "llama", "minimax", "mistral", "nemotron", "olmo", "phi", "qwen"),
    *("smollm", "starcoder", "yi"),
)
_O_SERIES: Final = re.compile(r"(?<![a-z0-9])o[134](?![a-z0-9])")


@dataclass(frozen=True)
class Judge:
    """A model that judges.

    Attributes:
        model: a model of the settings' upstreams, or litellm's name of one.
        base: what it was made from, where its name does not say so.
        at_once: questions in flight.
        timeout_s: seconds until a question counts as not answered.
    """

    model: str
    base: str | None = None
    at_once: int = AT_ONCE
    timeout_s: float = TIMEOUT_S

    @property
    def families(self) -> frozenset[str]:
        """Families of models that it belongs to, by its base or else by its name."""
        return families_of(self.base or self.model)


def judges_of_settings() -> list[Judge]:
    """Return the judges of `FLYWHEEL_JUDGE_MODELS`: `NAME` or `NAME=BASE` each; none if unset.

    Raises:
        BadSetting: an entry names no model, or one stands twice.
    """
    given = get_settings().judge_models
    judges = [_judge(entry) for entry in given]
    names = [judge.model for judge in judges]
    if not all(names) or len(set(names)) < len(names):
        raise BadSetting(
            "FLYWHEEL_JUDGE_MODELS",
            given,
            "models as NAME or NAME=BASE, each once",
            "See docs/judging.md.",
        )
    return judges


def families_of(model: str) -> frozenset[str]:
    """Return the families that a model's name speaks of: one, or several of a distilled model.

    `Qwen/Qwen2.5-7B-Instruct` is `qwen`, `DeepSeek-R1-Distill-Llama-8B` is `deepseek` and `llama`.
    A name without a known family is one of its own: its first word.
    """
    name = _short(model)
    return frozenset(_known_families(name) or re.findall(r"[a-z]+", name)[:1])


def names_a_family(model: str) -> bool:
    """Return whether a model's name speaks of a known family."""
    return bool(_known_families(_short(model)))


def are_akin(one: Sequence[str] | frozenset[str], other: str | None) -> bool:
    """Return whether a model of the families `one` shares one with the model `other`."""
    return other is not None and not families_of(other).isdisjoint(one)


def _judge(entry: str) -> Judge:
    model, _, base = entry.partition("=")
    return Judge(model.strip(), base.strip() or None)


def _short(model: str) -> str:
    return model.rpartition("/")[2].lower()


def _known_families(name: str) -> set[str]:
    found = {_family(word) for word in re.findall(r"[a-z]+", name)}
    if _O_SERIES.search(name):
        found.add("gpt")
    return {family for family in found if family is not None}


def _family(word: str) -> str | None:
    for name in (*_ALIASES, *_FAMILIES):
        if word == name or (len(name) > 3 and (word.startswith(name) or word.endswith(name))):
            return _ALIASES.get(name, name)
    return None
