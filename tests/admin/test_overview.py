"""The overview: what asks for a person is told, and how each stage went lately."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import event, text
from sqlmodel import Session, col, select

from admin import overview, trends
from admin.attention import Attention, attention
from admin.paging import COUNTED, about
from collector.partitions import ensure_partitions
from collector.tables import DeadLetter, Feedback, Interaction, SpoolAccount
from curation.tables import Dataset, ReviewItem
from foundation.ids import first_id_at, new_id
from foundation.tables import FAILED, QUEUED, RUNNING, Run, now
from router.promote import initial
from trainer.tables import ModelVersion

Get = Callable[..., httpx.Response]


def titles(seen: Attention) -> str:
    return "; ".join(notice.title for notice in [*seen.alarms, *seen.waiting])


def test_nothing_asks_for_a_person_while_all_is_calm(session: Session, get: Get) -> None:
    seen = attention(session)
    assert (list(seen.alarms), list(seen.waiting), seen.lost) == ([], [], 0)
    page = get("/admin/").text
    assert "All is calm" in page
    assert "0 records lost" in page


@pytest.mark.parametrize(
    ("row", "title"),
    [
        (lambda: Run(kind="x", status=FAILED), "1 job failed since yesterday"),
        (
            lambda: Run(kind="x", status=QUEUED, created_at=now() - timedelta(hours=1)),
            "Nobody does the jobs",
        ),
        (
            lambda: Run(kind="x", status=RUNNING, heartbeat_at=now() - timedelta(hours=1)),
            "Workers fell silent",
        ),
        (
            lambda: SpoolAccount(writer="w", source="s", seen=2, dropped={"full": 1}),
            "1 record lost",
        ),
        (
            lambda: SpoolAccount(writer="w", source="s", seen=1, dropped={"full": 1}),
            "Records were dropped",
        ),
        (
            lambda: ReviewItem(role="coder", kind="example", subject_id=new_id(), reason="random"),
            "1 to review",
        ),
        (
            lambda: DeadLetter(
                kind="interaction", record_id="r", source="s", code="c", reason="r", record="{}"
            ),
            "1 record refused",
        ),
    ],
    ids=["failed", "no worker", "silent", "lost", "dropped", "review", "letters"],
)
def test_what_asks_for_a_person_is_named_and_leads_there(
    session: Session, get: Get, row: Callable[[], object], title: str
) -> None:
    session.add(row())
    session.commit()
    assert title in titles(attention(session))
    page = get("/admin/").text
    assert title in page
    assert "Asks for you" in page


def test_the_first_page_asks_as_much_of_a_full_database(
    session: Session, get: Get, filled: object
) -> None:
    def n_queries() -> int:
        seen: list[str] = []

        def note(*given: Any) -> None:
            seen.append(given[2])

        event.listen(session.get_bind(), "before_cursor_execute", note)
        session.expire_all()
        overview.overview(session, "http://wheel")
        event.remove(session.get_bind(), "before_cursor_execute", note)
        return len(seen)

    before = n_queries()
    for number in range(30):
        session.add(Run(kind="x", status=RUNNING, heartbeat_at=now()))
        session.add(Run(kind="x", status=FAILED))
        session.add(Interaction(id=new_id(), role="coder", task_type=str(number)))
    session.commit()
    assert n_queries() <= before + 2


def test_counts_are_exact_while_small_and_the_planners_beyond(session: Session) -> None:
    ensure_partitions(session.connection(), now(), 1)
    session.execute(
        text(
            "INSERT INTO interaction (id, role, project, gen_ai_operation_name, status, completed,"
            " usage_estimated, source, started_at, ingested_at)"
            " SELECT gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'tester' ELSE 'coder' END, 'p',"
            " 'chat', 'success', true, false, 's', now(), now() FROM generate_series(1, 4000) AS n"
        )
    )
    session.execute(text("ANALYZE interaction"))
    roles = [
        select(Interaction.id).where(col(Interaction.role) == role)
        for role in ("coder", "tester", "nobody")
    ]
    coder, tester, nobody = about(session, roles)
    assert (tester.n, tester.kind) == (400, "exact")
    assert (nobody.n, nobody.kind) == (0, "exact")
    assert coder.kind == "estimate"
    assert COUNTED < coder.n < 4_500
    assert about(session, []) == []


def test_trends_are_of_days_in_order(session: Session) -> None:
    moment = now()
    for back, n, worked in ((2, 3, 0.0), (0, 1, 1.0)):
        for _ in range(n):
            at = moment - timedelta(days=back)
            session.add(Interaction(id=_id_at(at), role="coder"))
            session.add(
                Feedback(
                    id=_id_at(at),
                    interaction_id=new_id(),
                    kind="success",
                    value=worked,
                    created_at=at,
                )
            )
    session.commit()
    calls = trends.calls_by_day(session)
    assert len(calls) == trends.DAYS
    assert calls[-3:] == [3.0, 0.0, 1.0]
    assert trends.success_by_day(session) == [0.0, 1.0]
    assert trends.kept_by_version(session) == []


def _id_at(moment: object) -> UUID:
    first = first_id_at(moment)  # type: ignore[arg-type]
    return UUID(int=first.int | (new_id().int & ((1 << 60) - 1)))


def test_days_are_those_of_utc_whatever_zone_the_database_is_set_to(session: Session) -> None:
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    for hours, value in ((-1, 0.0), (1, 1.0), (23, 1.0)):
        moment = midnight + timedelta(hours=hours)
        session.add(
            Feedback(
                id=first_id_at(moment), kind="success", source="test", value=value,
                interaction_id=new_id(), created_at=moment,
            )
        )  # fmt: skip
    session.flush()
    session.execute(text("SET LOCAL TIME ZONE 'Pacific/Auckland'"))
    assert trends.success_by_day(session) == [0.0, 1.0]


def test_examples_of_another_variant_are_no_step_of_the_wheel(session: Session) -> None:
    for number, (variant, n) in enumerate((("default", 40), ("trial", 7)), 1):
        session.add(
            Dataset(
                role="coder", variant=variant, kind="sft", number=number,
                content_hash=variant, card={}, n_train=n, n_validation=0, n_test=0,
            )
        )  # fmt: skip
    session.flush()
    assert trends.kept_by_version(session) == [40.0]


@pytest.mark.parametrize(
    ("kind", "learned"), [("base", 0), ("external", 0), ("adapter", 1), ("full", 1)]
)
def test_a_provider_serves_no_model_that_was_learned(
    session: Session, kind: str, learned: int
) -> None:
    version = ModelVersion(role="coder", number=1, name="m", kind=kind, base_model="x")
    session.add(version)
    session.flush()
    initial(session, "coder", version)
    lines = overview.role_lines(session)
    agents = overview.stages(session, lines)[-1]
    assert agents.number == f"{learned}/{len(lines)}"
