"""The site is whole, needs no other host, and its generated pages hold everything of the code."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main
from sqlmodel import SQLModel

from flywheel.cli import app as command_line
from foundation.settings import Settings
from router.gateway import ENDPOINTS

PROJECT = Path(__file__).resolve().parents[2]
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself, and where it is named."""


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in LOADS and found.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(found.get(LOADS[tag]) or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_no_page_loads_anything_of_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for path in pages:
        loads = Page(path).loads
        assert any("javascripts/" in load for load in loads)
        for load in loads:
            assert not re.match(r"(\w+:)?//", load), f"{path.name} loads {load}"
            where = (path.parent / load.partition("#")[0].partition("?")[0]).resolve()
            assert path.name == "404.html" or where.exists(), f"{path.name} loads {load}"
        # Material fetches these libraries from a CDN where a page has such a block.
        assert 'class="mermaid"' not in path.read_text(), path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(\w+:)?//", path.read_text()), path.name


def test_its_search_works_without_a_server(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text()
    assert index.startswith("var __index"), "a browser reads no JSON from a folder"
    assert "emergency stop" in index


def test_generated_pages_hold_all_of_the_code(site: Path) -> None:
    tables = Page(site / "reference" / "tables.html").text
    for table in SQLModel.metadata.sorted_tables:
        if not table.info.get("is_view"):
            assert table.name in tables, table.name
            assert all(column.name in tables for column in table.columns), table.name
    told = Page(site / "reference" / "cli.html").text

    def walk(command: object, words: str) -> None:
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{words} {name}")
        if not getattr(command, "commands", None):
            assert words in told, words
            for option in getattr(command, "params", []):
                assert option.opts[0] in told or option.opts[0].upper() in told, option.opts

    walk(typer.main.get_command(command_line), "flywheel")
    http = Page(site / "reference" / "http.html").text
    assert all(path in http for _, path in ENDPOINTS)
    assert "/v1/experiments/{experiment_id}" in http
    metrics = Page(site / "reference" / "metrics.html").text
    for name in ("flywheel_records", "flywheel_gateway_requests", "process_open_fds"):
        assert name in metrics
    settings = Page(site / "settings.html").text
    assert all(f"FLYWHEEL_{name.upper()}" in settings for name in Settings.model_fields)
