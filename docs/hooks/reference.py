"""Reference pages from the code itself: every option, request, metric and table.

Nothing here is written down twice, so nothing can be out of date.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

ROOMS = {
    "foundation": "Foundation",
    "collector": "Collector",
    "curation": "Curation",
    "trainer": "Trainer",
    "evaluator": "Evaluator",
    "router": "Router",
    "admin": "Admin",
    "flywheel": "Flywheel",
}


def cli() -> str:
    """Return the page of every command with its help, arguments and options."""
    import typer.main

    from flywheel.cli import app

    lines = [
        "# Every option",
        "",
        "What `flywheel COMMAND --help` says, on one page, made from the commands themselves. "
        "[Commands](../commands.md) tells what they are for. Every command takes `--json`.",
        "",
    ]
    for words, command in _commands(typer.main.get_command(app), "flywheel"):
        lines += [f"## `{words}`", "", _prose(command.help or ""), ""]
        rows = [_option(one) for one in command.params if one.name != "as_json"]
        lines += _table(("Argument or option", "Default", "Meaning"), rows)
    return "\n".join(lines)


def _commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, child in inner.items():
        yield from _commands(child, f"{words} {name}")


def _option(one: Any) -> tuple[str, str, str]:
    name = ", ".join(f"`{opt}`" for opt in one.opts + one.secondary_opts if opt.startswith("-"))
    default = one.default
    is_plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    shown = f"`{default}`" if is_plain and default != "" else ""
    if one.required:
        shown = "required"
    repeated = " Repeatable." if getattr(one, "multiple", False) or one.nargs == -1 else ""
    meaning = re.sub(r"\\(?=\[)", "", getattr(one, "help", None) or "")
    return name or f"`{(one.metavar or one.name).upper()}`", shown, meaning + repeated


def http() -> str:
    """Return the page of every request to service and engine, and what the gateway answers."""
    from flywheel.app import create_app
    from router.gateway import ENDPOINTS
    from serving.api import create_engine_app

    lines = [
        "# HTTP, in detail",
        "",
        "Made from the applications' own descriptions (`GET /openapi.json` of a running service "
        "is the same as JSON). [HTTP API](../api.md) tells what it is for, keys and errors.",
        "",
        "## The gateway",
        "",
        "Each address may stand behind `/r/<role>` and `/r/<role>/e/<episode>`. Bodies are those "
        "of OpenAI's and Anthropic's own references; [what is answered otherwise](../api.md).",
        "",
    ]
    answered = [(f"`{method}`", f"`{path}`") for method, path in sorted(ENDPOINTS, key=_by_path)]
    lines += _table(("Method", "Path"), answered)
    for title, app in (("The service", create_app()), ("The engine", create_engine_app("unused"))):
        described = app.openapi()
        schemas = described.get("components", {}).get("schemas", {})
        lines += [f"## {title}", ""]
        for path, methods in sorted(described["paths"].items()):
            for method, operation in methods.items():
                lines += _operation(method.upper(), path, operation, schemas)
    return "\n".join(lines)


def _by_path(endpoint: tuple[str, str]) -> tuple[str, str]:
    return endpoint[1], endpoint[0]


def _operation(method: str, path: str, told: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    lines = [
        f"### `{method} {path}`",
        "",
        _prose(told.get("description") or "Says that the process lives."),
        "",
    ]
    rows = [
        (
            f"`{one['name']}`",
            one["in"] + (", required" if one.get("required") else ""),
            _type(one["schema"]),
            one.get("description", ""),
        )
        for one in told.get("parameters", [])
    ]
    lines += _table(("Parameter", "In", "Type", "Meaning"), rows)
    body = told.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        schema = _resolved(content.get("schema", {}), schemas)
        fields = schema.get("properties", {})
        required = schema.get("required", [])
        rows = [
            (
                f"`{name}`" + (", required" if name in required else ""),
                _type(field),
                field.get("description", ""),
            )
            for name, field in fields.items()
        ]
        lines += [f"Body, `{kind}`:" if rows else f"Body: `{kind}`.", ""]
        lines += _table(("Field", "Type", "Meaning"), rows)
    return lines


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = schemas.get(name, schema)
    return found


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


METERED = (
    "flywheel.app",
    "flywheel.worker",
    "flywheel.scheduler",
    "router.gateway",
    "serving.api",
    "serving.metrics",
)
"""What to import so that every metric is declared."""


def metrics() -> str:
    """Return the page of every Prometheus metric."""
    for name in METERED:
        importlib.import_module(name)
    from foundation.meters import CATALOGUE

    lines = [
        "# Metrics",
        "",
        "Every metric of `GET /metrics`, made from the catalogue in `foundation/meters.py`. A "
        "counter's series ends in `_total`, a histogram's in `_bucket`, `_sum` and `_count`.",
        "",
    ]
    for stage in sorted({metric.stage for metric in CATALOGUE.values()}):
        rows = [
            (
                f"`{one.name}`",
                one.kind,
                ", ".join(f"`{label}`" for label in one.labels),
                ", ".join(one.told_by),
                one.meaning,
            )
            for one in sorted(CATALOGUE.values(), key=lambda metric: metric.name)
            if one.stage == stage
        ]
        lines += [f"## {stage.capitalize()}", ""]
        lines += _table(("Metric", "Kind", "Labels", "Told by", "Meaning"), rows)
    return "\n".join(lines)


def tables() -> str:
    """Return the page of every table: columns, keys and indexes."""
    from sqlmodel import SQLModel

    import flywheel.schema  # noqa: F401  imports the tables of every room

    owners = {mapper.local_table.name: mapper.class_ for mapper in SQLModel._sa_registry.mappers}
    lines = [
        "# Tables",
        "",
        "The schema, made from the classes of each room's `tables.py`. `flywheel db check` "
        "compares a database with them.",
        "",
    ]
    for room, title in ROOMS.items():
        found = [
            (table, owners[table.name])
            for table in SQLModel.metadata.sorted_tables
            if table.name in owners and owners[table.name].__module__.split(".")[0] == room
        ]
        found += [(table, None) for table in _bare_tables(room)]
        if found:
            lines += [f"## {title}", ""]
        for table, owner in sorted(found, key=lambda pair: pair[0].name):
            said = _prose(inspect.getdoc(owner) or "") if owner else "Written by SQL alone."
            lines += [f"### `{table.name}`", "", said, ""]
            rows = [_column(column, owner) for column in table.columns]
            lines += _table(("Column", "Type", "Null", "Meaning"), rows)
            if table.indexes:
                said = ", ".join(
                    f"`{index.name}`" + (" (unique)" if index.unique else "")
                    for index in sorted(table.indexes, key=lambda index: str(index.name))
                )
                lines += [f"Indexes: {said}.", ""]
    return "\n".join(lines)


def _bare_tables(room: str) -> list[Any]:
    """Return the tables of a room that have no class of their own."""
    from sqlalchemy import Table

    module = sys.modules.get(f"{room}.tables")
    return [value for value in vars(module or object).values() if isinstance(value, Table)]


def _column(column: Any, owner: Any) -> tuple[str, str, str, str]:
    from sqlalchemy.dialects import postgresql

    field = owner.model_fields.get(column.name) if owner else None
    said = [(getattr(field, "description", None) or "").strip()]
    if column.primary_key:
        said.append("Primary key.")
    said += [f"Points to `{key.target_fullname}`." for key in column.foreign_keys]
    kind = column.type.compile(postgresql.dialect()).lower()
    return f"`{column.name}`", kind, "yes" if column.nullable else "", " ".join(filter(None, said))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a Markdown table and a blank line, or nothing without rows."""
    rows = list(rows)
    if not rows:
        return []
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body, ""]


def _cell(text: str) -> str:
    return " ".join(_prose(text).split()).replace("|", r"\|")


def _prose(text: str) -> str:
    """Return help or a docstring as Markdown: without tags and sections of a docstring."""
    text = re.split(r"\n\s*(?:Args|Returns|Raises|Attributes|Yields):\n", text)[0]
    text = text.replace("\b", "").strip()
    pieces = re.split(r"(`[^`]*`)", text)
    escaped = (re.sub(r"([<>*_])", r"\\\1", piece) for piece in pieces[::2])
    merged = [piece for pair in zip(escaped, [*pieces[1::2], ""], strict=True) for piece in pair]
    return "".join(merged)


PAGES: dict[str, Callable[[], str]] = {
    "cli": cli,
    "http": http,
    "metrics": metrics,
    "tables": tables,
}
"""Pages of docs/reference/ by name; none is a file."""
