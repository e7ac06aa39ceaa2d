"""Capture: the page says whether the books close."""

from collections.abc import Callable

import httpx
import pytest
from sqlmodel import Session

from collector.tables import IngestCount, SpoolAccount


@pytest.mark.parametrize(("seen", "unaccounted"), [(5, 0), (7, 2)], ids=["closed", "two missing"])
def test_the_books_of_each_source_are_told(
    session: Session, get: Callable[..., httpx.Response], seen: int, unaccounted: int
) -> None:
    session.add(SpoolAccount(writer="w", source="ci", seen=seen, delivered=5, dropped={}))
    session.add(IngestCount(source="ci", outcome="stored", n=5))
    session.commit()
    page = get("/admin/capture").text
    tone = "bad" if unaccounted else "good"
    assert f'<div class="{tone}"><b>{unaccounted}</b><span>unaccounted for</span></div>' in page
    assert "ci" in page


def test_the_service_runs_no_script_of_another_host() -> None:
    from flywheel.app import create_app

    assert not {"/docs", "/redoc"} & {getattr(r, "path", "") for r in create_app().routes}
