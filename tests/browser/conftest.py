"""The admin view in a real browser: one seeded service for the run, one browser for each file.

Without a browser these tests are skipped, unless FLYWHEEL_TEST_BROWSER=required says that there
must be one, as in CI.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.browsing import Watched, chromium, launch, signed_in
from tests.browser.service import Wheel, served

SignedIn = Callable[..., Watched]


@pytest.fixture(scope="session")
def browser_path() -> str:
    path = chromium()
    if path is None:
        missing = "no Chromium: install one, or name it in FLYWHEEL_TEST_CHROMIUM"
        if os.environ.get("FLYWHEEL_TEST_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest.fixture(scope="session")
def wheel(
    browser_path: str, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wheel]:
    home: Path = tmp_path_factory.mktemp("browser") / "home"
    home.mkdir()
    with served(postgres_url, home) as found:
        yield found


@pytest.fixture(scope="module")
def browser(no_loop_left: None, browser_path: str) -> Iterator[Browser]:
    """One browser for a file: Playwright's loop must have ended before other tests start one."""
    with sync_playwright() as playwright:
        found = launch(playwright, browser_path)
        yield found
        found.close()


@pytest.fixture
def sign_in(browser: Browser, wheel: Wheel) -> Iterator[SignedIn]:
    """Open profiles of people by role; what goes wrong in any of them fails the test."""
    opened: list[Watched] = []
    with ExitStack() as stack:

        def open_profile(role: str | None = "admin", **options: object) -> Watched:
            watched = stack.enter_context(signed_in(browser, wheel, role, **options))
            opened.append(watched)
            return watched

        yield open_profile
        wrong = [one for watched in opened for one in watched.take()]
    assert not wrong, "\n".join(wrong)
