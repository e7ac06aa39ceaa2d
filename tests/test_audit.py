"""The audit of dependencies: what it finds, and what it may say where nobody knows."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", PROJECT / ".ci/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*ids: str, name: str = "jinja2", version: str = "2.4.1") -> dict[str, Any]:
    found = [{"id": identifier, "fix_versions": ["2.7.3"]} for identifier in ids]
    return {"dependencies": [{"name": name, "version": version, "vulns": found}]}


def test_what_is_installed_here_is_pinned(audit: ModuleType) -> None:
    constraints = audit.pins((PROJECT / "constraints.txt").read_text())
    assert len(constraints) > 100
    assert audit.differing(audit.installed(), constraints) == []


def test_what_is_deployed_is_pinned_by_hashes(audit: ModuleType) -> None:
    assert audit.pinning_faults() == []
    cut = "a==1 \\\n    --hash=sha256:0\nb==2 ; python_version < '3.12'\n"
    assert audit.without_hashes(cut) == ["b"]


def test_what_differs_is_told(audit: ModuleType) -> None:
    pinned = audit.pins("Torch==2.9.0+cpu\nzope.interface==1\n# c==1\nd[x]==4\n")
    assert pinned == {"torch": "2.9.0+cpu", "zope-interface": "1", "d": "4"}
    found = audit.differing({"torch": "2.9.0", "d": "5", "new": "1", "pip": "9"}, pinned)
    assert found == ["d 5: pinned 4", "new 1: not pinned"]


@pytest.mark.parametrize(
    ("canary", "whole", "code", "said"),
    [
        (None, None, 0, "NOT checked"),
        # A mirror that answers and knows of nothing is not good news.
        (report(), None, 0, "NOT checked"),
        (report("PYSEC-1"), None, 0, "NOT checked"),
        (report("PYSEC-1"), report(), 0, "1 packages checked"),
        (report("PYSEC-1"), report("PYSEC-2", name="x"), 1, "x 2.4.1: PYSEC-2, mended in 2.7.3"),
    ],
)
def test_no_data_is_no_failure_and_no_good_news_either(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    canary: Any,
    whole: Any,
    code: int,
    said: str,
) -> None:
    answers = iter([canary, whole])
    monkeypatch.setattr(audit, "ask", lambda *_: next(answers))
    assert audit.main() == code
    assert said in capsys.readouterr().out
