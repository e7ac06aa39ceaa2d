"""What the site holds beside docs/: pages generated from code, and pages of the repository's root.

A link from a page to a file of the repository that is no page becomes its name in plain text: the
site works without the repository.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from reference import PAGES  # noqa: E402

OF_THE_ROOT = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
}
"""Pages of the repository's root, and what they are called on the site."""

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name where they belong.

    Those of docs/adr under the decisions, others at the end of what is about running it.
    """
    parts = {name: pages for part in config.nav for name, pages in part.items()}
    groups = {name: pages for group in parts["How-to"] for name, pages in group.items()}
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    found = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    groups["Operate"] += [name for name in found if name not in named]
    why = {name: pages for part in parts["Explanation"] for name, pages in part.items()}
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("0*.md"))
    why["Decisions on record"] += [f"adr/{name}" for name in records]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of docs/."""
    for name, render in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=render()))
    for source, target in OF_THE_ROOT.items():
        path = ROOT / source
        if path.exists() and files.get_file_from_path(target) is None:
            text = linked_from_docs(path.read_text())
            files.append(File.generated(config, target, content=text))
    return files


def linked_from_docs(text: str) -> str:
    """Return a page of the root with its links as seen from docs/."""

    def moved(found: re.Match[str]) -> str:
        title, target, anchor = found[1], found[2], found[3] or ""
        inside = target.startswith("docs/")
        return f"[{title}]({target.removeprefix('docs/') if inside else f'../{target}'}{anchor})"

    return _LINK.sub(moved, text)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links out of docs/ to pages of the site, or leave their words alone."""
    here = Path(page.file.src_uri).parent

    def settled(found: re.Match[str]) -> str:
        title, target, anchor = found[1], found[2], found[3] or ""
        path = (ROOT / "docs" / here / target).resolve()
        docs = ROOT / "docs"
        if path.is_relative_to(docs) and files.get_file_from_path(str(path.relative_to(docs))):
            return found[0]
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else target
        if name in OF_THE_ROOT:
            up = "../" * len(here.parts)
            return f"[{title}]({up}{OF_THE_ROOT[name]}{anchor})"
        return title if path.exists() else found[0]

    return _LINK.sub(settled, markdown)


SHIM = "https://unpkg.com/iframe-worker/shim"
"""The one script that the theme would load from another host; ours is `assets/worker.js`."""


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Take the theme's script from here."""
    return output.replace(SHIM, "../" * page.url.count("/") + "assets/worker.js")


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """Do so for pages that answer at any address, as 404.html does."""
    return output_content.replace(SHIM, "/assets/worker.js")
