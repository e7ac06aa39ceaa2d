import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session

import collector
from collector.ingest import store_batch
from collector.metrics import spool_account
from collector.reconcile import Books, books_of, reconciliation, total
from collector.record import interaction_record
from collector.schemas import Account, IngestBatch
from collector.spool.books import OTHER_REASON, REASONS
from collector.tables import IngestCount, SpoolAccount
from flywheel.app import create_app
from flywheel.status import wheel_status
from foundation.ids import new_id
from foundation.settings import get_settings

BOOKS = {
    "writer": "w1",
    "seen": 10,
    "delivered": 3,
    "waiting": 2,
    "held": 1,
    "damaged": 1,
    "dropped": {"disk_full": 3},
}


def interaction(role="coder"):
    request = {"messages": [{"role": "user", "content": "write f"}]}
    return interaction_record(new_id(), role, request, None)


def send(session, *records, source="s", account=None):
    batch = IngestBatch(source=source, interactions=list(records), account=account)
    results = store_batch(session, batch)
    session.commit()
    return results


def test_books_close_over_writers_and_arrivals(session: Session):
    record = interaction()
    send(session, record, interaction(role="wizard"), account=BOOKS)
    send(session, record)
    (books,) = reconciliation(session)
    assert (books.writers, books.seen, books.delivered) == (1, 10, 3)
    assert (books.stored, books.duplicate, dict(books.rejected)) == (1, 1, {"unknown_role": 1})
    assert dict(books.dropped) == {"disk_full": 3}
    assert books.unaccounted == 0


def test_a_report_replaces_the_last_and_a_late_one_changes_nothing(session: Session):
    send(session, account=BOOKS)
    send(session, account=BOOKS | {"seen": 12, "waiting": 4})
    send(session, account=BOOKS | {"seen": 11, "waiting": 3})
    send(session, account=BOOKS | {"seen": 12, "waiting": 0, "held": 5})
    (books,) = reconciliation(session)
    assert (books.seen, books.waiting, books.held) == (12, 0, 5)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, 0),
        ({"seen": 11}, 1),
        ({"waiting": 1}, 1),
        ({"dropped": {"disk_full": 2}}, 1),
        ({"waiting": 3}, 1),  # counted twice is as wrong as not at all
        ({"delivered": 4, "waiting": 1}, 1),  # it says that we have one more than we have
        ({"delivered": 2, "waiting": 3}, 0),  # its answer is on the way
    ],
)
def test_whatever_is_missing_shows(change, missing):
    account = SpoolAccount(source="s", **(BOOKS | change))
    counts = [IngestCount(source="s", outcome="stored", n=3)]
    (books,) = books_of([account], counts)
    assert books.unaccounted == missing


def test_what_is_missing_of_one_source_is_not_made_up_by_another():
    accounts = [
        SpoolAccount(source="a", **(BOOKS | {"seen": 12})),
        SpoolAccount(source="b", **(BOOKS | {"writer": "w2", "seen": 8})),
    ]
    counts = [IngestCount(source=source, outcome="stored", n=3) for source in "ab"]
    books = books_of(accounts, counts)
    assert [row.unaccounted for row in books] == [2, 2]
    assert total(books).seen == 20
    assert books_of([], []) == []
    assert total([]) == Books("")


def test_sources_without_accounts_have_nothing_to_miss(session: Session):
    send(session, interaction(), source="import:x")
    (books,) = reconciliation(session)
    assert (books.writers, books.stored, books.unaccounted) == (0, 1, 0)


def test_the_doors_tell_the_same(session: Session, monkeypatch: pytest.MonkeyPatch):
    send(session, interaction(role="wizard"), account=BOOKS | {"seen": 13})
    with TestClient(create_app(), "http://127.0.0.1") as client:
        (told,) = client.get("/v1/ingest/reconciliation").json()
        metrics = client.get("/metrics")
    assert told["unaccounted"] == 3 + 2
    assert wheel_status()["capture"] == [told]
    assert metrics.headers["content-type"].startswith("text/plain")
    for line in (
        'flywheel_records_total{outcome="rejected",source="s"} 1.0',
        'flywheel_spool_records{source="s",state="waiting"} 2.0',
        'flywheel_dropped_records_total{reason="disk_full",source="s"} 3.0',
        'flywheel_dropped_records_total{reason="spool_full",source="s"} 0.0',
        'flywheel_unaccounted_records{source="s"} 5.0',
        'flywheel_dead_letters{code="unknown_role"} 1.0',
    ):
        assert line in metrics.text.splitlines()
    monkeypatch.setenv("FLYWHEEL_API_KEY", "key")
    get_settings.cache_clear()
    with TestClient(create_app(), "http://127.0.0.1") as client:
        assert client.get("/metrics").status_code == 401


def test_a_spool_tells_its_books_by_itself():
    books = Account(**BOOKS).model_dump()
    spool, dropped = spool_account("gateway", books)
    assert (("gateway", "seen"), 10) in spool
    assert {reason: n for (_, reason), n in dropped} == dict.fromkeys(REASONS, 0) | {"disk_full": 3}


def test_every_reason_to_drop_a_record_is_told_before_it_comes_up():
    project = Path(collector.__path__[0]).parent
    found = set[str]()
    for path in (*project.glob("collector/**/*.py"), *project.glob("router/**/*.py")):
        calls = re.findall(r"\.drop(?:_oldest)?\(([^,)]*)", path.read_text())
        found |= {word for call in calls for word in re.findall(r'"(\w+)"', call)}
    assert found | {OTHER_REASON} == set(REASONS)
