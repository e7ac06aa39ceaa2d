"""`flywheel protect` and `flywheel template`: what is shown, what is refused, the exit codes."""

import json

import pytest
from typer.testing import CliRunner

from curation.tables import TemplateText
from flywheel.cli import app
from foundation.errors import BadInput, NotFound

ITEM = {
    "id": "d",
    "prompt": "Write a function to find the nth decagonal number.\nassert is_num_decagonal(3)==27",
    "keys": ["own__name-12"],
}


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_list_is_added_shown_replaced_and_removed(database, tmp_path):
    assert "Nothing is protected" in run("protect", "list").output
    path = written(tmp_path / "items.jsonl", [ITEM, {"text": "Another one."}])
    added = json.loads(run("protect", "add", "mine", path, "--json").output)
    assert added == {"source": "mine", "items": 2, "new": 2}
    assert json.loads(run("protect", "add", "mine", path, "--json").output)["new"] == 0
    (shown,) = json.loads(run("protect", "list", "--json").output)
    assert (shown["name"], shown["n_items"], shown["n_blocked"]) == ("mine", 2, 0)
    assert "mine" in run("protect", "list").output
    assert run("protect", "remove", "mine").exit_code == 0
    with pytest.raises(NotFound, match="mine"):
        run("protect", "remove", "mine")
    assert json.loads(run("protect", "sync", "--json").output) == {"suites": 0}


def test_a_line_with_nothing_to_protect_is_refused(database, tmp_path):
    path = written(tmp_path / "items.jsonl", [ITEM, {"id": "x", "prompt": " "}])
    with pytest.raises(BadInput, match="line 2"):
        run("protect", "add", "mine", path)
    assert "Nothing is protected" in run("protect", "list").output


def test_check_names_the_lines_that_repeat(database, tmp_path):
    run("protect", "add", "mine", written(tmp_path / "items.jsonl", [ITEM]))
    rows = [
        {"prompt": "Write a haiku.", "completion": "Sea"},
        {
            "messages": [
                {"role": "user", "content": "Find the nth decagonal number: is_num_decagonal(n)"}
            ]
        },
        {"text": "As in own__name-12"},
        {"prompt": "", "n": 3, "nested": {"a": [None, True]}},
    ]
    path = written(tmp_path / "rows.jsonl", rows)
    result = run("protect", "check", path, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert (found["lines"], found["repeating"]) == (4, 2)
    assert [(hit["line"], hit["item"], hit["method"]) for hit in found["hits"]] == [
        (2, "d", "ngram"),
        (3, "d", "key"),
    ]
    assert "2 of 4 lines" in run("protect", "check", path).output
    clean = run("protect", "check", written(tmp_path / "clean.jsonl", rows[:1]))
    assert clean.exit_code == 0


def test_templates_are_listed_shown_and_switched(session):
    assert "No templates" in run("template", "list").output
    session.add(
        TemplateText(
            role="coder", part="prompt", digest="ab12cd", text="be kind", n_seen=30, share=0.5
        )
    )
    session.commit()
    assert "50.0 %" in run("template", "list", "--role", "coder").output
    assert "be kind" in run("template", "show", "ab").output
    assert json.loads(run("template", "disable", "ab12", "--json").output)["active"] is False
    assert json.loads(run("template", "list", "--json").output)[0]["active"] is False
    assert "yes" in run("template", "enable", "ab12").output
    with pytest.raises(NotFound, match="zz"):
        run("template", "show", "zz")
