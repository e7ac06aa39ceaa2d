"""Settings: what holds in this process, where it comes from, what it means; secrets are masked."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from pydantic import SecretStr
from sqlmodel import Session

from admin.access.people import OPERATOR
from admin.formats import plain
from admin.rendering import Reading, render
from admin.writing import needs
from foundation.settings import Settings, get_settings
from router import policy
from router.tables import RolePolicy

routes = APIRouter(prefix="/settings")

MASKED: Final = "•••"
_HOLDS_SECRETS: Final = re.compile("key|secret|token|password", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"(://[^:/@\s]*:)[^/]*@")

GROUPS: Final = {
    "Addresses": "host port gateway_port engine_port".split(),
    "What is kept": "home database_url artifacts_url partitions_ahead retention_".split(),
    "Who may": "api_key metrics_key github_secret admin_user oidc_".split(),
    "Agents": "roles project credit_rules otlp_role".split(),
    "Gateway": "upstreams gateway_file max_".split(),
    "Models": "base_ engine_ judge_models torch_threads sign require_signed trusted_".split(),
    "Jobs": "broker_url queue_ heartbeat_s lost_after_s max_attempts".split(),
    "Watching": "log_ access_log metrics_port otlp_endpoint sentry_dsn".split(),
}
"""Names, or how they begin, by what they are about; what fits none comes last."""


@dataclass(frozen=True)
class Setting:
    """One setting as it holds here."""

    variable: str
    value: Any
    default: Any
    meaning: str
    source: str
    """default, environment or file."""

    @property
    def said(self) -> str:
        """Its value as one would write it: a port has no thousands."""
        return _written(self.value)

    @property
    def said_by_default(self) -> str:
        """What would hold without it."""
        return _written(self.default)


@dataclass(frozen=True)
class Group:
    """Settings about one thing."""

    title: str
    settings: Sequence[Setting]


@dataclass(frozen=True)
class RoleLine:
    """One role and its policy in words."""

    role: str
    policy: RolePolicy
    words: str


@dataclass(frozen=True)
class Page:
    """What the page shows."""

    groups: Sequence[Group]
    roles: Sequence[RoleLine]
    env_file: str | None
    """The file of settings that was read, if there is one."""


@routes.get("", name="settings", dependencies=[Depends(needs(OPERATOR))])
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the settings of the service's process."""
    return render(request, "settings/index.html", page(session))


def page(session: Session) -> Page:
    """Return the page."""
    known = policy.list_policies(session)
    roles = [
        RoleLine(role, found, policy.in_words(found).removeprefix(f"{role}: "))
        for role in get_settings().roles
        for found in [known.get(role) or policy.policy_of(session, role)]
    ]
    file = Path(".env")
    return Page(groups(get_settings()), roles, str(file.absolute()) if file.exists() else None)


def groups(settings: Settings) -> list[Group]:
    """Return every setting, by what it is about, in the order of the class."""
    left = {name: _setting(settings, name) for name in Settings.model_fields}
    found = []
    for title, beginnings in GROUPS.items():
        names = [name for name in left if _fits(name, beginnings)]
        found.append(Group(title, [left.pop(name) for name in names]))
    if left:
        found.append(Group("More", list(left.values())))
    return [group for group in found if group.settings]


def _fits(name: str, beginnings: Sequence[str]) -> bool:
    return any(name == b or (b.endswith("_") and name.startswith(b)) for b in beginnings)


def _setting(settings: Settings, name: str) -> Setting:
    field, variable = Settings.model_fields[name], f"FLYWHEEL_{name}".upper()
    if variable in os.environ:
        source = "environment"
    else:
        source = "file" if name in settings.model_fields_set else "default"
    default = field.get_default(call_default_factory=True)
    value = getattr(settings, name)
    return Setting(variable, masked(value), masked(default), field.description or "", source)


def _written(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else plain(value)


def masked(value: Any, name: str = "") -> Any:
    """Return a value without what opens anything: secrets, passwords of URLs, keys within."""
    if isinstance(value, SecretStr) or (name and value and _HOLDS_SECRETS.search(name)):
        return MASKED
    if isinstance(value, dict):
        return {key: masked(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner) for inner in value]
    if isinstance(value, str):
        return _PASSWORD.sub(rf"\1{MASKED}@", value)
    return str(value) if isinstance(value, Path) else value
