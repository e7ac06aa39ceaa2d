"""When an upstream says to ask again."""

from datetime import UTC, datetime

import pytest

from router.upstreams.retry import retry_after_s


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 00:00:05 GMT", 5.0),
        ("Thu, 01 Jan 99999999999999 00:00:00 GMT", None),
        ("1e999", None),
        ("nan", None),
        ("soon", None),
    ],
)
def test_seconds_or_a_date(said: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": said}, datetime(2026, 1, 1, tzinfo=UTC)) == seconds
