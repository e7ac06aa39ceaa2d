"""Settings: wrong values are named with a remedy; beyond loopback a key is needed."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_secrets_are_read_from_files_that_are_named_as_variables(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions = tmp_path / "..2026_01_01"  # as Kubernetes lays them out: links to links
    versions.mkdir()
    (versions / "flywheel_api_key").write_text("open-sesame\n")
    (tmp_path / "..data").symlink_to(versions.name)
    (tmp_path / "flywheel_api_key").symlink_to("..data/flywheel_api_key")
    (tmp_path / "flywheel_upstreams").write_text('{"one": {"base_url": "http://127.0.0.1:1/v1"}}')
    (tmp_path / "flywheel_port").write_text("8001")
    monkeypatch.setenv("FLYWHEEL_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("FLYWHEEL_PORT", "8002")
    read = get_settings()
    assert read.api_key == SecretStr("open-sesame")
    assert read.upstreams["one"]["base_url"] == "http://127.0.0.1:1/v1"
    assert read.port == 8002, "a variable goes before a file"


def test_secrets_that_cannot_be_read_are_named(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLYWHEEL_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(BadSetting, match=r"FLYWHEEL_SECRETS_DIR: got .*none.*expected a folder"):
        get_settings()
    monkeypatch.setenv("FLYWHEEL_SECRETS_DIR", str(tmp_path))
    (tmp_path / "flywheel_port").write_text("many")
    with pytest.raises(BadSetting, match="FLYWHEEL_PORT: got 'many'"):
        get_settings()


def test_secrets_of_another_user_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "flywheel_api_key").write_text("k")
    (tmp_path / "flywheel_api_key").chmod(0)
    read = "from foundation.settings import get_settings; get_settings()"
    words = [sys.executable, "-c", read]
    if os.geteuid() == 0:  # root reads everything, until it has given that right up
        words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *words]
    secrets = {"FLYWHEEL_SECRETS_DIR": str(tmp_path)}
    said = subprocess.run(words, env={**os.environ, **secrets}, capture_output=True, text=True)
    assert "FLYWHEEL_SECRETS_DIR: got" in said.stderr
    assert "files that this user may read (Permission denied)" in said.stderr


def test_listening_beyond_loopback_needs_a_key() -> None:
    require_safe_binding("127.0.0.1", None)
    require_safe_binding("127.0.0.1", SecretStr("k"))
    require_safe_binding("0.0.0.0", SecretStr("zN5-3kfoq8Vd2_Lw"))
    strong = SecretStr("zN5-3kfoq8Vd2_Lw")
    require_safe_binding("0.0.0.0", strong, SecretStr(""))
    require_safe_binding("127.0.0.1", strong, SecretStr("k"))
    with pytest.raises(BadSetting, match="FLYWHEEL_METRICS_KEY.*guessed"):
        require_safe_binding("0.0.0.0", strong, SecretStr("CHANGE-ME"))
    with pytest.raises(BadSetting, match=r"FLYWHEEL_METRICS_KEY.*FLYWHEEL_API_KEY"):
        require_safe_binding("127.0.0.1", strong, strong)
    for host in ("0.0.0.0", "::", "", "10.0.0.7", "wheel.local", "127.0.0.1.evil.org"):
        with pytest.raises(BadSetting, match="FLYWHEEL_API_KEY"):
            require_safe_binding(host, None)


@pytest.mark.parametrize(
    "key", ["", "zN5-3kfoq8Vd2_L", "please-changeme-now", "abababababababababab"]
)
def test_a_key_that_can_be_guessed_does_not_open_beyond_loopback(key: str) -> None:
    with pytest.raises(BadSetting, match="got 'a key that can be guessed'") as no:
        require_safe_binding("0.0.0.0", SecretStr(key))
    assert not key or key not in str(no.value)


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
