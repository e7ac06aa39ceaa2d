"""Each example, as a reader runs it, against real services; the notebook on what came of it."""

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import text

from examples.pretend_model import answer
from examples.run import AGENTS, NOTEBOOK

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_all_examples_run_and_are_logged(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from examples import run
    from foundation.database import session_scope

    for name in ("HOME", "UPSTREAMS", "PORT", "GATEWAY_PORT", "DATABASE_URL"):
        variable = f"FLYWHEEL_{name}"  # which the examples set, and this test takes back
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    monkeypatch.setenv("DATASET_FOLDER", "")
    monkeypatch.setattr("sys.argv", ["run", "--home", str(tmp_path)])
    monkeypatch.chdir(PROJECT)
    run.main()

    said = capfd.readouterr().out
    assert "invoice-17: What is 19 * 21 + 1? 400" in said
    assert "median, try 2: works" in said
    assert "is_leap: 2 tries, works: True, APPROVE" in said
    for line in ("push 1: CI is red", "push 2: CI is green"):
        assert line in said
    for line in ("8 calls looked at, 5 kept", "3 dropped: failed_outcome"):
        assert line in said
    with session_scope() as session:
        credited = text("SELECT count(*) FROM feedback WHERE source = 'role' AND kind = 'success'")
        assert session.scalar(credited), "the tester's findings are credited to the coder"
        roles = dict(
            session.execute(text("SELECT role, count(*) FROM interaction GROUP BY 1")).all()
        )
    assert roles == {"coder": 8, "coordinator": 2, "researcher": 6, "reviewer": 2, "tester": 3}


def test_the_notebook_is_kept_without_output() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs")]


def test_the_docs_name_every_example() -> None:
    said = (PROJECT / "docs" / "examples.md").read_text()
    assert [name for name in AGENTS if name.replace(".", "/") not in said] == []


def test_the_pretend_model_mends_its_answer_when_a_test_failed() -> None:
    asked = [{"role": "user", "content": "Write the Python function median."}]
    first = answer(asked, [])["content"]
    told = [*asked, {"role": "user", "content": "A test failed: AssertionError"}]
    assert answer(told, [])["content"] != first
