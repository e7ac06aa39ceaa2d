"""No process listens beyond this machine without a key that nobody guesses."""

from collections.abc import Callable

import pytest
from by_hand import Said

from foundation.settings import get_settings

Command = Callable[..., Said]


@pytest.mark.parametrize(
    "service",
    [("serve",), ("gateway",), ("engine", "--base", "unused"), ("up",)],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("host", "key", "said"),
    [
        ("0.0.0.0", None, "FLYWHEEL_HOST: got '0.0.0.0'"),
        ("::", None, "FLYWHEEL_HOST: got '::'"),
        ("wheel.example", None, "FLYWHEEL_HOST: got 'wheel.example'"),
        ("0.0.0.0", "changeme", "FLYWHEEL_API_KEY: got 'a key that can be guessed'"),
    ],
)
def test_it_is_refused(
    database: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    service: tuple[str, ...],
    host: str,
    key: str | None,
    said: str,
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOST", host)
    monkeypatch.setenv("FLYWHEEL_API_KEY", key) if key else None
    get_settings.cache_clear()
    answer = command(*service)
    assert answer.code == 2
    assert said in answer.err
    assert "Set" in answer.err
