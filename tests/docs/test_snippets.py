"""Every snippet of README and docs: Python runs, or says why not; everything else parses.

A Python block is run in a namespace of its page, beside a real service, a real gateway and a
provider on loopback. `<!-- not run: reason -->` above a block lets it off running: then it
compiles, and what it imports is there. The tutorial has a test of its own.
"""

import ast
import importlib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlmodel import Session, select
from upstream_app import Server, create_upstream_app

from collector.client import Flywheel
from collector.tables import Interaction
from flywheel.app import create_app
from foundation.database import session_scope
from foundation.settings import get_settings
from router.gateway import create_gateway_app
from router.promote import initial
from trainer.registry import EXTERNAL, ensure_base_version

PROJECT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
ELSEWHERE = {"README.md", "docs/tutorial.md"}
"""Pages whose Python other tests run."""


def pages() -> list[Path]:
    found = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    found += sorted(PROJECT.glob("docs/**/*.md")) + sorted(PROJECT.glob("examples/*.md"))
    return found


def blocks(*languages: str) -> list[tuple[str, int, str | None, str]]:
    """Page, line, why it is not run, and text of each block in these languages."""
    found = []
    for path in pages():
        text = path.read_text()
        for block in BLOCK.finditer(text):
            if block[2] in languages:
                name, line = path.relative_to(PROJECT).as_posix(), text[: block.start()].count("\n")
                found.append((name, line + 1, block[1], block[3]))
    return found


def names(block: tuple[str, int, str | None, str]) -> str:
    return f"{block[0]}:{block[1]}"


PYTHON = blocks("python")
RUN = [one for one in PYTHON if one[0] not in ELSEWHERE and one[2] is None]


@pytest.fixture(scope="module")
def beside() -> Iterator[dict[str, dict[str, Any]]]:
    """What the snippets of a page take from their surroundings, and their own names so far."""
    from langgraph.graph import END, START, StateGraph

    def node(state: dict[str, Any]) -> dict[str, Any]:
        return {"said": "done"}

    graph = StateGraph(dict)
    graph.add_node("plan", node)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", END)
    import litellm
    from openai import OpenAI

    yield {
        "docs/capturing.md": {
            "ThreadPoolExecutor": ThreadPoolExecutor,
            "OpenAI": OpenAI,
            "litellm": litellm,
            "files": ["a.py", "b.py"],
            "review": lambda name: name.upper(),
            "messages": [{"role": "user", "content": "Write it."}],
            "graph": graph.compile(),
            "state": {},
        },
    }
    litellm.logging_callback_manager._reset_all_callbacks()  # it copies them to other lists


def serve_coder() -> str:
    """Let the provider's model serve coder; a key of the gateway."""
    with session_scope() as session:
        version = ensure_base_version(session, "coder", "gpt-4o-mini", None, EXTERNAL)
        initial(session, "coder", version, reason="the first", actor="test")
    return "unused"


@pytest.mark.parametrize("block", RUN, ids=names)
def test_python_runs(
    block: tuple[str, int, str | None, str],
    beside: dict[str, dict[str, Any]],
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    page, line, _, code = block
    namespace = beside.setdefault(page, {})
    with Server(create_upstream_app()) as provider:
        upstream = {"base_url": f"{provider.url}/v1", "models": ["gpt-4o-mini"]}
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"provider": upstream}))
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "unused")
        get_settings.cache_clear()
        with Server(create_app()) as service, Server(create_gateway_app()) as gateway:
            monkeypatch.setenv("FLYWHEEL_URL", service.url)
            monkeypatch.setenv("FLYWHEEL_GATEWAY_URL", f"{gateway.url}/v1")
            monkeypatch.setenv("FLYWHEEL_SPOOL", str(tmp_path / "spool"))
            key = serve_coder()
            before = namespace.get("flywheel")
            if isinstance(before, Flywheel):  # of an earlier block: its service is gone
                namespace["flywheel"] = Flywheel(role="coder")
            code = code.replace("http://127.0.0.1:8711", gateway.url).replace("fw_…", key)
            code = code.replace('model="…"', 'model="gpt-4o-mini"')
            exec(compile("\n" * line + code, page, "exec"), namespace)
            client = namespace.get("flywheel")
            if isinstance(client, Flywheel):
                assert client.flush(60)
                client.close()
    if "completions.create" in code or "completion(" in code:
        assert session.exec(select(Interaction)).all(), "the call was logged"


@pytest.mark.parametrize("block", [one for one in PYTHON if one[2]], ids=names)
def test_python_that_is_not_run_compiles_and_imports_what_there_is(
    block: tuple[str, int, str | None, str],
) -> None:
    page, _, reason, code = block
    assert reason
    assert len(reason) > 15, "a reason is a sentence"
    for statement in ast.walk(ast.parse(code, page)):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            if find_spec(statement.module.split(".")[0]) is None:
                continue  # a client of other people's, in an environment of its own
            module = importlib.import_module(statement.module)
            assert all(hasattr(module, name.name) for name in statement.names), page


@pytest.mark.parametrize("language", ["json", "yaml", "toml"])
def test_data_parses(language: str) -> None:
    found = blocks(language)
    assert found
    read = {"json": _read_json, "yaml": yaml.safe_load, "toml": tomllib.loads}[language]
    for page, line, _, text in found:
        try:
            assert read(text) is not None
        except (ValueError, yaml.YAMLError) as error:
            pytest.fail(f"{page}:{line}: {error}")


def _read_json(text: str) -> Any:
    """One value, or one a line."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def test_shell_is_shell() -> None:
    found = blocks("sh", "bash")
    assert len(found) > 50
    for page, line, _, text in found:
        script = re.sub(r"<[a-z-]+>", "x", text)
        read = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert read.returncode == 0, f"{page}:{line}: {read.stderr}"
