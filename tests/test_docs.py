"""The docs name every setting, command, endpoint and threshold, and nothing that does not exist."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main
from fastapi.routing import APIRoute
from sqlmodel import Session, select
from typer.testing import CliRunner
from upstream_app import Server, create_upstream_app

import collector.client
import collector.feedback.anomalies
import evaluator.decide
import evaluator.drift
import evaluator.forgetting
import evaluator.roi
import evaluator.sandbox
import flywheel.swap
import router.experiment
import router.guard
import router.specialist.rule
import trainer.estimate
import trainer.plan
import trainer.schedule
from collector.tables import Feedback, Interaction
from evaluator.sandbox.launch import TIERS
from flywheel.app import create_app
from flywheel.cli import app as command_line
from foundation.settings import Settings, get_settings
from router.gateway import ENDPOINTS, create_gateway_app
from serving.api import create_engine_app

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted([PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *PROJECT.glob("docs/**/*.md")])
ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)
GROUPS = {group.name for group in command_line.registered_groups}


def page(name: str) -> str:
    return (PROJECT / name).read_text()


def section(text: str, title: str) -> str:
    """The text below the heading `title`, up to the next heading of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"no heading {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but the head and the rule below it."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in ROW.findall(text)]
    return [row for row in cells if row[0].startswith("`")]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


# Settings


def settings_table() -> str:
    """The table of docs/settings.md, from the class itself."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        default = "unset" if value is None else "empty" if value == "" else f"`{shown(value)}`"
        text = (field.description or "").replace("|", r"\|")
        lines.append(f"| `FLYWHEEL_{name.upper()}` | {default} | {text} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def test_settings_page_is_the_settings_class() -> None:
    assert settings_table() in page("docs/settings.md"), settings_table()


def test_the_clients_variables_are_documented() -> None:
    said = section(page("docs/settings.md"), "The client")
    documented = {row[0].strip("`") for row in rows(said)}
    assert documented == set(re.findall(r"^- `(\w+)`", collector.client.__doc__ or "", re.M))


def test_no_page_names_a_variable_that_does_not_exist() -> None:
    elsewhere = re.findall(r"FLYWHEEL_\w+", f"{collector.client.__doc__} {page('.ci/run')}")
    elsewhere += ["FLYWHEEL_TEST_DATA"]
    known = {f"FLYWHEEL_{name.upper()}" for name in Settings.model_fields} | set(elsewhere)
    for path in PAGES:
        assert set(re.findall(r"FLYWHEEL_[A-Z_]+[A-Z]", path.read_text())) <= known, path.name


# Commands


def commands() -> dict[str, set[str]]:
    """Every command by its words, with its options."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, set[str]]]:
        inner: Mapping[str, Any] | None = getattr(command, "commands", None)
        if inner is None:
            names = {name for option in command.params for name in option.opts}
            yield words, {name for name in names if name.startswith("--")}
            return
        for name, child in inner.items():
            yield from walk(child, f"{words} {name}")

    return dict(walk(typer.main.get_command(command_line), "flywheel"))


def command_of(line: str) -> str:
    words = line.split()
    return " ".join(words[: 3 if len(words) > 2 and words[1] in GROUPS else 2])


def test_every_command_is_documented_with_options_that_exist() -> None:
    documented = {}
    for first, *rest in rows(page("docs/commands.md")):
        documented[command_of(first.strip("`"))] = set(re.findall(r"`(--[\w-]+)", "".join(rest)))
    assert documented.keys() == commands().keys()
    for command, options in commands().items():
        assert documented[command] == options - {"--json"}, command


def test_every_command_shows_its_help_whole() -> None:
    def walk(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
        yield words, command
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*words, name])

    for words, command in walk(typer.main.get_command(command_line), []):
        said = CliRunner().invoke(command_line, [*words, "--help"], env={"COLUMNS": "5000"})
        assert said.exit_code == 0, (words, said.exception)
        shown = re.sub(r"\W", "", said.output)
        for option in command.params:
            told = getattr(option, "help", None) or ""
            assert re.sub(r"\W", "", told) in shown, (words, told)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_examples_exist(path: Path) -> None:
    text = path.read_text()
    blocks = "".join(fenced(text, r"\w*")).replace("$ ", "")
    lines = [*blocks.splitlines(), *re.findall(r"`(flywheel [^`]+)`", text)]
    known = commands()
    for line in (line for line in lines if re.match(r"flywheel [a-z]", line)):
        command = command_of(line)
        if command.removeprefix("flywheel ") in GROUPS:
            continue
        assert command in known, f"{path.name}: {line}"
        assert set(re.findall(r" (--[\w-]+)", line)) <= known[command] | {"--help"}, line


def test_contributing_names_what_continuous_integration_runs() -> None:
    said = [line.split("#")[0] for line in page(".ci/run").splitlines() if line[:5] == "make "]
    run = [word for line in said for word in re.findall(r" ([a-z-]+)(?= |$)", line)]
    assert {"check", "audit", "test", "test-clients"} <= set(run)
    (told,) = re.findall(r"new `.venv`, then\n`make (.+)`", page("CONTRIBUTING.md"))
    assert set(run) == set(told.split())


@pytest.mark.parametrize("tier", [*TIERS, "B"])
def test_every_tier_of_the_sandbox_is_told(tier: str) -> None:
    assert f"`{tier}`" in (evaluator.sandbox.__doc__ or "")
    assert f"\n| {tier} |" in section(page("docs/sandbox.md"), "Tiers")


# Endpoints


def endpoints(routes: Any, prefix: str = "") -> set[tuple[str, str]]:
    """Method and path of every route; FastAPI keeps included routers nested."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        if hasattr(route, "original_router"):
            inner = prefix + route.include_context.prefix
            found |= endpoints(route.original_router.routes, inner)
        elif isinstance(route, APIRoute):
            found |= {(method, f"{prefix}{route.path_format}") for method in route.methods}
    return found


def documented_endpoints(title: str) -> set[tuple[str, str]]:
    said = rows(section(page("docs/api.md"), title))
    return {(row[0].strip("`"), row[1].strip("`")) for row in said}


def test_every_endpoint_is_documented() -> None:
    service = create_app()
    (admin,) = [route for route in service.routes if getattr(route, "path", "") == "/admin"]
    pages = {(method, f"/admin{path}") for method, path in endpoints(admin.routes)}
    assert documented_endpoints("The service") == endpoints(service.routes)
    assert documented_endpoints("Admin pages") == pages
    assert documented_endpoints("The gateway") == set(ENDPOINTS)
    assert documented_endpoints("The engine") == endpoints(create_engine_app("unused").routes)


# Rules

PROFILED = {
    "trainer.should_train": trainer.plan.SHOULD_TRAIN_PROFILES,
    "trainer.choose_method": trainer.plan.CHOOSE_METHOD_PROFILES,
    "trainer.should_retrain": {"standard": trainer.plan.ShouldRetrainThresholds()},
    "trainer.fits": {"standard": trainer.estimate.FitsThresholds()},
    "trainer.schedule": {"standard": trainer.schedule.Triggers()},
    "flywheel.swap": {"standard": flywheel.swap.SwapThresholds()},
    "evaluator.deploy": {"standard": evaluator.decide.DeployThresholds()},
    "evaluator.forgetting": {"standard": evaluator.forgetting.ForgettingThresholds()},
    "evaluator.roi": {"standard": evaluator.roi.RoiThresholds()},
    "collector.source_anomaly": {"standard": collector.feedback.anomalies.AnomalyThresholds()},
    "evaluator.drift": {"standard": evaluator.drift.DriftThresholds()},
    "router.experiment": router.experiment.PLANS,
    "router.guard": {"standard": router.guard.GuardThresholds()},
    "router.specialist": {"standard": router.specialist.rule.SpecialistThresholds()},
}
UNPROFILED = {"trainer.choose_base", "router.ramp", "router.hold_back"}
"""One has a mapping and no thresholds, two read the plan of `router.experiment`."""


def test_every_rule_is_documented() -> None:
    """Asked of a process of its own: tests register rules, too."""
    told = page("docs/decisions.md")
    known = "import flywheel.app; from foundation.decisions import rule_names; print(*rule_names())"
    said = subprocess.run(
        [sys.executable, "-c", known], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    rules = set(said.stdout.split())
    assert rules == PROFILED.keys() | UNPROFILED
    assert set(re.findall(r"^## `(.+)`$", told, re.MULTILINE)) <= rules
    assert [name for name in sorted(rules) if f"`{name}`" not in told] == []


@pytest.mark.parametrize("name", PROFILED)
def test_thresholds_are_those_of_the_code(name: str) -> None:
    documented = {
        row[0].strip("`"): row[1 : 1 + len(PROFILED[name])]
        for row in rows(section(page("docs/decisions.md"), f"`{name}`"))
    }
    first, *_ = PROFILED[name].values()
    expected = {
        field.name: [in_words(getattr(limits, field.name)) for limits in PROFILED[name].values()]
        for field in dataclasses.fields(first)
        if field.name not in ("profile", "note")
    }
    assert documented == expected


def test_base_models_are_those_of_the_code() -> None:
    said = rows(section(page("docs/decisions.md"), "`trainer.choose_base`"))
    documented = {row[0].strip("`"): row[1].strip("`") for row in said}
    assert documented == trainer.plan.ChooseBaseThresholds().models


def in_words(value: Any) -> str:
    if value is None:
        return "not asked"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(in_words, value)) or "none"
    return value if isinstance(value, str) else f"{value:,g}"


# Snippets and paths


def test_python_in_the_docs_compiles() -> None:
    found = [(path, code) for path in PAGES for code in fenced(path.read_text(), "python")]
    assert found
    for path, code in found:
        compile(code, str(path), "exec")


def test_readme_snippets_run_and_are_logged(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(create_upstream_app()) as provider:
        upstream = {"base_url": f"{provider.url}/v1", "models": ["gpt-4o-mini"]}
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"provider": upstream}))
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "unused")
        get_settings.cache_clear()
        with Server(create_app()) as service, Server(create_gateway_app()) as gateway:
            monkeypatch.setenv("FLYWHEEL_URL", service.url)
            names: dict[str, Any] = {}
            for code in fenced(page("README.md"), "python"):
                exec(code.replace("http://127.0.0.1:8711", gateway.url), names)
            assert names["flywheel"].flush(60)
            names["flywheel"].close()
    calls = session.exec(select(Interaction)).all()
    assert [call.role for call in calls] == ["coder"] * len(fenced(page("README.md"), "python"))
    (outcome,) = session.exec(select(Feedback)).all()
    assert outcome.interaction_id in [call.id for call in calls]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere_and_no_path_of_a_machine_is_named(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("http") or (path.parent / target).exists(), (
            f"{path.name}: {target}"
        )
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)/", text)
