"""HTML pages that stand alone: no script, nothing fetched, all that is shown escaped.

Answers, prompts and names are hostile text, and come from callers.
"""

import re
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""What a server should send with such a page; the page states it as well."""

_UNSHOWN: Final = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
"""Characters that turn the text around them, or that no text holds."""


def environment(folder: Path) -> Environment:
    """Return what renders the templates of a folder; an unknown name in one is an error."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["policy"] = CONTENT_POLICY
    made.filters["words"] = lambda name: str(name).replace("_", " ")
    return made


def _plain(value: Any) -> Any:
    """Return what is shown without the characters that cannot be.

    Only plain strings: what the templates made themselves is escaped already.
    """
    return _UNSHOWN.sub("\ufffd", value) if type(value) is str else value
