"""Pictures of every page, light and dark, from the seed: `python -m tests.browser.screens`.

Small PNGs with names that stay, and a gallery of them, under `docs/screens/`. Needs a PostgreSQL
server in FLYWHEEL_TEST_POSTGRES_URL, or starts the embedded one.
"""

import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.addresses import ADDRESSES, filled
from tests.browser.browsing import DESKTOP, chromium, launch, signed_in
from tests.browser.service import PROJECT, Wheel, served

FOLDER = PROJECT / "docs" / "screens"
COLOURS = 96
SCHEMES = ("light", "dark")
LEFT_OUT = ("sign_in.oidc", "interactions.find")


def shots() -> Iterator[tuple[str, str, str]]:
    """Yield name of the file, name of the route and address of each picture."""
    for name, addresses in ADDRESSES.items():
        if name in LEFT_OUT:
            continue
        for place, address in enumerate(addresses):
            if "?" in address and place:
                continue
            stem = name.replace(".", "-").replace("_", "-")
            yield stem + (f"-{place + 1}" if place else ""), name, address


def main(only: Sequence[str] = ()) -> None:
    """Take every picture, or those whose name begins with one of `only`."""
    path = chromium()
    if path is None:
        sys.exit("no Chromium: install one, or name it in FLYWHEEL_TEST_CHROMIUM")
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [shot for shot in shots() if not only or shot[0].startswith(tuple(only))]
    with tempfile.TemporaryDirectory(prefix="flywheel-") as folder:
        home = Path(tempfile.gettempdir()) / "flywheel"  # which pages show: the same each time
        home.mkdir(exist_ok=True)
        with _postgres(Path(folder)) as url, served(url, home, "flywheel_screens") as wheel:
            take_all(path, wheel, wanted)
    if not only:
        write_gallery(wanted)


def take_all(path: str, wheel: Wheel, wanted: Sequence[tuple[str, str, str]]) -> None:
    """Take the pictures that are wanted."""
    with sync_playwright() as playwright:
        browser = launch(playwright, path)
        for scheme in SCHEMES:
            for role in (None, "admin"):
                with signed_in(browser, wheel, role, color_scheme=scheme) as watched:
                    for stem, name, address in wanted:
                        if (name == "sign_in") == (role is None):
                            page = watched.page(filled(address, wheel.ids))
                            take(page, FOLDER / f"{stem}-{scheme}.png")
                            page.close()
        browser.close()


def take(page: Page, file: Path) -> None:
    """Take one picture of what a screen of 1280x800 shows, in as few colours as it needs."""
    page.set_viewport_size(DESKTOP)
    page.wait_for_timeout(250)  # what grows, has grown
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = picture.quantize(palette=colours_of(picture), dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def colours_of(picture: Image.Image) -> Image.Image:
    """Return a palette of the commonest colours and of the most distant ones.

    The first keep thin lines that are almost of their ground, the others keep small figures red.
    """
    counted = picture.getcolors(picture.width * picture.height) or []
    common = [colour for _, colour in sorted(counted, reverse=True)[: COLOURS // 2]]
    distant = picture.quantize(COLOURS // 2, method=Image.Quantize.MAXCOVERAGE)
    found = Image.new("P", (1, 1))
    found.putpalette([part for colour in common for part in colour] + (distant.getpalette() or []))
    return found


def write_gallery(wanted: Sequence[tuple[str, str, str]]) -> None:
    """Write the page that shows them all, and take away pictures of pages that are gone."""
    lines = [
        "# Screens",
        "",
        "Every page of the admin view, from the seed of its browser tests. Made by `make screens`.",
        "",
        "| Page | Light | Dark |",
        "|---|---|---|",
    ]
    for stem, _, address in wanted:
        shown = " | ".join(f"![{stem}, {scheme}]({stem}-{scheme}.png)" for scheme in SCHEMES)
        lines.append(f"| `{address}` | {shown} |")
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n")
    known = {f"{stem}-{scheme}.png" for stem, _, _ in wanted for scheme in SCHEMES}
    for file in FOLDER.glob("*.png"):
        if file.name not in known:
            file.unlink()


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    configured = os.environ.get("FLYWHEEL_TEST_POSTGRES_URL")
    if configured is not None:
        yield configured
        return
    from foundation.embedded import start_embedded

    yield start_embedded(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
