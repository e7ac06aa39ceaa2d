"""The gateway's file: servers, models, roles and how each is asked, as one immutable picture.

`FLYWHEEL_GATEWAY_FILE` names a YAML file of four parts, each optional: `upstreams`, `models`,
`roles`, `defaults`; docs/upstreams.md has them with an example. Whoever only has
`FLYWHEEL_UPSTREAMS` needs no file. Deciding who answers and in which manner is pure from here on.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from foundation.errors import BadSetting
from foundation.settings import Settings, get_settings
from router.upstreams.server import (
    ANSWER_S,
    CONNECT_S,
    ENGINE,
    EVERYBODYS,
    IDLE_S,
    LITELLM,
    Upstream,
    configured,
    engine,
    is_address,
)

_STRICT = ConfigDict(extra="forbid", strict=True)
_SEE = "Correct it; docs/upstreams.md shows the whole file."

CALLERS_OWN = frozenset({"model", "messages", "input", "prompt", "stream", "tools", "functions"})
"""Members of a request that say what is asked: no file changes them as a parameter."""


@dataclass(frozen=True)
class UpstreamEntry:
    """A server as the file has it; see `Upstream`. Its key: in the file, or in a variable."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    api_key_env: str | None = None
    models: tuple[str, ...] = ()
    weight: float = 1.0
    dialects: tuple[Literal["chat", "completions", "embeddings", "responses", "messages"], ...] = (
        EVERYBODYS  # type: ignore[assignment]
    )
    connect_timeout_s: float = CONNECT_S
    answer_timeout_s: float = ANSWER_S
    idle_timeout_s: float = IDLE_S

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        _require(
            is_address(self.base_url), "base_url", "a URL that starts with http:// or https://"
        )
        _require(
            self.api_key is None or self.api_key_env is None, "api_key_env", "no api_key beside it"
        )
        for name in ("weight", "connect_timeout_s", "answer_timeout_s", "idle_timeout_s"):
            _require_more(name, getattr(self, name), 0)


@dataclass(frozen=True)
class TargetEntry:
    """A place where a model may be asked: the lowest `order` first, within it by `weight`.

    Args:
        upstream: name of a server, `engine` for ours, `litellm` for a provider.
        model: its name there; unset: the same name.
        weight: its share among those of the same order; unset: its server's.
        order: those of a higher one are asked when none of a lower one answers.
    """

    upstream: str
    model: str | None = None
    weight: float | None = None
    order: int = 0

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        if self.weight is not None:
            _require_more("weight", self.weight, 0)


@dataclass(frozen=True)
class Template:
    """Text put around what callers say.

    Args:
        system: system prompt of a call that brings none.
        system_prefix: put before the system prompt, which it becomes where there is none.
        user_prefix: put before the text of the last message of the user.
        user_suffix: put after it.
    """

    system: str | None = None
    system_prefix: str | None = None
    user_prefix: str | None = None
    user_suffix: str | None = None

    __pydantic_config__: ClassVar = _STRICT

    def under(self, other: "Template") -> "Template":
        """Return this template where `other` says nothing."""
        return Template(
            *(getattr(other, one.name) or getattr(self, one.name) for one in fields(self))
        )


@dataclass(frozen=True)
class Manner:
    """How something is asked; what is None is left to the defaults.

    Args:
        parameters: members of a request that names none of its own.
        forced: members whatever the request says.
        at_most: upper limits of numbers, also of a request that gives none.
        retries: how often the same server is asked again, 0 and more.
        hedge_after_ms: milliseconds without a first byte after which another is asked beside it.
        cache_ttl_s: seconds that an answer may be given again to the same request.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    forced: dict[str, Any] = field(default_factory=dict)
    at_most: dict[str, float | int] = field(default_factory=dict)
    template: Template = field(default_factory=Template)
    retries: int | None = None
    hedge_after_ms: float | None = None
    cache_ttl_s: float | None = None

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        for name in ("parameters", "forced", "at_most"):
            for key, value in getattr(self, name).items():
                _require_parameter(f"{name}.{key}", key, value)
        if self.retries is not None:
            _require(0 <= self.retries <= 10, "retries", "a whole number from 0 to 10")
        for name in ("hedge_after_ms", "cache_ttl_s"):
            if getattr(self, name) is not None:
                _require_more(name, getattr(self, name), 0)


@dataclass(frozen=True)
class ModelEntry(Manner):
    """A model that can be asked by its name here, and where; or a version and where else it runs.

    Without `targets` it only says how the model of that name is asked.
    """

    targets: tuple[TargetEntry, ...] = ()


@dataclass(frozen=True)
class RoleEntry(Manner):
    """How a role's calls are asked, and who answers when the version that serves it cannot.

    `specialists`, `consensus` and `mirror` are read by the files that do these things.
    """

    fallbacks: tuple[TargetEntry, ...] = ()
    specialists: dict[str, Any] | None = None
    consensus: dict[str, Any] | None = None
    mirror: dict[str, Any] | None = None


@dataclass(frozen=True)
class Defaults:
    """What holds where a model or role says nothing else.

    Args:
        retries: how often the same server is asked again after a failure, 0 and more.
        retry_share: retries and hedges allowed per call, process-wide, 0-1.
        retries_per_s: and those allowed each second however few calls there are.
        failures_to_open: failures in a row after which a server is left alone.
        cooldown_s: longest time between two looks whether it is back, in seconds.
        max_wait_s: longest wait before a retry; a server that asks for more is not asked again.
        cache_ttl_s: seconds that an answer is kept for callers who ask for the cache.
        cache_bytes: bound of the cache of one gateway process.
    """

    retries: int = 1
    retry_share: float = 0.2
    retries_per_s: float = 3.0
    failures_to_open: int = 5
    cooldown_s: float = 5.0
    max_wait_s: float = 2.0
    cache_ttl_s: float = 3600.0
    cache_bytes: int = 64 * 1024 * 1024

    __pydantic_config__: ClassVar = _STRICT

    def __post_init__(self) -> None:
        _require(0 <= self.retries <= 10, "retries", "a whole number from 0 to 10")
        _require(0 <= self.retry_share <= 1, "retry_share", "a share from 0 to 1")
        _require(self.failures_to_open >= 1, "failures_to_open", "1 or more")
        for name in ("cooldown_s", "cache_ttl_s"):
            _require_more(name, getattr(self, name), 0)
        for name in ("retries_per_s", "max_wait_s", "cache_bytes"):
            _require(getattr(self, name) >= 0, name, "0 or more")


@dataclass(frozen=True)
class _File:
    upstreams: dict[str, UpstreamEntry] = field(default_factory=dict)
    models: dict[str, ModelEntry] = field(default_factory=dict)
    roles: dict[str, RoleEntry] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)

    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class CallRules:
    """How one call is asked: what its role and its model say together, and the defaults."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    forced: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    template: Template = field(default_factory=Template)
    retries: int = 1
    hedge_after_s: float | None = None
    cache_ttl_s: float | None = None
    targets: tuple[TargetEntry, ...] = ()
    fallbacks: tuple[TargetEntry, ...] = ()

    @property
    def changes_requests(self) -> bool:
        """Whether a request may have to be changed at all."""
        return bool(self.parameters or self.forced or self.at_most or self.template != _NO_TEMPLATE)


_NO_TEMPLATE = Template()


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that the gateway's file and the settings say about upstreams; immutable.

    `digest` is the SHA-256 of the file's bytes, None without a file.
    """

    upstreams: tuple[Upstream, ...] = ()
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    roles: Mapping[str, RoleEntry] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)
    engine: Upstream = field(default_factory=engine)
    digest: str | None = None
    _rules: dict[tuple[str | None, str], CallRules] = field(
        default_factory=dict, repr=False, compare=False
    )

    def upstream(self, name: str) -> Upstream | None:
        """Return the upstream of that name; None for `litellm`."""
        if name == ENGINE:
            return self.engine
        return next((one for one in self.upstreams if one.name == name), None)

    def rules_for(self, role: str | None, *models: str | None) -> CallRules:
        """Return how a call of `role` is asked of a model.

        Args:
            role: the role that asks, None for none.
            models: names of the model, of which the first counts that the file knows: what the
                caller said, its version, its name at the server.
        """
        named = [one for one in models if one]
        name = next((one for one in named if one in self.models), "")
        key = (role if role in self.roles else None, name)
        rules = self._rules.get(key)
        if rules is None:
            model = self.models.get(name, _PLAIN_MODEL)
            rules = _together(self.roles.get(role or "", _PLAIN_ROLE), model, self.defaults)
            self._rules[key] = rules
        return rules


_PLAIN_MODEL, _PLAIN_ROLE = ModelEntry(), RoleEntry()


def _together(role: RoleEntry, model: ModelEntry, defaults: Defaults) -> CallRules:
    """Return the rules of a role and a model.

    Preferences go by the use (the role), necessities by the thing (the model): the role's
    parameters win, what the model forces wins, the smaller limit wins.
    """
    limits = dict(model.at_most)
    for name, limit in role.at_most.items():
        limits[name] = min(limit, limits.get(name, limit))
    hedge_ms = _first(role.hedge_after_ms, model.hedge_after_ms)
    return CallRules(
        parameters={**model.parameters, **role.parameters},
        forced={**role.forced, **model.forced},
        at_most=limits,
        template=model.template.under(role.template),
        retries=int(_first(role.retries, model.retries, defaults.retries) or 0),
        hedge_after_s=None if hedge_ms is None else hedge_ms / 1000,
        cache_ttl_s=_first(role.cache_ttl_s, model.cache_ttl_s),
        targets=model.targets,
        fallbacks=role.fallbacks,
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def load(settings: Settings | None = None, text: bytes | None = None) -> GatewayConfig:
    """Return what the settings and the gateway's file say.

    Args:
        settings: of the deployment; None: this process's.
        text: the bytes of the file, where they have been read already.

    Raises:
        BadSetting: the file cannot be read, or holds what makes no sense; it names the place.
    """
    settings = settings or get_settings()
    own, ours = configured(settings), engine(settings)
    path = settings.gateway_file
    if path is None:
        return GatewayConfig(own, engine=ours)
    text = read(path) if text is None else text
    file = _parsed(path, text)
    listed = {one.name: one for one in own}
    for name, entry in file.upstreams.items():
        listed[name] = _upstream(path, name, entry)
    _require_known(path, file, {*listed, ENGINE, LITELLM}, settings.roles)
    digest = hashlib.sha256(text).hexdigest()
    upstreams = tuple(listed.values())
    return GatewayConfig(upstreams, file.models, file.roles, file.defaults, ours, digest)


def read(path: Path) -> bytes:
    """Return the bytes of the file; raises BadSetting where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _bad(path, "", str(path), f"a file that can be read ({error.strerror})") from error


def _parsed(path: Path, text: bytes) -> _File:
    try:
        loaded = yaml.load(text, Loader=_OncePerKey)
        # By way of JSON: strict about kinds, yet a list may be a tuple and a whole number a float.
        return _ADAPTER.validate_json(json.dumps(loaded or {}, allow_nan=False))
    except yaml.MarkedYAMLError as error:
        # Not the error's whole text: it quotes the line, and a line may hold a key.
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "somewhere"
        raise _bad(path, line, "something else", f"YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise _bad(path, "", "something else", "YAML in UTF-8") from error
    except (UnicodeDecodeError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise _faulty(path, error) from None
        raise _bad(path, "", "something else", f"YAML of plain values: {error}") from error


class _OncePerKey(yaml.SafeLoader):  # type: ignore[misc]
    """YAML that refuses a key which is there twice, of which plain YAML forgets the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                problem = f"the name {key.value!r} is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_ADAPTER = TypeAdapter(_File)


def _faulty(path: Path, error: ValidationError) -> BadSetting:
    # a name that does not exist explains the one that is missing
    first = min(error.errors(), key=lambda one: one["type"] != "unexpected_keyword_argument")
    place, value, message = [str(part) for part in first["loc"]], first["input"], first["msg"]
    found = first.get("ctx", {}).get("error")
    if isinstance(found, _Unfit):
        place, message = [*place, found.field], found.expected
        for step in found.field.split(".", 1):
            value = value.get(step) if isinstance(value, dict) else value
    wanted = {"Field required": "a value", "Unexpected keyword argument": "no such field"}
    expected = wanted.get(message, message.removeprefix("Input should be "))
    if message in wanted and isinstance(value, dict):
        value = None
    return _bad(path, ".".join(place), value, expected)


def _bad(path: Path, place: str, value: Any, expected: str) -> BadSetting:
    """Return the error; what may hold a key is not shown."""
    shown = "a value that is not shown" if "api_key" in f"{place} {value}" else value
    where = f"FLYWHEEL_GATEWAY_FILE, {path.name}"
    return BadSetting(f"{where}, {place}" if place else where, shown, expected, _SEE)


class _Unfit(ValueError):
    """A field that does not fit, for the error that names its place."""

    def __init__(self, field_name: str, expected: str) -> None:
        self.field, self.expected = field_name, expected
        super().__init__(f"{field_name}: expected {expected}")


def _require(right: bool, name: str, expected: str) -> None:
    if not right:
        raise _Unfit(name, expected)


def _require_more(name: str, value: float, than: float) -> None:
    _require(math.isfinite(value) and value > than, name, f"a number above {than}")


def _require_parameter(place: str, name: str, value: Any) -> None:
    _require(name not in CALLERS_OWN, place, "a parameter, not what is asked")
    low, high = _RANGES.get(name, (None, None))
    if low is None or high is None:
        return
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    _require(fits, place, f"a number from {low:g} to {high:g}")


_RANGES: dict[str, tuple[float, float]] = {
    **{"temperature": (0, 2), "top_p": (0, 1), "min_p": (0, 1), "top_k": (-1, 1_000_000)},
    **{"presence_penalty": (-2, 2), "frequency_penalty": (-2, 2), "repetition_penalty": (0, 10)},
    **{name: (1, 100_000_000) for name in ("max_tokens", "max_completion_tokens")},
    "max_output_tokens": (1, 100_000_000),
}
"""What the numbers of well-known parameters may be; others are taken as they are."""


def _upstream(path: Path, name: str, entry: UpstreamEntry) -> Upstream:
    if name in (ENGINE, LITELLM):
        raise _bad(path, f"upstreams.{name}", name, f"another name: {name!r} is taken")
    key = entry.api_key
    if entry.api_key_env is not None:
        key = os.environ.get(entry.api_key_env)
        if not key:
            place = f"FLYWHEEL_GATEWAY_FILE, {path.name}, upstreams.{name}.api_key_env"
            raise BadSetting(place, entry.api_key_env, "a variable that is set", _SEE)
    return Upstream(
        name,
        entry.base_url.rstrip("/"),
        key,
        entry.models,
        entry.dialects,
        entry.weight,
        entry.connect_timeout_s,
        entry.answer_timeout_s,
        entry.idle_timeout_s,
    )


def _require_known(path: Path, file: _File, upstreams: set[str], roles: list[str]) -> None:
    for name in file.roles:
        if name not in roles:
            raise _bad(path, f"roles.{name}", name, f"one of FLYWHEEL_ROLES: {', '.join(roles)}")
    listed = [(f"models.{name}.targets", one.targets) for name, one in file.models.items()]
    listed += [(f"roles.{name}.fallbacks", one.fallbacks) for name, one in file.roles.items()]
    for place, targets in listed:
        for number, target in enumerate(targets):
            if target.upstream not in upstreams:
                known = ", ".join(sorted(upstreams))
                raise _bad(path, f"{place}.{number}.upstream", target.upstream, f"one of {known}")
            if place.startswith("roles.") and target.model is None:
                raise _bad(path, f"{place}.{number}.model", None, "the model to ask there")
