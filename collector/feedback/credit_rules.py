"""Rules of cross-role credit as data: whose statement credits whom, and with what.

Without `FLYWHEEL_CREDIT_RULES` those below hold; with it, those of that YAML file and no others:

    rules:
      - {judge: tester, credits: coder, kind: success}
      - judge: reviewer
        credits: coder
        kind: category
        gives: success
        values: {approve: 1, request_changes: 0}
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from collector.record import FEEDBACK_SOURCES
from foundation.errors import BadSetting
from foundation.settings import get_settings

Kind = Literal["success", "rating", "metric", "category", "comment"]
KINDS: tuple[Kind, ...] = ("success", "rating", "metric", "category", "comment")
"""What can be passed on; a correction and a preference are about the judged turn's own words."""


class CreditRule(BaseModel):
    """Whose statement gives credit to whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str = Field(description="Role whose turn the statement is about.")
    credits: str = Field(description="Role whose turn is credited.")
    kind: Kind = Field(description="Kind of the statement.")
    gives: Kind = Field(description="Kind of what is said of the credited turn; default: the same.")
    name: str | None = Field(default=None, description="Metric or category name; unset: any.")
    sources: tuple[str, ...] = Field(default=(), description="Whose word counts; empty: all.")
    values: dict[str, float | str] = Field(
        default={},
        description="What a category (lower case) or number gives, others nothing; empty: itself.",
    )

    @model_validator(mode="before")
    @classmethod
    def _same_kind_by_default(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "gives" not in raw and "kind" in raw:
            return raw | {"gives": raw["kind"]}
        return raw

    @field_validator("values", mode="before")
    @classmethod
    def _named_as_said(cls, raw: Any) -> Any:
        return {_named(key): value for key, value in raw.items()} if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _makes_sense(self) -> "CreditRule":
        unknown = set(self.sources) - set(FEEDBACK_SOURCES)
        if unknown:
            raise ValueError(f"sources {sorted(unknown)}, expected {', '.join(FEEDBACK_SOURCES)}")
        if self.judge == self.credits:
            raise ValueError("a role cannot credit itself")
        if not self.values and self.gives != self.kind:
            raise ValueError(f"values must say what {self.gives} each {self.kind} gives")
        faulty = [value for value in self.values.values() if not _fits(self.gives, value)]
        if faulty:
            raise ValueError(f"{faulty[0]!r} is no {self.gives}")
        return self

    def takes(
        self,
        role: str,
        kind: str,
        name: str | None,
        source: str,
        value: float | None,
        text: str | None,
    ) -> bool:
        """Return whether the rule applies to a statement about a turn of `role`."""
        return (
            (role, kind) == (self.judge, self.kind)
            and self.name in (None, name)
            and (not self.sources or source in self.sources)
            and (not self.values or self._key(value, text) in self.values)
        )

    def given(self, value: float | None, text: str | None) -> tuple[float | None, str | None]:
        """Return the value and the text of what is said of the credited turn."""
        if not self.values:
            return value, text
        given = self.values[self._key(value, text)]
        return (None, given) if isinstance(given, str) else (given, None)

    def _key(self, value: float | None, text: str | None) -> str:
        return _named(text if self.kind in ("category", "comment") else value)


def _named(value: Any) -> str:
    """Return a value as the rules name it: a short number, or a word in lower case."""
    if isinstance(value, int | float):  # True and False too: 1 and 0
        return f"{float(value):g}"
    return str(value).strip().lower()


def _fits(kind: Kind, value: float | str) -> bool:
    if kind == "success":
        return value in (0, 1)
    if kind == "rating":
        return isinstance(value, float) and 1 <= value <= 5
    return isinstance(value, float) == (kind == "metric")


DEFAULT_RULES = (
    CreditRule(judge="tester", credits="coder", kind="success", gives="success"),
    CreditRule(judge="reviewer", credits="coder", kind="success", gives="success"),
    CreditRule(
        judge="reviewer",
        credits="coder",
        kind="category",
        gives="success",
        values={"approve": 1, "approved": 1, "request_changes": 0, "changes_requested": 0},
    ),
    # Others' stars for a review are for the review; only the reviewer's own are for the code.
    CreditRule(judge="reviewer", credits="coder", kind="rating", gives="rating", sources=("role",)),
)


def get_rules() -> tuple[CreditRule, ...]:
    """Return the rules of this deployment.

    Raises:
        BadSetting: the file cannot be read, or a rule in it makes no sense.
    """
    settings = get_settings()
    if settings.credit_rules is None:
        return DEFAULT_RULES
    return _read(settings.credit_rules, frozenset(settings.roles))


@lru_cache(maxsize=4)
def _read(path: Path, roles: frozenset[str]) -> tuple[CreditRule, ...]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _bad_rules(str(path), "no readable YAML", str(error)) from error
    listed = loaded.get("rules") if isinstance(loaded, dict) else None
    if not isinstance(listed, list):
        raise _bad_rules(str(path), loaded, "a mapping with a list 'rules'")
    return tuple(
        _rule(f"{path}, rule {number}", one, roles) for number, one in enumerate(listed, start=1)
    )


def _rule(place: str, raw: Any, roles: frozenset[str]) -> CreditRule:
    try:
        rule = CreditRule.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        expected = str(first["msg"]).removeprefix("Value error, ")
        raise _bad_rules(
            f"{place}, {field}" if field else place, first["input"], expected
        ) from None
    for role in (rule.judge, rule.credits):
        if role not in roles:
            raise _bad_rules(place, role, f"one of the roles {', '.join(sorted(roles))}")
    return rule


def _bad_rules(place: str, value: Any, expected: str) -> BadSetting:
    return BadSetting(
        f"FLYWHEEL_CREDIT_RULES, {place}", value, expected, "See docs/feedback.md for an example."
    )
