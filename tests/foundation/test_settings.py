"""Settings: wrong values are named with a remedy; beyond loopback a key is needed."""

import pytest
from pydantic import SecretStr

from foundation.access import require_key
from foundation.database import connect, require_recent_server
from foundation.errors import BadSetting, DatabaseTooOld, DatabaseUnavailable, NotAuthorised
from foundation.settings import get_settings, require_safe_binding


@pytest.fixture
def fresh(settings: object) -> None:
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLYWHEEL_PORT", "http"),
        ("FLYWHEEL_PORT", "70000"),
        ("FLYWHEEL_DATABASE_URL", "mysql://root@host/db"),
        ("FLYWHEEL_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(
    fresh: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting, match=rf"{name}: got .*expected .*settings\.md"):
        get_settings()


def test_listening_beyond_loopback_needs_a_key() -> None:
    require_safe_binding("127.0.0.1", None)
    require_safe_binding("0.0.0.0", SecretStr("k"))
    with pytest.raises(BadSetting, match="FLYWHEEL_API_KEY"):
        require_safe_binding("0.0.0.0", None)


def test_an_unreachable_database_is_said_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable, match="FLYWHEEL_DATABASE_URL") as caught:
        connect("postgresql://someone:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value)


def test_an_old_server_is_refused() -> None:
    require_recent_server(140000)
    with pytest.raises(DatabaseTooOld, match=r"13\.8.*PostgreSQL 14"):
        require_recent_server(130008)


def test_a_key_is_asked_for_once_one_is_set(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    require_key({})
    monkeypatch.setenv("FLYWHEEL_API_KEY", "open-sesame")
    get_settings.cache_clear()
    require_key({"authorization": "Bearer open-sesame"})
    require_key({"x-api-key": "open-sesame"})
    require_key({"authorization": "Basic YWRhOm9wZW4tc2VzYW1l"})
    for wrong in ({}, {"authorization": "Bearer open"}, {"authorization": "Basic !"}):
        with pytest.raises(NotAuthorised):
            require_key(wrong)
