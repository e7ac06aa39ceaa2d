"""Every page opens, fits and can be read: light and dark, phone to wall, by keyboard, by axe."""

import pytest
from playwright.sync_api import Page

from tests.browser.addresses import ADDRESSES, NO_PAGES, OWN_DOCUMENTS, PARTS, filled, pages
from tests.browser.browsing import COLOURS, DESKTOP, PHONE, WALL, too_wide, unharmed, violations

ROUTES = dict(pages())
CASES = [
    pytest.param(name, address, id=f"{name} {address}")
    for name, addresses in ADDRESSES.items()
    for address in addresses
]


def test_every_route_has_an_address_in_the_seed() -> None:
    known = {*ADDRESSES, *PARTS, *NO_PAGES}
    assert {name: path for name, path in ROUTES.items() if name not in known} == {}
    assert known <= ROUTES.keys(), "a route has gone, or was renamed"


@pytest.mark.parametrize(("name", "address"), CASES)
def test_page(name: str, address: str, wheel, sign_in) -> None:
    watched = sign_in(None if name == "sign_in" else "admin")
    page = watched.page()
    answer = watched.go(page, filled(address, wheel.ids))
    assert answer is not None
    assert answer.status == 200
    assert page.locator("h1").count() == 1
    assert page.title().strip(" ·")
    unharmed(page)
    wrong = [*too_wide(page), *violations(page)]
    page.emulate_media(color_scheme="dark")
    wrong += [f"dark: {one}" for one in violations(page, COLOURS)]
    for size in (PHONE, WALL):
        page.set_viewport_size(size)
        wrong += too_wide(page)
    page.set_viewport_size(DESKTOP)
    if name not in OWN_DOCUMENTS:
        wrong += by_keyboard(page)
    assert not wrong, "\n".join(wrong)


def by_keyboard(page: Page) -> list[str]:
    """Return what does not work by keyboard alone: the skip link, and a focus that is seen."""
    wrong = []
    page.evaluate(_TO_THE_TOP)
    page.keyboard.press("Tab")
    if page.evaluate("() => document.activeElement.className") != "skip":
        wrong.append("the first Tab does not reach the skip link")
    page.keyboard.press("Enter")
    if page.evaluate("() => document.activeElement.id") != "main":
        wrong.append("the skip link does not lead to the content")
    for _ in range(3):
        page.keyboard.press("Tab")
        unseen = page.evaluate(_UNSEEN_FOCUS)
        if unseen:
            wrong.append(f"focus is not seen on {unseen}")
    return wrong


_TO_THE_TOP = """
() => {
  document.body.tabIndex = -1;
  document.body.focus();
  document.body.removeAttribute("tabindex");
}
"""
"""A field may have had the focus from the start, and the next Tab would go on from there."""

_UNSEEN_FOCUS = """
() => {
  const at = document.activeElement;
  if (!at || at === document.body || at.tabIndex < 0) return "";
  if (at.closest("svg")) return at.matches(":focus-visible") ? "" : at.outerHTML.slice(0, 120);
  const style = getComputedStyle(at);
  const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1)
    || style.boxShadow !== "none";
  return seen ? "" : at.outerHTML.slice(0, 120);
}
"""


@pytest.mark.parametrize("name", list(PARTS))
def test_part(name: str, wheel, sign_in) -> None:
    watched = sign_in()
    answer = watched.context.request.get(f"{wheel.address}{filled(PARTS[name], wheel.ids)}")
    assert answer.status in (200, 204)
