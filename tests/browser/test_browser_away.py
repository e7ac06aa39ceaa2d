"""Where the service or its database is away a page says so, keeps what it shows, and comes back."""

import re

from playwright.sync_api import Page, expect

from tests.browser.browsing import violations

AWAY = '<div class="problem"><p class="code">503</p><h1>X</h1><p>The database is away.</p></div>'


def _shown_while_away(page: Page, **answer: object) -> None:
    panel = page.locator("#open-runs")
    before = panel.inner_text()
    asked = re.compile("/open-runs|/emergency/banner")
    page.route(asked, lambda route: route.fulfill(**answer) if answer else route.abort("failed"))
    expect(page.locator("#away")).to_be_visible()
    expect(page.locator("#away")).to_contain_text("What you see may be old.")
    assert panel.inner_text().split("\n")[0] == before.split("\n")[0]
    assert page.locator("main").count() == 1
    assert not violations(page)
    page.unroute(asked)
    expect(page.locator("#away")).to_be_hidden()


def test_a_page_that_renews_itself_says_that_it_cannot(sign_in) -> None:
    watched = sign_in("admin")
    watched.expected = ("503", "failed", "ERR_FAILED", "Failed to fetch")
    page = watched.page("/")
    _shown_while_away(page, status=503, content_type="text/html", body=AWAY)
    _shown_while_away(page)


def test_a_list_stays_where_a_filter_is_refused(sign_in) -> None:
    watched = sign_in("admin")
    watched.expected = ("422", "400")
    page = watched.page("/interactions")
    rows = page.locator("#list tbody tr").count()
    asked = re.compile(r"/interactions\?")
    page.route(asked, lambda route: route.fulfill(status=422, content_type="text/html", body=AWAY))
    page.locator("select[name=role]").select_option("coder")
    expect(page.locator("#away")).to_have_text("The database is away.")
    assert page.locator("#list tbody tr").count() == rows
