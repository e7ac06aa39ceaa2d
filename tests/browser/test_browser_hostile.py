"""Prompts are hostile: a corpus of stored scripts runs nowhere, on no page that shows it."""

import json

import pytest
from playwright.sync_api import Page

from tests.browser.addresses import ADDRESSES, filled

PATHS = [
    pytest.param(address, id=address)
    for name, addresses in ADDRESSES.items()
    for address in addresses
    if name not in ("sign_in", "me", "overview")
]
SEARCHES = ("<script>window.hacked", "onerror=", "{{7*7}}", "\u202eevil")

_INJECTED = """
() => [
  ...document.querySelectorAll(
    "#injected, iframe, base, meta[http-equiv=refresh], object, embed, img[src=x],"
    + " [onerror], [onload], [onfocus], [onclick], a[href^='javascript:'], form[action^='//']"),
  ...document.querySelectorAll("script:not([src]):not([type='application/json'])"),
].map((one) => one.outerHTML.slice(0, 160))
"""


def unharmed(page: Page) -> None:
    """Check that nothing of the corpus became part of the page or ran."""
    assert page.evaluate("() => window.hacked") is None
    assert page.evaluate(_INJECTED) == []


@pytest.mark.parametrize("address", PATHS)
def test_nothing_stored_runs(address: str, wheel, sign_in) -> None:
    watched = sign_in("admin")
    page = watched.page(filled(address, wheel.ids))
    page.evaluate(
        "() => document.querySelectorAll('details').forEach((one) => { one.open = true })"
    )
    page.mouse.move(640, 400)
    unharmed(page)
    assert "/admin" in page.url, "it led elsewhere"


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
        cells = [cell for line in answer.text().splitlines() for cell in line.split(",")]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", '"=', '"+', '"@'))]
