"""A report as an HTML page of its own: no script, nothing fetched, light and dark.

Answers, prompts and names are hostile text; the templates escape all that they are given. The
geometry is `plots`', the drawing is in the templates.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from evaluator.report import views, words
from foundation import plots
from foundation.lone_page import environment


def as_html(report: dict[str, Any]) -> str:
    """Return a report of `verdict_report` or `evaluations_report` as one HTML page."""
    template = _environment().get_template(f"{report['kind']}.html")
    return template.render(report=report)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment(Path(__file__).parent)
    made.globals |= {"views": views, "height": plots.HEIGHT, "bottom": plots.BOTTOM}
    made.globals |= {"top": plots.TOP, "left": plots.LEFT, "margin": plots.MARGIN}
    made.filters |= {
        "points": words.points,
        "percent": views.percent,
        "value": words.value,
        "rows": words.rows_of,
        "span": lambda pair: views.span(*pair),
        "place": lambda number: f"{number:.2f}",
        "utc": lambda text: f"{text[:16].replace('T', ' ')} UTC",
    }
    return made
