"""Reports of verdicts and evaluations: all that a reader needs to believe one, in three formats.

Files: `data` (what a report holds, as JSON) with `sides` (figures from the answers), `answers`
(side by side) and `words` (headline, next steps, doubts); `markdown` and `page` write it, the page
with `views` (what is shown), `plots` (geometry) and the templates; `files` chooses by suffix.
"""

from evaluator.report.data import (
    evaluations_report,
    get_verdict,
    verdict_report,
    verdict_row,
    verdict_summary,
)
from evaluator.report.files import require_format, write_report
from evaluator.report.markdown import as_markdown
from evaluator.report.page import as_html

__all__ = [
    "as_html",
    "as_markdown",
    "evaluations_report",
    "get_verdict",
    "require_format",
    "verdict_report",
    "verdict_row",
    "verdict_summary",
    "write_report",
]
