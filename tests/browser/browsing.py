"""A real Chromium, and what must never happen in it: errors, violations, calls to elsewhere."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    Request,
    Response,
    expect,
)

from admin.access.sessions import COOKIE
from tests.browser.service import Wheel

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
WALL = {"width": 3840, "height": 2160}
PATIENCE_MS = 60_000
"""For what comes by itself: two busy cores may be all that browser and service have."""

expect.set_options(timeout=PATIENCE_MS)

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()


def chromium() -> str | None:
    """Return the browser of this machine, or None."""
    named = os.environ.get("FLYWHEEL_TEST_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def launch(playwright: Playwright, path: str) -> Browser:
    """Start it, with nothing of its own on the network."""
    return playwright.chromium.launch(executable_path=path, args=list(FLAGS))


@dataclass
class Watched:
    """A context of one person, and what went wrong in its pages; `take` it to look."""

    context: BrowserContext
    address: str
    wrong: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of what may go wrong, where a test provokes it."""

    def page(self, path: str | None = None) -> Page:
        """Open a page, at a path below /admin if given."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        if path is not None:
            self.go(page, path)
        return page

    def go(self, page: Page, path: str) -> Response | None:
        """Go to a path below /admin."""
        return page.goto(f"{self.address}{path}", wait_until="load")

    def watch(self) -> None:
        """Note from now on what goes wrong in any page."""
        self.context.on("console", lambda said: said.type == "error" and self._note(
            f"console: {said.text} ({said.location.get('url')})"))  # fmt: skip
        self.context.on("weberror", lambda error: self._note(f"page error: {error.error}"))
        self.context.on("dialog", self._on_dialog)
        self.context.on("requestfailed", self._on_failure)
        self.context.on("request", self._on_request)
        self.context.on("response", self._on_response)

    def take(self) -> list[str]:
        """Return what went wrong since the last time."""
        found, self.wrong = self.wrong, []
        return [one for one in found if not any(part in one for part in self.expected)]

    def _note(self, what: str) -> None:
        self.wrong.append(what)

    def _on_dialog(self, dialog: Any) -> None:
        self._note(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_failure(self, request: Request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # left for another page, or a download
            self._note(f"failed: {request.url}: {request.failure}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and not request.url.startswith(
            self.address.removesuffix("/admin")
        ):
            self._note(f"another host: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"{response.status}: {response.url}")


@contextmanager
def signed_in(
    browser: Browser, wheel: Wheel, role: str | None = "admin", **options: Any
) -> Iterator[Watched]:
    """Open a fresh profile of who has a role; None: of nobody who is signed in."""
    options = {"viewport": DESKTOP, "color_scheme": "light", "locale": "en-GB",
               "timezone_id": "Europe/Berlin", "reduced_motion": "reduce", **options}  # fmt: skip
    context = browser.new_context(**options)
    if role is not None:
        host = urlsplit(wheel.address)
        context.add_cookies(
            [
                {
                    "name": COOKIE,
                    "value": wheel.tokens[role],
                    "domain": host.hostname or "",
                    "path": "/admin",
                    "httpOnly": True,
                    "sameSite": "Lax",
                }
            ]
        )
    watched = Watched(context, wheel.address)
    watched.watch()
    try:
        yield watched
    finally:
        context.close()


ALL_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOURS = ("color-contrast", "link-in-text-block")
"""What the other scheme may change."""


def violations(page: Page, rules: Sequence[str] = ALL_RULES) -> list[str]:
    """Return what axe-core calls serious or critical on a page, with where it is."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(
        "(only) => axe.run(document, {resultTypes: ['violations'], runOnly: only})", list(rules)
    )
    return [
        f"axe {one['id']} ({one['impact']}): {node['html'][:160]} {_why(node)}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:4]
    ]


def _why(node: dict[str, Any]) -> str:
    checks = [*node.get("any", ()), *node.get("all", ()), *node.get("none", ())]
    return "; ".join(check["message"] for check in checks)[:200]


_OVERFLOW = """
() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide + 1) return [];
  const clipped = (element) => {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement)
      if (getComputedStyle(up).overflowX !== "visible") return true;
    return false;
  };
  return [...document.body.querySelectorAll("*")]
    .filter((one) => one.getBoundingClientRect().right > wide + 1 && !clipped(one))
    .slice(0, 4)
    .map((one) => `${one.tagName.toLowerCase()}.${one.getAttribute("class") || ""}`
      + ` to ${Math.round(one.getBoundingClientRect().right)}: `
      + one.textContent.trim().slice(0, 60));
}
"""


def too_wide(page: Page) -> list[str]:
    """Return what makes the page scroll sideways, if it does."""
    width = page.viewport_size["width"] if page.viewport_size else 0
    found: list[str] = page.evaluate(_OVERFLOW)
    return [f"wider than {width} px: {one}" for one in found]


_INJECTED = """
() => [
  ...document.querySelectorAll(
    "#injected, iframe, base, meta[http-equiv=refresh], object, embed, img[src=x],"
    + " [onerror], [onload], [onfocus], [onclick], a[href^='javascript:'], form[action^='//']"),
  ...document.querySelectorAll("script:not([src]):not([type='application/json'])"),
].map((one) => one.outerHTML.slice(0, 160))
"""


def unharmed(page: Page) -> None:
    """Check that nothing of the corpus of stored scripts became part of the page, or ran."""
    assert page.evaluate("() => window.hacked") is None
    assert page.evaluate(_INJECTED) == []
