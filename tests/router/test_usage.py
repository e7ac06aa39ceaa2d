"""Usage: each stored call counts once, by day, role, project, model and key."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import Session, select

from collector.ingest import STORED, store_batch
from collector.record import interaction_record
from collector.schemas import IngestBatch
from foundation.errors import BadInput, NotFound
from foundation.ids import first_id_at, new_id
from foundation.tables import now
from router import usage, windows
from router.estimates import ANSWER_TOKENS, MEDIA_TOKENS, Taking, estimate, input_tokens, taken
from router.keys import create_key
from router.tables import BudgetWindow, UsageDay
from router.windows import COST_USD_PER_MONTH, TOKENS_PER_DAY


def record(ended: datetime | None = None, tokens: int = 10, **columns: Any) -> dict[str, Any]:
    started = (ended or now()) - timedelta(seconds=1)
    said = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    values = {"role": "coder", "model": "m", "project": "shop", "cost_usd": 0.5, **columns}
    model, role = values.pop("model"), values.pop("role")
    return interaction_record(
        UUID(int=first_id_at(started).int + new_id().int % 2**62),
        role,
        {"model": model, "messages": [{"role": "user", "content": "q"}]},
        {"model": model, "choices": [], "usage": said},
        started_at=started,
        latency_ms=1000.0,
        source="gateway",
        **values,
    )


def deliver(session: Session, *records: dict[str, Any]) -> None:
    """Store records, and count those that are new, as the gateway's transport does."""
    batch = IngestBatch.model_validate({"source": "gateway", "interactions": records})
    results = store_batch(session, batch)
    usage.count(session, [r for r, result in zip(records, results, strict=True)
                          if result.status == STORED])  # fmt: skip
    session.commit()


def test_every_group_is_summed_and_a_record_sent_twice_counts_once(session: Session) -> None:
    calls = [
        record(attributes={"key": "ci"}),
        record(attributes={"key": "ci"}, tokens=20),
        record(attributes={"cached": True}, cost_usd=0.0),
        record(role="tester", model="n", project="blog", status="error", completed=False),
        record(model="nobody-sells-it", cost_usd=None),
        record(usage_estimated=True),
    ]
    deliver(session, *calls[:3])
    deliver(session, *calls)
    told = {by: {g.group: (g.n_calls, g.tokens, g.cost_usd) for g in usage.summed(session, by)}
            for by in usage.GROUPS}  # fmt: skip
    assert told["role"] == {"coder": (5, 60, 1.5), "tester": (1, 10, 0.5)}
    assert told["model"] == {"m": (4, 50, 1.5), "n": (1, 10, 0.5), "nobody-sells-it": (1, 10, 0)}
    assert told["project"] == {"shop": (5, 60, 1.5), "blog": (1, 10, 0.5)}
    assert told["key"] == {"ci": (2, 30, 1.0), "": (4, 40, 1.0)}
    assert sum(n for n, _, _ in told["day"].values()) == 6
    (coder, tester) = usage.summed(session)
    assert (coder.n_cached, coder.n_unpriced, coder.n_estimated, coder.n_errors) == (1, 1, 1, 0)
    assert (tester.n_errors, tester.input_tokens, tester.output_tokens) == (1, 9, 1)


def test_days_are_of_utc_and_end_the_report(session: Session) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    deliver(session, record(midnight), record(midnight + timedelta(seconds=1)))
    days = session.exec(select(UsageDay.day).order_by(UsageDay.day)).all()
    assert days == [(midnight - timedelta(days=1)).date(), midnight.date()]
    assert [usage.summed(session, days=n)[0].n_calls for n in (1, 2)] == [1, 2]
    for by, n in (("team", 1), ("role", 0)):
        with pytest.raises(BadInput):
            usage.summed(session, by, n)


def test_a_project_that_gets_a_budget_has_used_what_it_used(session: Session) -> None:
    deliver(session, record(tokens=70), record(tokens=7, project="blog"))
    windows.set_limit(session, "project:shop", TOKENS_PER_DAY, 100)
    windows.set_limit(session, "project:shop", TOKENS_PER_DAY, 200)
    windows.set_limit(session, "project:shop", COST_USD_PER_MONTH, 9)
    rows = session.exec(select(BudgetWindow)).all()
    assert {row.measure: row.used for row in rows} == {TOKENS_PER_DAY: 70, COST_USD_PER_MONTH: 0.5}


# Budgets as people set them


def test_limits_are_a_scopes_own_or_its_kinds_or_the_default(session: Session) -> None:
    row, _ = create_key(session, "ci")
    windows.set_limit(session, "key:*", TOKENS_PER_DAY, 50)
    windows.set_limit(session, "key:ci", COST_USD_PER_MONTH, 5)
    limits = windows.read_limits(session)
    scope = windows.key_scope(row.id)
    assert windows.limit_of(limits, scope, TOKENS_PER_DAY) == 50
    assert windows.limit_of(limits, scope, COST_USD_PER_MONTH) == 5
    assert windows.limit_of(limits, "role:coder", TOKENS_PER_DAY) == 100e6
    assert windows.limit_of(limits, "all", COST_USD_PER_MONTH) == 100e3
    told = {(s.scope, s.measure): (s.amount, s.is_default, s.used) for s in
            windows.standings(session)}  # fmt: skip
    assert told == {
        ("all", TOKENS_PER_DAY): (100e6, True, 0),
        ("all", COST_USD_PER_MONTH): (100e3, True, 0),
        ("key:*", TOKENS_PER_DAY): (50, False, None),
        ("key:ci", COST_USD_PER_MONTH): (5, False, 0),
    }
    windows.unset_limit(session, "key:*", TOKENS_PER_DAY)
    with pytest.raises(NotFound):
        windows.unset_limit(session, "key:*", TOKENS_PER_DAY)


@pytest.mark.parametrize(
    ("scope", "measure", "amount"),
    [
        ("team:a", TOKENS_PER_DAY, 1), ("role:nobody", TOKENS_PER_DAY, 1),
        ("key:nobody", TOKENS_PER_DAY, 1), ("project:*", TOKENS_PER_DAY, 1),
        ("project:a\x00", TOKENS_PER_DAY, 1), ("role:", TOKENS_PER_DAY, 1),
        ("all", "tokens", 1), ("all", TOKENS_PER_DAY, -1), ("all", TOKENS_PER_DAY, float("nan")),
        ("all", TOKENS_PER_DAY, float("inf")),
    ],
    ids=str,
)  # fmt: skip
def test_bad_budgets_are_refused(session: Session, scope: str, measure: str, amount: float) -> None:
    with pytest.raises(BadInput):
        windows.set_limit(session, scope, measure, amount)


@pytest.mark.parametrize(
    ("measure", "moment", "start", "end"),
    [
        (TOKENS_PER_DAY, "2026-02-28T23:59:59+00:00", "2026-02-28", "2026-03-01"),
        (TOKENS_PER_DAY, "2026-03-01T00:30:00+02:00", "2026-02-28", "2026-03-01"),
        (COST_USD_PER_MONTH, "2026-12-31T23:59:59+00:00", "2026-12-01", "2027-01-01"),
        (COST_USD_PER_MONTH, "2028-02-29T00:00:00+00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_windows_are_days_and_months_of_utc(
    measure: str, moment: str, start: str, end: str
) -> None:
    began = windows.window_start(measure, datetime.fromisoformat(moment))
    assert began == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert windows.window_end(measure, began) == datetime.fromisoformat(end).replace(tzinfo=UTC)


# Estimates


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"x" * 300, 100),
        ("ж".encode() * 150, 150),
        (b'{"url":"data:image/png;base64,' + b"A" * 90_000 + b'"}', 10 + MEDIA_TOKENS),
        (b'{"type":"input_audio","data" :"' + b"A" * 90_000 + b'"}', 10 + MEDIA_TOKENS),
        (b'[{"data":"' + b"A" * 90_000 + b'"},{"data":"abc"}]', 8 + MEDIA_TOKENS),
        (b'"in ;base64,' + b"word " * 600 + b'"', 1004),
        (b"", 0),
    ],
    ids=["ascii", "other", "image", "sound", "short", "text about base64", "empty"],
)
def test_prompts_are_estimated_from_their_bytes(body: bytes, tokens: int) -> None:
    assert input_tokens(body) == tokens


def test_an_estimate_has_the_longest_answer_and_the_models_price() -> None:
    told = estimate(b"x" * 3000, 500, "gpt-4o", "openai", n_answers=2)
    assert (told.input_tokens, told.output_tokens, told.tokens) == (1000, 1000, 2000)
    assert told.cost_usd == pytest.approx(1000 * 2.5e-6 + 1000 * 1e-5)
    unknown = estimate(b"", None, "nobody-sells-it", None)
    assert (unknown.output_tokens, unknown.cost_usd) == (ANSWER_TOKENS, 0)


ESTIMATED = Taking(100, 4096, 1.0)
CHUNK = b'data: {"choices":[{"delta":{"content":"x"}}],"usage":null}\n\n'


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (b'{"choices":[],"usage": {"prompt_tokens":7,"completion_tokens":3}}', (7, 3)),
        (CHUNK * 5 + b'data: {"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n', (7, 3)),
        (
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,'
            b'"cache_read_input_tokens":2,"output_tokens":1}}}\n\n'
            b'data: {"type":"message_delta","usage":{"output_tokens":33}}\n\n',
            (9, 33),
        ),
        (
            b'data: {"response":{"usage":null}}\n\ndata: {"response":{"usage":'
            b'{"input_tokens":7,"output_tokens":3}}}\n\n',
            (7, 3),
        ),
        (b'{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}', (7, 0)),
        (CHUNK * 5, (100, 5)),
        (b'{"choices":[' + b"x" * 88 + b"]}", (100, 25)),
        (CHUNK * 5 + b'data: {"usage":{"prompt_tok', (100, 6)),
        (b'{"choices":[{"content":"\\"usage\\":{\\"completion_tokens\\":9}"}]}', (100, 15)),
        (b"", (0, 0)),
    ],
    ids=[
        *("whole", "stream", "messages", "responses", "embeddings", "stream that says nothing"),
        *("whole that says nothing", "cut in its usage", "usage in its text", "no answer"),
    ],
)
def test_what_a_call_took_is_read_from_its_answer(answer: bytes, tokens: tuple[int, int]) -> None:
    took = taken(answer, ESTIMATED, "gpt-4o", "openai")
    assert (took.input_tokens, took.output_tokens) == tokens
    assert took.cost_usd == pytest.approx(tokens[0] * 2.5e-6 + tokens[1] * 1e-5, rel=0.3)
