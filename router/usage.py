"""What was asked and what it cost, by day, role, project, model and key.

Counted in the transaction that stores a call's record, so each record counts once however often it
is sent. Models without a price in `foundation.prices` cost nothing here; their calls are counted
apart, and so are those whose tokens nobody stated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from foundation.errors import BadInput
from foundation.tables import now

KEY: Final = "key"
CACHED: Final = "cached"
"""Attributes of a record: the name of the caller's key, and that the cache answered."""

GROUPS: Final[Mapping[str, str]] = {
    **{"role": "role", "model": "model", "project": "project", "key": "key_name", "day": "day"},
}
"""What usage can be shown by, and its column."""

_COUNT: Final = """
INSERT INTO usage_day AS told (
    day, role, project, model, key_name,
    n_calls, n_errors, n_cached, n_estimated, n_unpriced, input_tokens, output_tokens, cost_usd
)
SELECT
    (call.started_at AT TIME ZONE 'UTC')::date,
    call.role,
    call.project,
    coalesce(call.gen_ai_request_model, ''),
    coalesce(said.attributes ->> 'key', ''),
    count(*),
    count(*) FILTER (WHERE call.status = 'error'),
    count(*) FILTER (WHERE said.attributes ->> 'cached' = 'true'),
    count(*) FILTER (WHERE call.usage_estimated),
    count(*) FILTER (
        WHERE call.cost_usd IS NULL
        AND coalesce(call.gen_ai_usage_input_tokens, call.gen_ai_usage_output_tokens, 0) > 0
    ),
    coalesce(sum(call.gen_ai_usage_input_tokens), 0),
    coalesce(sum(call.gen_ai_usage_output_tokens), 0),
    coalesce(sum(call.cost_usd), 0)
FROM interaction call LEFT JOIN interaction_payload said ON said.id = call.id
WHERE call.id = ANY(CAST(:ids AS uuid[])) AND call.id BETWEEN :first AND :last
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (day, role, project, model, key_name) DO UPDATE SET
    n_calls = told.n_calls + excluded.n_calls,
    n_errors = told.n_errors + excluded.n_errors,
    n_cached = told.n_cached + excluded.n_cached,
    n_estimated = told.n_estimated + excluded.n_estimated,
    n_unpriced = told.n_unpriced + excluded.n_unpriced,
    input_tokens = told.input_tokens + excluded.input_tokens,
    output_tokens = told.output_tokens + excluded.output_tokens,
    cost_usd = told.cost_usd + excluded.cost_usd
"""


@dataclass(frozen=True)
class Usage:
    """Calls of one group, summed up."""

    group: str
    n_calls: int
    n_errors: int
    n_cached: int
    n_estimated: int
    """Calls whose tokens nobody stated: they are estimated from the texts."""
    n_unpriced: int
    """Calls with tokens of a model without a price: they cost 0 here."""
    input_tokens: int
    output_tokens: int
    cost_usd: float

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.input_tokens + self.output_tokens


def count(session: Session, records: Sequence[Mapping[str, Any]]) -> None:
    """Count calls whose records were just stored in this transaction.

    Call it last: rows of a day are locked in order until the commit, and others wait for them.

    Args:
        session: that stored them.
        records: those answered as stored, no duplicates among them.
    """
    if records:
        ids = sorted(str(record["id"]) for record in records)
        session.execute(text(_COUNT), {"ids": ids, "first": ids[0], "last": ids[-1]})


def summed(session: Session, by: str = "role", days: int = 30) -> list[Usage]:
    """Return the usage of the last `days` days of UTC, today among them, the costliest first.

    Raises:
        BadInput: `by` is no group, or `days` is below 1.
    """
    column = GROUPS.get(by)
    if column is None:
        raise BadInput("usage by", by, f"one of {', '.join(GROUPS)}", "Choose one of them.")
    if not 1 <= days <= 36_500:
        raise BadInput("days of usage", days, "1 to 36,500", "Choose fewer.")
    return _sum(session, f"{column}::text", "day >= :since", since=_days_ago(days - 1))


def by_day(
    session: Session, by: str, groups: Sequence[str], days: int = 30
) -> dict[str, list[int]]:
    """Return the tokens of each of the last `days` days of UTC, oldest first, by group.

    Raises:
        BadInput: `by` is no group.
    """
    column = GROUPS.get(by)
    if column is None:
        raise BadInput("usage by", by, f"one of {', '.join(GROUPS)}", "Choose one of them.")
    first = _days_ago(days - 1)
    query = (
        f"SELECT {column}::text, day, sum(input_tokens + output_tokens)::bigint FROM usage_day"
        f" WHERE day >= :since AND {column}::text = ANY(:groups) GROUP BY 1, 2"
    )
    found = {group: [0] * days for group in groups}
    for group, day, tokens in session.execute(
        text(query), {"since": first, "groups": list(groups)}
    ):
        place = (day - first).days
        if 0 <= place < days:
            found[group][place] = tokens
    return found


def used_by_project(session: Session, project: str, since: date) -> Usage:
    """Return what a project has used since a day."""
    where = "day >= :since AND project = :project"
    found = _sum(session, "''", where, since=since, project=project)
    return found[0] if found else Usage("", 0, 0, 0, 0, 0, 0, 0, 0.0)


def _sum(session: Session, group: str, where: str, **values: Any) -> list[Usage]:
    query = (
        f"SELECT {group}, sum(n_calls)::bigint, sum(n_errors)::bigint, sum(n_cached)::bigint,"
        " sum(n_estimated)::bigint, sum(n_unpriced)::bigint, sum(input_tokens)::bigint,"
        f" sum(output_tokens)::bigint, sum(cost_usd) FROM usage_day WHERE {where}"
        " GROUP BY 1 ORDER BY sum(cost_usd) DESC, sum(input_tokens + output_tokens) DESC, 1"
    )
    return [Usage(*row) for row in session.execute(text(query), values)]


def _days_ago(days: int) -> date:
    return (now() - timedelta(days=days)).date()
