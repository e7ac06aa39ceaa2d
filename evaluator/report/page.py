"""A report as an HTML page of its own: no script, nothing fetched, light and dark.

Answers, prompts and names are hostile text; the templates escape all that they are given. The
geometry is `plots`', the drawing is in the templates.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluator.report import views, words
from foundation import plots

CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""What a server should send with the page; the page states it as well."""

_UNSHOWN: Final = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
"""Characters that turn the text around them, or that no text holds."""


def as_html(report: dict[str, Any]) -> str:
    """Return a report of `verdict_report` or `evaluations_report` as one HTML page."""
    template = _environment().get_template(f"{report['kind']}.html")
    return template.render(report=report, policy=CONTENT_POLICY)


def _plain(value: Any) -> Any:
    """Return what is shown without characters that turn the text around them, or that none holds.

    Only plain strings: what the templates made themselves is escaped already.
    """
    return _UNSHOWN.sub("\ufffd", value) if type(value) is str else value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"views": views, "height": plots.HEIGHT, "bottom": plots.BOTTOM}
    environment.globals |= {"top": plots.TOP, "left": plots.LEFT, "margin": plots.MARGIN}
    environment.filters |= {
        "points": words.points,
        "percent": views.percent,
        "value": words.value,
        "rows": words.rows_of,
        "span": lambda pair: views.span(*pair),
        "place": lambda number: f"{number:.2f}",
        "words": lambda name: str(name).replace("_", " "),
        "utc": lambda text: f"{text[:16].replace('T', ' ')} UTC",
    }
    return environment
