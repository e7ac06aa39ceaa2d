"""The health page: one word for everything, every circuit in a row, nothing that could run."""

from typing import Any

import pytest

from foundation.lone_page import CONTENT_POLICY
from router.upstreams.config import Defaults
from router.upstreams.health import DOWN, TRYING, UP, Health
from router.upstreams.page import as_html, verdict
from router.upstreams.server import Upstream

HOSTILE = "<script>alert('x')</script>"


def process(*rows: dict[str, Any], problem: str | None = None) -> dict[str, Any]:
    file = {"name": "gateway.yaml", "digest": "0123456789abcdef", "problem": problem}
    place = {"host": "north-1", "pid": 7, "seen": "just now"}
    return {
        **place,
        "upstreams": list(rows),
        "counts": {"calls": 12345},
        "file": file,
        "cache": None,
    }


@pytest.mark.parametrize(
    ("states", "problem", "expected"),
    [
        ([], None, "ok"),
        ([UP, UP], None, "ok"),
        ([UP, DOWN], None, "degraded"),
        ([DOWN, TRYING], None, "degraded"),
        ([DOWN, DOWN], None, "down"),
        ([UP], "a mistake", "degraded"),
    ],
    ids=["unasked", "up", "one-down", "trying", "all-down", "file"],
)
def test_one_word(states: list[str], problem: str | None, expected: str) -> None:
    assert verdict([process(*({"state": one} for one in states), problem=problem)]) == expected


def rows(model: str) -> list[dict[str, Any]]:
    """Rows as the forwarder has them: a model that is down, at a server that is up."""
    health = Health(Defaults(failures_to_open=1), lambda: 5.0)
    _, own = health.of(Upstream("north", "http://n/v1"), model)
    health.note_failure(own, "http_500", 4.0)
    own.limited_until = 9.0
    return list(health.rows())


def test_the_page_tells_and_nothing_runs() -> None:
    page = as_html([process(*rows(HOSTILE), problem=f"got {HOSTILE}")])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2
    assert f'content="{CONTENT_POLICY}"'.replace("'", "&#39;") in page
    for said in ("north-1", "down for 0.0 s", "next look in 0.2 s", "http_500", "12,345", "4.0 s"):
        assert said in page, said


def test_a_page_of_nothing() -> None:
    assert "No gateway process has reported" in as_html([])
    assert "Nothing has been asked yet" in as_html([{**process(), "file": None}])
