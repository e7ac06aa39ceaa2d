"""The arms of units in one process: asked for once however many calls wait, and never for long."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from router import arms as arms_module
from router import experiment as ab
from router.arms import Arms
from router.promote import initial
from router.tables import CONTROL, TREATMENT, Assignment, Experiment


@pytest.fixture
def running(session: Session, make_version) -> Experiment:
    control, treatment = make_version(), make_version()
    initial(session, "coder", control)
    found = ab.start(session, "coder", treatment, ab.PLANS["demo"], "ada")
    session.commit()
    return found


@pytest.fixture
def arms() -> Iterator[Arms]:
    made = Arms()
    yield made
    made.close()


def stored(session: Session) -> dict[str, str]:
    session.rollback()
    return {row.unit: row.arm for row in session.exec(select(Assignment)).all()}


def test_calls_that_begin_together_wait_for_one_assignment(
    session, running, arms, monkeypatch
) -> None:
    written: list[str] = []
    write = arms_module.arm_of_unit

    def counted(connection, experiment, unit, stratum):
        written.append(unit)
        return write(connection, experiment, unit, stratum)

    monkeypatch.setattr(arms_module, "arm_of_unit", counted)

    async def ask() -> list[str | None]:
        asked = [arms.of(running, f"unit-{n % 3}", "any") for n in range(30)]
        return await asyncio.gather(*asked, *[arms.of(running, "unit-0", "any")])

    given = asyncio.run(ask())
    assert sorted(written) == ["unit-0", "unit-1", "unit-2"]
    assert stored(session) == dict(zip(("unit-0", "unit-1", "unit-2"), given, strict=False))
    assert set(given) <= {CONTROL, TREATMENT}


def test_who_leaves_does_not_take_the_arm_along(session, running, arms) -> None:
    async def leave() -> str | None:
        first = asyncio.create_task(arms.of(running, "unit", "any"))
        second = asyncio.create_task(arms.of(running, "unit", "any"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(leave()) == stored(session)["unit"]


def test_a_database_that_does_not_answer_holds_no_call_for_long(
    session, running, arms, monkeypatch
) -> None:
    monkeypatch.setattr(arms_module, "LONGEST_S", 0.1)
    session.execute(text("LOCK TABLE assignment IN ACCESS EXCLUSIVE MODE"))

    async def ask() -> tuple[str | None, str | None]:
        early = await arms.of(running, "unit", "any")
        session.rollback()
        monkeypatch.setattr(arms_module, "LONGEST_S", 30.0)
        return early, await arms.of(running, "unit", "any")

    early, later = asyncio.run(ask())
    assert early is None
    assert later == stored(session)["unit"]


def test_the_oldest_are_forgotten_and_found_again(session, running, arms, monkeypatch) -> None:
    monkeypatch.setattr(arms_module, "MOST_KNOWN", 2)

    async def ask() -> list[str | None]:
        return [await arms.of(running, unit, "any") for unit in ("a", "b", "c", "a")]

    given = asyncio.run(ask())
    assert given[0] == given[3]
    assert len(arms.known) == 2
    assert len(stored(session)) == 3
