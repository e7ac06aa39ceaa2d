"""System and settings: what they say is so, and no secret is shown."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlmodel import Session, col

from admin import settings, system
from admin.tables import AuditEntry
from collector.partitions import ensure_partitions, week_start
from foundation.settings import Settings, get_settings
from foundation.tables import now

Get = Callable[..., httpx.Response]


def test_the_weeks_are_those_of_the_log(session: Session, get: Get) -> None:
    ensure_partitions(session.connection(), now(), 2)
    session.commit()
    weeks = system.weeks(session)
    assert [week.start for week in weeks] == sorted(
        (week.start for week in weeks), key=lambda s: s or datetime.min.replace(tzinfo=UTC)
    )[::-1]
    assert weeks[-1].start is None
    assert all(week.has_calls and week.has_payloads for week in weeks)
    page = get("/admin/system").text
    assert weeks[0].name in page
    assert "schema revision" in page


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"sure": "drop"}, 400),
        ({"part": "everything"}, 422),
        ({"before": "2999-01-01T00:00:00+00:00"}, 409),
        ({"reason": ""}, 422),
        ({}, 303),
    ],
    ids=["not sure", "no such part", "a week to come", "no reason", "done"],
)
def test_weeks_are_dropped_with_a_word_and_a_reason(
    session: Session, get: Get, form: dict[str, str], status: int
) -> None:
    last_week = week_start(now()) - timedelta(days=7)
    ensure_partitions(session.connection(), last_week, 0)
    session.commit()
    before = {week.start for week in system.weeks(session) if week.has_payloads}
    sent = {
        **{"part": "payload", "before": week_start(now()).isoformat()},
        **{"sure": "DROP", "reason": "the customer left"},
        **form,
    }
    answer = get("/admin/system/retention", "POST", data=sent)
    assert answer.status_code == status
    session.rollback()
    after = {week.start for week in system.weeks(session) if week.has_payloads}
    entries = session.scalars(
        select(AuditEntry).where(col(AuditEntry.action) == "log.retention")
    ).all()
    if status != 303:
        assert (after, list(entries)) == (before, [])
        return
    assert last_week in before - after
    assert entries[0].reason == "the customer left"
    assert entries[0].after is not None
    assert entries[0].after["dropped"]
    ensure_partitions(session.connection(), now(), get_settings().partitions_ahead)
    session.commit()


def test_an_open_transaction_is_told_of(session: Session) -> None:
    told = system.database(session)
    assert told.connections >= 1
    assert not told.has_old_transaction


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SecretStr("sesame"), "•••"),
        ("postgresql://me:sesame@db:5432/x", "postgresql://me:•••@db:5432/x"),
        ({"a": {"api_key": "sesame", "base_url": "http://u:sesame@h"}}, None),
        (["redis://:sesame@h"], None),
        (None, None),
    ],
    ids=["secret", "url", "nested", "list", "nothing"],
)
def test_no_secret_is_shown(value: object, shown: object) -> None:
    masked = settings.masked(value)
    assert "sesame" not in str(masked)
    if shown:
        assert masked == shown


def test_every_setting_is_shown_once_with_where_it_comes_from(
    session: Session, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_PROJECT", "wheelwrights")
    monkeypatch.setenv("FLYWHEEL_GITHUB_SECRET", "sesame")
    get_settings.cache_clear()
    names = [s.variable for g in settings.groups(get_settings()) for s in g.settings]
    assert sorted(names) == sorted(f"FLYWHEEL_{name}".upper() for name in Settings.model_fields)
    page = get("/admin/settings").text
    assert "wheelwrights" in page
    assert "sesame" not in page


def test_a_drop_does_not_wait_for_who_reads_the_log(
    session: Session, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a drop that waits every call waits, to be stored or to be read."""
    monkeypatch.setattr(system, "LOCK_MS", 100)
    last_week = week_start(now()) - timedelta(days=7)
    ensure_partitions(session.connection(), last_week, 0)
    session.commit()
    session.execute(text("SELECT count(*) FROM interaction_payload"))
    sent = {"part": "payload", "before": week_start(now()).isoformat(), "sure": "DROP"}
    answer = get("/admin/system/retention", "POST", data={**sent, "reason": "the customer left"})
    assert answer.status_code == 409
    assert "Nothing was dropped" in answer.text
    session.rollback()
    assert last_week in {week.start for week in system.weeks(session) if week.has_payloads}
    dropped = select(AuditEntry).where(col(AuditEntry.action) == "log.retention")
    assert not session.scalars(dropped).all()
    ensure_partitions(session.connection(), now(), get_settings().partitions_ahead)
    session.commit()
