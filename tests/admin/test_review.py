"""The review queue by its pages: each verdict, who may, who was faster, what is kept of it."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from httpx import ASGITransport
from review_rows import dataset, example, examples, item, pair
from sqlalchemy import delete, event, select
from sqlmodel import Session, col

from admin.access import sessions
from admin.pages import create_admin_app
from admin.review import plan_of
from admin.reviewing import QUICK_REASONS, Said
from admin.tables import AuditEntry
from curation.review.said import is_swapped
from curation.review.samples import ShownSample, add_samples
from curation.tables import Example, ReviewDraft, ReviewItem, ReviewLabel
from foundation.database import get_engine
from foundation.errors import BadInput
from foundation.ids import new_id

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}</textarea>\u202e"
PARTIAL = {"HX-Request-Type": "partial", "HX-Request": "true"}


class Browser:
    """A signed-in person who sends forms; `part` asks as the script of the card does."""

    def __init__(self, token: str) -> None:
        app = FastAPI()
        app.mount("/admin", create_admin_app())
        self.transport = ASGITransport(app, raise_app_exceptions=False)
        self.cookies = {sessions.COOKIE: token}

    def ask(
        self,
        path: str,
        form: Mapping[str, Any] | None = None,
        *,
        part: bool = True,
        method: str | None = None,
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self.transport, base_url="http://wheel", cookies=self.cookies
            ) as client:
                headers = {"Sec-Fetch-Site": "same-origin", **(PARTIAL if part else {})}
                verb = method or ("GET" if form is None else "POST")
                data = None if form is None else dict(form)
                return await client.request(verb, f"/admin{path}", data=data, headers=headers)

        return asyncio.run(send())

    def say(self, one: ReviewItem | UUID, **form: Any) -> httpx.Response:
        identifier = one if isinstance(one, UUID) else one.id
        return self.ask(f"/review/items/{identifier}/label", form)


@pytest.fixture
def ines(session: Session, signed_in: Callable[..., str]) -> Browser:
    return Browser(signed_in(session, "reviewer", "ines"))


@pytest.fixture
def tom(session: Session, signed_in: Callable[..., str]) -> Browser:
    return Browser(signed_in(session, "reviewer", "tom"))


def queued(session: Session, answer: str = "x = 1", **columns: Any) -> ReviewItem:
    made = ReviewItem(
        **{
            "role": "coder",
            "subject_id": example(session, answer, **columns.pop("of", {})).id,
            "reason": "random",
            **columns,
        }
    )
    session.add(made)
    session.commit()
    return made


def said(session: Session) -> list[ReviewLabel]:
    session.rollback()
    return list(session.scalars(select(ReviewLabel).order_by(col(ReviewLabel.created_at))))


def shown(answer: httpx.Response) -> str:
    found = re.search(r'data-item="([^"]+)"', answer.text)
    return found[1] if found else ""


def test_start_leases_the_first_card_and_leads_to_it(session: Session, ines: Browser) -> None:
    first = queued(session, priority=0.9)
    queued(session, "y = 2", priority=0.1)
    answer = ines.ask("/review/next?role=coder", {}, part=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/admin/review/items/{first.id}?role=coder"
    session.refresh(first)
    assert first.leased_by == "ines"
    page = ines.ask(f"/review/items/{first.id}", part=False)
    assert "Is this answer good?" in page.text
    assert "yours for" in page.text


def test_looking_leases_nothing(session: Session, ines: Browser) -> None:
    one = queued(session)
    assert ines.ask(f"/review/items/{one.id}").status_code == 200
    assert ines.ask("/review/next").headers["location"] == "/admin/review"
    session.refresh(one)
    assert one.leased_by is None


@pytest.mark.parametrize(
    ("form", "action", "value", "reason"),
    [
        ({"action": "accept"}, "accept", {}, None),
        ({"action": "reject", "reason": " Wrong units. "}, "reject", {}, "Wrong units."),
        ({"quick": QUICK_REASONS[0]}, "reject", {}, QUICK_REASONS[0]),
        ({"rate": "4"}, "rate", {"rating": 4}, None),
        (
            {"action": "accept", "task_type": "map", "shown_task_type": "", "difficulty": "hard"},
            "accept",
            {"task_type": "map", "difficulty": "hard"},
            None,
        ),
        ({"action": "relabel", "difficulty": "easy"}, "relabel", {"difficulty": "easy"}, None),
        ({"action": "skip"}, "skip", {}, None),
    ],
    ids=["accept", "reject", "quick", "rate", "accept with labels", "relabel", "skip"],
)
def test_each_verdict_is_kept_and_answered_with_the_next_card(
    session: Session,
    ines: Browser,
    form: dict[str, str],
    action: str,
    value: dict[str, Any],
    reason: str | None,
) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    answer = ines.say(one, **form)
    assert answer.status_code == 200
    assert shown(answer) == str(other.id)
    assert answer.text.lstrip().startswith("<article")
    (label,) = said(session)
    assert (label.reviewer, label.action, label.value, label.reason) == (
        *("ines", action),
        *(value, reason),
    )
    entry = session.scalars(select(AuditEntry).where(col(AuditEntry.actor) == "ines")).one()
    assert (entry.action, entry.subject_id) == (f"review.{action}", str(one.id))


def test_an_edit_keeps_the_answer_as_it_was_typed(session: Session, ines: Browser) -> None:
    one = queued(session, "def f():\n    return 1\n")
    assert 'id="answer"' in ines.ask(f"/review/items/{one.id}").text
    ines.say(one, action="edit", answer="def f():\r\n    return 2\r\n")
    (label,) = said(session)
    assert label.value["answer"] == "def f():\n    return 2\n"
    assert "+    return 2" in label.value["diff"]


def test_a_label_is_kept_once_however_often_its_key_is_pressed(
    session: Session, ines: Browser
) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    ines.say(one, action="accept")
    again = ines.say(one, action="accept")
    assert again.status_code == 200
    assert "it counts once" in again.text
    assert shown(again) == str(other.id)
    assert len(said(session)) == 1
    other_word = ines.say(one, action="reject", reason="no")
    assert "not taken" in other_word.text
    assert len(said(session)) == 1


def test_without_a_script_a_verdict_leads_to_the_next_page(session: Session, ines: Browser) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    answer = ines.ask(
        f"/review/items/{one.id}/label?kind=example", {"action": "accept"}, part=False
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/admin/review/items/{other.id}?kind=example&said=accept"
    page = ines.ask(answer.headers["location"].removeprefix("/admin"), part=False)
    assert "Accepted." in page.text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"action": "reject"}, "Reason of a rejection"),
        ({"action": "edit", "answer": "x = 1"}, "The answer was not changed"),
        ({"action": "dance", "reason": "kept <b>"}, "Review action"),
        ({"rate": "9", "reason": "kept <b>"}, "Rating"),
        ({}, "Review action"),
    ],
    ids=["no reason", "no change", "no action", "no rating", "nothing"],
)
def test_what_is_missing_is_said_and_nothing_typed_is_lost(
    session: Session, ines: Browser, form: dict[str, str], words: str
) -> None:
    one = queued(session)
    answer = ines.say(one, **form)
    assert answer.status_code == 422
    assert shown(answer) == str(one.id)
    assert words in answer.text
    assert ("kept &lt;b&gt;" in answer.text) == ("reason" in form)
    assert said(session) == []


def test_who_was_too_slow_gets_what_they_typed_back_and_the_next_card(
    session: Session, ines: Browser, tom: Browser
) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    assert shown(ines.ask("/review/next", {})) == str(one.id)
    session.refresh(one)
    one.leased_until = one.created_at  # it ran out
    session.commit()
    assert shown(tom.ask("/review/next", {})) == str(one.id)
    lost = ines.say(one, action="edit", answer="mine <b>", reason="and why")
    assert lost.status_code == 200
    assert "leased to somebody else" in lost.text
    assert "mine &lt;b&gt;" in lost.text
    assert "and why" in lost.text
    assert shown(lost) == str(other.id)
    assert said(session) == []
    assert ines.ask(f"/review/items/{one.id}/draft", {"reason": "x"}).status_code == 409


def test_who_was_too_slow_and_typed_nothing_is_given_nothing_to_copy(
    session: Session, ines: Browser, tom: Browser
) -> None:
    one, _ = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    ines.ask("/review/next", {})
    session.refresh(one)
    one.leased_until = one.created_at
    session.commit()
    tom.ask("/review/next", {})
    example = session.get_one(Example, one.subject_id)
    lost = ines.say(one, action="accept", answer=example.answer)
    assert "leased to somebody else" in lost.text
    assert "What you typed" not in lost.text


def test_an_erased_card_leads_to_the_next(session: Session, ines: Browser) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    ines.ask("/review/next", {})
    session.execute(delete(Example).where(col(Example.id) == one.subject_id))
    session.commit()
    answer = ines.say(one, action="accept")
    assert "erased" in answer.text
    assert shown(answer) == str(other.id)
    assert ines.ask(f"/review/items/{one.id}").status_code == 404


def test_undo_brings_the_card_back_with_what_was_said(session: Session, ines: Browser) -> None:
    one = queued(session)
    queued(session, "y = 2")
    ines.say(one, action="reject", reason="Too long")
    back = ines.ask("/review/undo", {})
    assert shown(back) == str(one.id)
    assert "You had said" in back.text
    assert 'value="Too long"' in back.text
    (label,) = said(session)
    assert label.undone_at is not None
    assert ines.ask("/review/undo", {}).status_code == 404
    ines.say(one, action="accept")
    assert [each.action for each in said(session)] == ["reject", "accept"]


def test_one_of_the_last_labels_is_undone_by_name_but_only_ones_own(
    session: Session, ines: Browser, tom: Browser
) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2")
    ines.say(one, action="accept")
    ines.say(other, action="accept")
    first = said(session)[0]
    assert str(first.id) in ines.ask("/review", part=False).text
    assert tom.ask("/review/undo", {"label": str(first.id)}).status_code == 404
    assert shown(ines.ask("/review/undo", {"label": str(first.id)})) == str(one.id)


def test_a_draft_is_kept_restored_and_renews_the_lease(session: Session, ines: Browser) -> None:
    one = queued(session)
    ines.ask("/review/next", {})
    session.refresh(one)
    one.leased_until = one.created_at
    session.commit()
    kept = ines.ask(f"/review/items/{one.id}/draft", {"answer": "x = 1", "reason": "half a tho"})
    assert kept.json()["leased_until"] > one.created_at.isoformat()
    draft = session.scalars(select(ReviewDraft)).one()
    assert draft.content == {"reason": "half a tho"}  # the answer stands as it was
    page = ines.ask(f"/review/items/{one.id}").text
    assert "half a tho" in page
    assert "is back in its fields" in page
    ines.say(one, action="accept")
    session.rollback()
    assert session.scalars(select(ReviewDraft)).all() == []


def test_another_card_gives_the_first_back(session: Session, ines: Browser, tom: Browser) -> None:
    one, other = queued(session, priority=0.9), queued(session, "y = 2", priority=0.1)
    ines.ask("/review/next", {})
    assert shown(ines.ask("/review/next", {"leave": str(one.id)})) == str(other.id)
    session.refresh(one)
    assert one.leased_by is None
    held = session.scalars(select(ReviewItem).where(col(ReviewItem.leased_by) == "ines")).all()
    assert [each.id for each in held] == [other.id]  # never more than is shown
    assert shown(tom.ask("/review/next", {})) == str(one.id)


def test_a_second_reader_sees_no_signals_and_no_label(
    session: Session, ines: Browser, tom: Browser
) -> None:
    one = queued(session, n_wanted=2)
    ines.say(one, action="reject", reason="Secretly bad")
    page = tom.ask(f"/review/items/{one.id}").text
    assert "A second person judges this, too." in page
    assert "Secretly bad" not in page
    assert "What is known of it" not in page
    single = queued(session, "y = 2")
    assert "What is known of it" in tom.ask(f"/review/items/{single.id}").text


def test_answers_are_compared_blind_in_an_order_of_each_reviewers_own(
    session: Session, ines: Browser, tom: Browser
) -> None:
    names = ("ines", "tom")
    for n in range(40):
        made, _, _ = pair(session, f"good{n}", f"bad{n}")
        one = item(session, made.id, kind="pair")
        if is_swapped(one.id, names[0]) != is_swapped(one.id, names[1]):
            break
    session.commit()
    pages = [who.ask(f"/review/items/{one.id}").text for who in (ines, tom)]
    orders = [page.index(f"good{n}") < page.index(f"bad{n}") for page in pages]
    assert orders[0] != orders[1]
    for page in pages:
        assert not re.search("chosen|rejected|winner|outcome", page)
    ines.say(one, choice="first" if orders[0] else "second")
    (label,) = said(session)
    assert label.value["winner"] == str(made.winner_id)


def test_the_list_tells_nothing_of_compared_answers(session: Session, ines: Browser) -> None:
    made, _, _ = pair(session, "the good one", "the bad one")
    item(session, made.id, kind="pair")
    add_samples(
        session,
        "coder",
        [ShownSample(new_id(), new_id(), [{"role": "user", "content": "asked"}], "one", "two")],
    )
    session.commit()
    for path in ("/review/items", "/review/items?format=jsonl"):
        page = ines.ask(path, part=False).text
        assert "the good one" not in page
        assert "the bad one" not in page
    assert "asked" in ines.ask("/review/items", part=False).text


def test_a_likeness_is_two_examples_with_their_difference(session: Session, ines: Browser) -> None:
    one, other = example(session, "alpha = 1"), example(session, "alpha = 2")
    made = ReviewItem(
        role="coder",
        kind="likeness",
        subject_id=new_id(),
        other_id=other.id,
        detail={"first": str(one.id), "low": 1, "high": 2, "similarity": 0.97},
        reason="semantic",
    )
    session.add(made)
    session.commit()
    page = ines.ask(f"/review/items/{made.id}").text
    assert "Do these two say the same?" in page
    assert "<del>1</del>" in page
    answer = ines.say(made, action="reject")
    assert "Called different." in answer.text
    assert said(session)[0].action == "reject"


def test_the_difference_of_an_edit_is_shown_and_kept_nowhere(
    session: Session, ines: Browser
) -> None:
    one = queued(session, "return a + b")
    answer = ines.ask(f"/review/items/{one.id}/diff", {"answer": "return a - b"})
    assert "return a <del>+</del> b" in answer.text
    assert session.scalars(select(ReviewDraft)).all() == []
    assert session.scalars(select(AuditEntry).where(col(AuditEntry.actor) == "ines")).all() == []


def test_hostile_text_stays_text_everywhere(session: Session, ines: Browser) -> None:
    one = queued(
        session,
        f"{HOSTILE}\n```html\n{HOSTILE}\n```",
        of={
            "prompt": HOSTILE,
            "task_type": HOSTILE,
            "project": HOSTILE,
            "code_language": HOSTILE,
        },
        assigned_to="ines",
    )
    ines.ask(f"/review/items/{one.id}/draft", {"answer": HOSTILE, "reason": HOSTILE})
    for path in (f"/review/items/{one.id}", "/review", "/review/items"):
        page = ines.ask(path, part=False).text
        assert "<script>alert" not in page
        assert "<img" not in page.replace('<img src="/admin/static', "")
        # The text area alone holds it as written, since what stands there is saved again.
        assert "\u202e" not in re.sub(r"<textarea.*?</textarea>|<input[^>]*>", "", page, flags=re.S)
    assert "<script>" not in ines.say(one, action="reject", reason=HOSTILE).text


def test_an_empty_queue_says_what_to_do(session: Session, ines: Browser) -> None:
    front = ines.ask("/review", part=False).text
    assert "Nothing is in the queue" in front
    assert "Start reviewing" not in front
    answer = ines.ask("/review/next", {})
    assert answer.status_code == 200
    assert "The queue is worked off" in answer.text
    one = queued(session)
    done = ines.say(one, action="accept")
    assert "Nothing waits for you" in done.text
    assert "Accepted." in done.text  # and may still be undone


@pytest.mark.parametrize("path", ["/review/next", "/review/undo"])
def test_a_viewer_may_look_and_say_nothing(
    session: Session, signed_in: Callable[..., str], path: str
) -> None:
    vera = Browser(signed_in(session, "viewer", "vera"))
    one = queued(session)
    page = vera.ask(f"/review/items/{one.id}", part=False)
    assert page.status_code == 200
    assert 'class="bar"' not in page.text
    assert vera.ask(path, {}).status_code == 403
    for verb in ("label", "draft", "diff"):
        assert vera.ask(f"/review/items/{one.id}/{verb}", {"action": "accept"}).status_code == 403
    assert said(session) == []


def test_operators_fill_assign_and_withdraw(
    session: Session, ines: Browser, signed_in: Callable[..., str]
) -> None:
    olga = Browser(signed_in(session, "operator", "olga"))
    dataset(session, examples(session, 20))
    session.commit()
    filled = olga.ask("/review/fill", {"role": "coder", "random_share": "0.5"})
    assert re.fullmatch(r"/admin/review\?added=[1-9]\d*", filled.headers["location"])
    items = session.scalars(select(ReviewItem)).all()
    assert len(items) >= 10
    chosen = [str(one.id) for one in items[:2]]
    given = olga.ask("/review/items/assign?role=coder", {"items": chosen, "reviewer": "ines"})
    assert "2+assigned+to+ines" in given.headers["location"]
    assert ines.ask("/review/items?assigned=ines", part=False).text.count('class="texts"') == 2
    taken = olga.ask("/review/items/withdraw", {"items": chosen})
    assert "2+withdrawn" in taken.headers["location"]
    session.rollback()
    session.expire_all()
    assert {one.status for one in items[:2]} == {"withdrawn"}
    assert {one.assigned_to for one in items[:2]} == {"ines"}
    for path, form in (
        ("/review/fill", {"role": "coder"}),
        ("/review/items/assign", {"items": chosen}),
        ("/review/items/withdraw", {"items": chosen}),
    ):
        assert ines.ask(path, form).status_code == 403


@pytest.mark.parametrize(
    "given",
    [{"random_share": "2"}, {"at_most": "many"}, {"at_most": "0"}, {"double_share": "nan"}],
    ids=["above one", "no number", "none", "nan"],
)
def test_a_plan_that_makes_no_sense_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        plan_of(given)


def test_a_plan_keeps_what_is_not_said() -> None:
    assert plan_of({"random_share": "0.25", "at_most": ""}).random_share == 0.25
    assert plan_of({}).at_most == 200


@pytest.mark.parametrize(
    "query",
    [
        *("role=coder", "kind=pair", "reason=random", "status=open", "assigned=nobody"),
        *("assigned=ines", "leased=now", "labelled_by=ines", "sort=-priority", "sort=n_labels"),
    ],
)
def test_the_list_is_filtered_sorted_and_exported(
    session: Session, ines: Browser, query: str
) -> None:
    one = queued(session, "the first", priority=0.2, assigned_to="ines")
    queued(session, "the second", priority=0.7)
    ines.say(one, action="accept")
    ines.ask("/review/next", {})
    page = ines.ask(f"/review/items?{query}", part=False)
    assert page.status_code == 200
    narrow = {"kind=pair": 0, "status=open": 1, "assigned=nobody": 1, "assigned=ines": 1}
    narrow |= {"leased=now": 1, "labelled_by=ines": 1}
    assert page.text.count('class="texts"') == narrow.get(query, 2)
    exported = ines.ask(f"/review/items?{query}&format=csv", part=False)
    assert len(exported.text.strip().splitlines()) == narrow.get(query, 2) + 1


def count_queries(do: Callable[[], Any]) -> int:
    n = 0

    def count(*_: Any) -> None:
        nonlocal n
        n += 1

    engine = get_engine()
    event.listen(engine, "before_cursor_execute", count)
    try:
        do()
    finally:
        event.remove(engine, "before_cursor_execute", count)
    return n


def test_queries_do_not_grow_with_the_queue(session: Session, ines: Browser) -> None:
    first = [queued(session, f"n = {n}") for n in range(3)]
    few = [
        count_queries(lambda: ines.say(first[0], action="accept")),
        count_queries(lambda: ines.ask("/review", part=False)),
        count_queries(lambda: ines.ask("/review/items", part=False)),
    ]
    for n in range(30):
        queued(session, f"more = {n}")
    many = [
        count_queries(lambda: ines.say(first[1], action="accept")),
        count_queries(lambda: ines.ask("/review", part=False)),
        count_queries(lambda: ines.ask("/review/items", part=False)),
    ]
    assert many == few
    assert few[0] <= 28
    assert max(few[1:]) <= 14


def test_what_a_button_means() -> None:
    assert Said(rate="3", action="accept").verb == "rate"
    assert Said(choice="tie").value() == {"choice": "tie"}
    assert Said(quick="It is wrong.", reason="x").why == "It is wrong."
    assert Said(action="accept", reason="not sent along").why is None
    same = Said(action="accept", task_type="map", shown_task_type="map")
    assert same.value() == {}
    assert same.typed() == {}


def test_pages_of_no_item_are_not_found(session: Session, ines: Browser) -> None:
    missing = new_id()
    assert ines.ask(f"/review/items/{missing}").status_code == 404
    assert ines.ask(f"/review/items/{missing}/draft", {}).status_code == 404
    assert ines.ask(f"/review/items/{missing}/diff", {}).status_code == 404
    assert "gone" in ines.say(missing, action="accept").text
