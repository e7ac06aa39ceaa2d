"""Episodes in time: lanes, totals, what caused what, and pages of a long one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlmodel import Session

from admin import episodes
from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.errors import NotFound
from foundation.ids import first_id_at, new_id
from foundation.tables import now

Get = Callable[..., httpx.Response]
AddCall = Callable[..., UUID]


def add(session: Session, add_call: AddCall, episode: UUID, n: int, **columns: Any) -> UUID:
    """Add the call of the `n`th second."""
    start = now().replace(microsecond=0) - timedelta(hours=1) + timedelta(seconds=n)
    given = {"text": "t", "started_at": start, "latency_ms": 500.0, **columns}
    return add_call(session, id=first_id_at(start), episode_id=episode, **given)


def test_an_episode_has_a_lane_for_each_role_and_its_sums(
    session: Session, add_call: AddCall, get: Get
) -> None:
    episode = new_id()
    tokens = {"gen_ai_usage_input_tokens": 100, "gen_ai_usage_output_tokens": 10}
    first = add(session, add_call, episode, 0, role="coordinator", cost_usd=0.5, **tokens)
    second = add(session, add_call, episode, 2, parent_id=first, cost_usd=0.25, **tokens)
    add(session, add_call, episode, 4, parent_id=second, role="tester", status="error")
    session.add(Feedback(episode_id=episode, kind="success", value=1.0))
    session.add(Feedback(interaction_id=second, kind="comment", text="well done"))
    session.commit()
    page = episodes.episode_page(session, episode)
    assert [lane.role for lane in page.timeline.lanes] == ["coordinator", "coder", "tester"]
    assert [step.depth for step in page.steps] == [0, 1, 2]
    assert [step.offset_s for step in page.steps] == [0, 2, 4]
    assert [one.text for one in page.steps[1].said] == ["well done"]
    assert page.worked is True
    totals = page.totals
    assert (totals.calls.n, totals.input_tokens, totals.output_tokens) == (3, 200, 20)
    assert (totals.cost_usd, totals.failed, totals.wall_s) == (0.75, 1, 4.5)
    assert [lane.bars[0].is_bad for lane in page.timeline.lanes] == [False, False, True]
    html = get(f"/admin/episodes/{episode}").text
    assert html.count("<rect") == 3
    assert "well done" in html


def test_bars_stay_inside_the_picture_and_are_wide_enough_to_see(
    session: Session, add_call: AddCall
) -> None:
    episode = new_id()
    for n, took in enumerate((0.0, None, 1.0, 3_600_000.0, 0.0)):
        add(session, add_call, episode, n * 900, latency_ms=took)
    session.commit()
    (lane,) = episodes.episode_page(session, episode).timeline.lanes
    for bar in lane.bars:
        assert bar.x >= 0
        assert bar.width >= episodes.LEAST_WIDTH
        assert bar.x + bar.width <= 100.001


def test_an_episode_of_one_moment_has_a_picture(session: Session, add_call: AddCall) -> None:
    episode = new_id()
    add(session, add_call, episode, 0, latency_ms=None)
    session.commit()
    page = episodes.episode_page(session, episode)
    assert page.timeline.lanes[0].bars[0].x == 0
    assert page.totals.wall_s == 0


def test_a_long_episode_is_shown_by_parts_in_order(
    session: Session, add_call: AddCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "AT_ONCE", 4)
    episode = new_id()
    ids = [add(session, add_call, episode, n) for n in range(10)]
    session.commit()
    seen: list[UUID] = []
    numbers: list[int] = []
    after: UUID | None = None
    while True:
        page = episodes.episode_page(session, episode, after)
        seen += [step.call.id for step in page.steps]
        numbers += [step.number for step in page.steps]
        assert page.totals.calls.n == 10
        assert page.is_later == (after is not None)
        if page.next is None:
            break
        after = page.next
    assert seen == ids
    assert numbers == list(range(1, 11))


def test_totals_of_a_very_long_episode_say_that_they_are_at_least_that(
    session: Session, add_call: AddCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "COUNTED", 3)
    episode = new_id()
    for n in range(5):
        add(session, add_call, episode, n)
    session.commit()
    totals = episodes.totals_of(session, episode)
    assert totals is not None
    assert (totals.calls.n, totals.calls.mark) == (3, "+")


def test_tools_that_were_called_are_named(session: Session) -> None:
    episode, identifier = new_id(), new_id()
    session.add(Interaction(id=identifier, role="coder", episode_id=episode))
    made = [{"function": {"name": "read_file", "arguments": "{}"}}, {"function": {}}, "odd"]
    session.add(
        InteractionPayload(
            id=identifier,
            request={"messages": "none"},
            response={"choices": [{"message": {"tool_calls": made}}]},
        )
    )
    session.commit()
    (step,) = episodes.episode_page(session, episode).steps
    assert step.tools == ["read_file"]


def test_parents_that_are_elsewhere_or_form_a_ring_do_no_harm() -> None:
    a, b = new_id(), new_id()
    ring = [Interaction(id=a, role="r", parent_id=b), Interaction(id=b, role="r", parent_id=a)]
    assert episodes.depths(ring) == [0, 1]
    deep = [Interaction(id=new_id(), role="r")]
    for _ in range(9):
        deep.append(Interaction(id=new_id(), role="r", parent_id=deep[-1].id))
    assert episodes.depths(deep) == [0, 1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert episodes.depths([Interaction(id=a, role="r", parent_id=a)]) == [0]


def test_hostile_text_and_unknown_episodes(
    session: Session, filled: Any, get: Get, hostile: str
) -> None:
    call = session.get_one(Interaction, filled.ids["interactions"])
    page = get(f"/admin/episodes/{call.episode_id}")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "\u202e" not in page.text
    with pytest.raises(NotFound):
        episodes.episode_page(session, new_id())
    assert get(f"/admin/episodes/{new_id()}").status_code == 404
    assert get("/admin/episodes/none").status_code == 404
    assert get(f"/admin/episodes/{call.episode_id}?after={call.id}").status_code in (200, 404)
