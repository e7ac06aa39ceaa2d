"""Prompts are hostile: what the log holds is text in searches and exports, as on every page."""

import csv
import io
import json

import pytest

from tests.browser.browsing import unharmed

SEARCHES = ("<script>window.hacked", "onerror=", "{{7*7}}", "\u202eevil")


@pytest.mark.parametrize("said", SEARCHES, ids=range(len(SEARCHES)))
def test_what_is_searched_for_is_text(said: str, wheel, sign_in) -> None:
    watched = sign_in("admin")
    page = watched.page("/interactions")
    field = page.locator("input[type=search], input[name=text], input[name=q]").first
    field.fill(said)
    field.press("Enter")
    page.wait_for_load_state("load")
    page.wait_for_timeout(400)
    unharmed(page)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_exports_hold_it_as_data(kind: str, wheel, sign_in) -> None:
    context = sign_in("admin").context
    answer = context.request.get(f"{wheel.address}/interactions?format={kind}")
    assert answer.status == 200
    told = answer.headers
    assert told["content-disposition"].startswith("attachment")
    assert told["x-content-type-options"] == "nosniff"
    assert "html" not in told["content-type"]
    if kind == "jsonl":
        rows = [json.loads(line) for line in answer.text().splitlines()]
        assert any("<script>" in str(row) for row in rows)
    else:
        cells = [cell for row in csv.reader(io.StringIO(answer.text())) for cell in row]
        assert any("<script>" in cell for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
