"""The log: what is found by which filter, how far a search came, and what people do to a call."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, select, text
from sqlmodel import Session, col

from admin import calls, erasing, interactions, log_rows, log_walk, to_review
from admin.access.sessions import COOKIE
from admin.listing import Asked
from admin.log_filters import Filters, as_stored
from admin.log_walk import Budget, walk
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from collector.tables import Feedback, IngestCount, Interaction, InteractionPayload
from curation.tables import Erasure, Example, ReviewItem
from foundation.database import get_engine
from foundation.errors import BadInput, NotFound
from foundation.ids import first_id_at, new_id
from foundation.settings import get_settings
from foundation.tables import DONE, Run, now
from trainer.tables import ModelVersion, TrainingRun

Get = Callable[..., httpx.Response]
AddCall = Callable[..., UUID]
OURS = {"origin": "http://wheel", "sec-fetch-site": "same-origin"}


def found(session: Session, **filters: str) -> list[UUID]:
    return [row.call.id for row in interactions.list_rows(session, Filters(**filters)).rows]


def ago(**time: float) -> UUID:
    return first_id_at(now() - timedelta(**time))


@pytest.fixture
def post(session: Session, signed_in: Callable[..., str]) -> Get:
    """Send a form as a page of ours does."""
    service = FastAPI()
    service.mount("/admin", create_admin_app())

    def send(path: str, by: str = "admin", **fields: str) -> httpx.Response:
        token = signed_in(session, by, f"a-{by}")

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(service, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://wheel", cookies={COOKIE: token}
            ) as client:
                return await client.post(f"/admin{path}", data=fields, headers=OURS)

        return asyncio.run(go())

    return send


# Filters


def test_each_filter_narrows_and_several_narrow_together(
    session: Session, add_call: AddCall
) -> None:
    version = ModelVersion(role="coder", number=1, name="coder-v1", kind="adapter", base_model="b")
    session.add(version)
    session.flush()
    experiment = new_id()
    plain = add_call(session, text="t", id=ago(days=3))
    odd = add_call(
        session,
        role="tester",
        text="t",
        id=ago(hours=2),
        task_type="unit",
        status="cut",
        source="gateway",
        project="p",
        arm="treatment",
        experiment_id=experiment,
        scrub={"email": 1},
        gen_ai_request_model="gpt-5",
        gen_ai_response_model="gpt-5-mini",
        model_version_id=version.id,
    )
    session.commit()
    assert found(session) == [odd, plain]
    for filters in (
        {"role": "tester"},
        {"task_type": "unit"},
        {"status": "cut"},
        {"source": "gateway"},
        {"project": "p"},
        {"arm": "treatment"},
        {"experiment": str(experiment)},
        {"scrubbed": "with"},
        {"model": "gpt-5"},
        {"model": "gpt-5-mini"},
        {"model": "coder-v1"},
        {"within": "day"},
        {"since": (now() - timedelta(days=1)).isoformat()},
    ):
        assert found(session, **filters) == [odd], filters
    assert found(session, scrubbed="without") == [plain]
    assert found(session, until=(now() - timedelta(days=1)).isoformat()) == [plain]
    assert found(session, role="tester", source="client") == []
    assert found(session, within="hour") == []


def test_an_outcome_is_the_first_word_on_the_call_else_on_its_episode(
    session: Session, add_call: AddCall
) -> None:
    episode, later = new_id(), now() + timedelta(hours=1)
    unknown = add_call(session, text="t")
    by_episode = add_call(session, text="t", episode_id=episode)
    doubted = add_call(session, text="t", episode_id=episode)
    session.add_all(
        [
            Feedback(episode_id=episode, kind="success", value=1.0),
            Feedback(interaction_id=doubted, kind="success", value=0.0),
            Feedback(interaction_id=doubted, kind="success", value=1.0, created_at=later),
            Feedback(interaction_id=unknown, kind="rating", value=5.0),
        ]
    )
    session.commit()
    assert found(session, outcome="worked") == [by_episode]
    assert found(session, outcome="failed") == [doubted]
    assert found(session, outcome="unknown") == [unknown]
    rows = interactions.list_rows(session, Filters()).rows
    assert {row.call.id: row.outcome for row in rows} == {
        unknown: None,
        by_episode: "worked",
        doubted: "failed",
    }


@pytest.mark.parametrize(
    "filters",
    [
        "outcome=perhaps",
        "experiment=none",
        "since=yesterday",
        "until=99999-01-01",
        "role=%00",
        f"q={'x' * 201}",
        "before=x",
        "sort=latency_ms&before=x",
        "sort=nothing",
    ],
)
def test_a_filter_that_none_could_have_is_refused(get: Get, filters: str) -> None:
    assert get(f"/admin/interactions?{filters}").status_code == 400


TEXTS = [
    ('say "hi"', 'please SAY "Hi" to all'),
    ("50%", "it is 50% done"),
    ("a_b", "x a_b y"),
    ("back\\slash", "c:\\back\\slash"),
    ("two\nlines", "one two\nlines three"),
    ("漢字", "前漢字後"),
]


@pytest.mark.parametrize("place", range(len(TEXTS)))
def test_a_text_is_found_as_it_is_written_and_marked(
    session: Session, add_call: AddCall, get: Get, place: int
) -> None:
    words, said = TEXTS[place]
    add_call(session, text="50 percent, axb, backslash, lines two")
    identifier = new_id()
    session.add(Interaction(id=identifier, role="coder"))
    session.flush()
    request = json.dumps({"messages": [{"role": "user", "content": said}]}, ensure_ascii=False)
    session.connection().exec_driver_sql(
        "INSERT INTO interaction_payload (id, request) VALUES (%s, %s)",
        (identifier, request),
    )
    session.commit()
    (row,) = interactions.list_rows(session, Filters(q=words)).rows
    assert row.call.id == identifier
    assert row.hit is not None
    assert row.hit.found.lower() == words.lower()
    assert row.hit.where == "asked"
    assert "<mark>" in get(f"/admin/interactions?q={words[:2]}").text


def test_a_hit_in_an_answer_is_said_to_be_one_and_hostile_text_stays_text(
    session: Session, filled: Any, get: Get
) -> None:
    page = get("/admin/interactions?q=alert(1)").text
    assert "<mark>alert(1)</mark>" in page
    assert "<script>alert" not in page
    (row, *_) = interactions.list_rows(session, Filters(q="ALERT(1)")).rows
    assert row.hit is not None
    assert (row.hit.where, row.hit.found) == ("answered", "alert(1)")


def test_pieces_of_json_read_as_they_were_written() -> None:
    assert log_rows.unescaped(r"a\nb \"c\" \\ \u00e9 \ud83c \u12") == 'a\nb "c" \\ é \ufffd \\u12'
    assert as_stored('a"b\n') == 'a\\"b\\n'
    with pytest.raises(BadInput, match="text"):
        as_stored("\ud800")


# How far it was looked


def rare(session: Session, add_call: AddCall, n: int = 60) -> UUID:
    """Add `n` calls, of which the oldest alone is of another project."""
    wanted = add_call(session, text="t", id=ago(minutes=n + 1), project="rare")
    for place in range(n):
        add_call(session, text="t", id=ago(minutes=place + 1))
    session.commit()
    return wanted


def test_a_walk_stops_when_its_budget_is_spent_and_goes_on_from_there(
    session: Session, add_call: AddCall
) -> None:
    wanted = rare(session, add_call)
    filters, budget = Filters(project="rare"), Budget(calls=25, seconds=60)
    first = walk(session, filters, None, 5, budget)
    assert (first.ids, first.n_looked, first.ended) == ([], 25, False)
    assert first.reached == pytest.approx(now() - timedelta(minutes=25), abs=timedelta(seconds=50))
    second = walk(session, filters, first.until, 5, budget)
    assert (second.ids, second.n_looked) == ([], 25)
    third = walk(session, filters, second.until, 5, budget)
    assert (third.ids, third.n_looked, third.ended) == ([wanted], 11, True)


def test_a_walk_of_no_time_still_goes_on(session: Session, add_call: AddCall) -> None:
    wanted, at = rare(session, add_call, 20), None
    seen: list[UUID] = []
    for _ in range(20):
        walked = walk(session, Filters(project="rare"), at, 5, Budget(calls=4, seconds=0))
        seen += walked.ids
        if walked.ended:
            break
        assert walked.n_looked, "it never ends otherwise"
        at = walked.until
    assert seen == [wanted]


def test_a_walk_ends_at_the_time_asked_for(session: Session, add_call: AddCall) -> None:
    rare(session, add_call)
    since = (now() - timedelta(minutes=10)).isoformat()
    walked = walk(session, Filters(project="rare", since=since), None, 5)
    assert (walked.ids, walked.ended) == ([], True)
    assert walked.n_looked in (9, 10)


def test_a_page_says_how_far_it_searched_and_goes_on_until_something_is_found(
    session: Session, add_call: AddCall, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = rare(session, add_call)
    small = Budget(calls=25, seconds=60)
    monkeypatch.setattr(
        interactions, "walk", lambda s, f, b, n, budget=small: log_walk.walk(s, f, b, n, small)
    )
    page = get("/admin/interactions?project=rare").text
    assert "Nothing found yet." in page
    assert re.search(r"Searched back to .*25 min ago.*, 25 calls\.", page)
    assert "load delay" not in page, "nobody asked it to go on"
    steps = 0
    while f'href="/admin/interactions/{wanted}"' not in page:
        further = re.search(r'hx-get="(/admin/interactions\?[^"]*before=[^"]*)"', page)
        assert further, page
        page = get(further.group(1).replace("&amp;", "&"), **{"HX-Request-Type": "partial"}).text
        assert "<html" not in page
        steps += 1
        if steps == 1:
            assert 'hx-trigger="load delay' in page
            assert "50 calls" in page
            assert ">Stop</a>" in page
    assert steps == 2
    assert "searched" not in page, "the log ended"


def test_pages_of_a_filter_follow_one_another(session: Session, add_call: AddCall) -> None:
    expected = [
        add_call(session, text="t", id=ago(minutes=n + 1), project="pq"[n % 2]) for n in range(200)
    ][::2]
    session.commit()
    seen: list[UUID] = []
    before: str = ""
    while True:
        table = interactions.list_rows(session, Filters(project="p"), Asked("", before, ""))
        seen += [row.call.id for row in table.rows]
        if table.older is None:
            break
        assert table.older["project"] == "p"
        before = table.older["before"]
    assert seen == expected
    assert table.searched is None


SORTS = ["started_at", "role", "latency_ms", "input_tokens", "output_tokens", "cost_usd"]


@pytest.mark.parametrize("name", SORTS)
def test_each_sort_works_within_each_filter_and_pages(
    session: Session, add_call: AddCall, name: str
) -> None:
    ids = [
        add_call(
            session,
            text="find me" if n % 2 else "t",
            role=["coder", "tester"][n % 2],
            latency_ms=None if n % 7 == 0 else n % 5,
            cost_usd=n % 3,
            gen_ai_usage_input_tokens=n % 4,
            gen_ai_usage_output_tokens=n,
            started_at=now() - timedelta(hours=n % 6),
        )
        for n in range(90)
    ]
    session.commit()
    for filters in (Filters(), Filters(role="tester"), Filters(q="find me")):
        seen: list[UUID] = []
        before = ""
        while True:
            table = interactions.list_rows(session, filters, Asked(f"-{name}", before, ""))
            seen += [row.call.id for row in table.rows]
            if table.older is None:
                break
            before = table.older["before"]
        assert len(seen) == len(set(seen)) == (90 if not filters.query else 45)
        assert set(seen) <= set(ids)


def test_an_order_over_part_of_the_log_says_so(
    session: Session, add_call: AddCall, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare(session, add_call)
    small = Budget(calls=25, seconds=60)
    monkeypatch.setattr(
        interactions, "walk", lambda s, f, b, n, budget=small: log_walk.walk(s, f, b, n, small)
    )
    table = interactions.list_rows(session, Filters(project="default"), Asked("role", "", ""))
    assert (len(table.rows), table.window) == (25, 25)
    page = get("/admin/interactions?project=default&sort=role").text
    assert "looked back to" in page
    assert "Sorted: the newest 25 rows that fit." in page


@pytest.mark.parametrize("sort", ["", "&sort=-cost_usd"])
def test_an_export_has_all_that_fit_though_they_are_rare(
    session: Session, add_call: AddCall, get: Get, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    wanted = rare(session, add_call)
    monkeypatch.setattr(interactions, "EXPORT_BUDGET", Budget(calls=1_000 if sort else 25))
    answer = get(f"/admin/interactions?project=rare&format=csv{sort}")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["id"] == str(wanted)
    lines = get(f"/admin/interactions?format=jsonl{sort}").text.splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 61


def test_a_list_asks_few_queries_however_many_rows(session: Session, add_call: AddCall) -> None:
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(given[2])

    counts = []
    for n in (1, 30):
        for _ in range(n):
            add_call(session, text="t", episode_id=new_id(), model_version_id=new_id())
        session.commit()
        asked.clear()
        event.listen(get_engine(), "before_cursor_execute", note)
        interactions.list_rows(session, Filters())
        event.remove(get_engine(), "before_cursor_execute", note)
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 6


# Going to an id


def test_every_name_of_a_call_leads_to_it(
    session: Session, add_call: AddCall, get: Get, filled: Any
) -> None:
    episode = new_id()
    add_call(session, text="t", key="pr-12", project="old")
    call = add_call(session, text="t", key="pr-12", gen_ai_response_id="resp_1", episode_id=episode)
    example = session.scalars(select(Example).where(col(Example.status) == "kept")).first()
    assert example is not None
    session.commit()
    for name, path in (
        (str(call), f"interactions/{call}"),
        (f"  {str(call).upper()} ", f"interactions/{call}"),
        ("pr-12", f"interactions/{call}"),
        ("resp_1", f"interactions/{call}"),
        (str(episode), f"episodes/{episode}"),
        (str(example.id), f"interactions/{example.interaction_id}"),
    ):
        answer = get(f"/admin/interactions/find?id={name}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/admin/{path}"), name
    for name in ("", "nobody", str(new_id()), "%00", "<script>"):
        assert get(f"/admin/interactions/find?id={name}").status_code == 404, name


# One call


def test_a_call_shows_its_tools_results_and_reasoning(
    session: Session, add_call: AddCall, get: Get
) -> None:
    episode = new_id()
    asked = [{"role": "user", "content": "go"}]
    made = [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "x"}'}}
    ]
    first, second = new_id(), new_id()
    told = [*asked, {"role": "assistant", "tool_calls": made}]
    told.append({"role": "tool", "tool_call_id": "c1", "content": "saw a zebra"})
    answers = {
        first: {"role": "assistant", "tool_calls": made, "reasoning_content": "I think so."},
        second: {"role": "assistant", "content": "done"},
    }
    for identifier, prompt in ((first, asked), (second, told)):
        session.add(Interaction(id=identifier, role="coder", episode_id=episode))
        session.add(
            InteractionPayload(
                id=identifier,
                request={"messages": prompt},
                response={
                    "choices": [{"message": answers[identifier]}, {"message": {"content": "or"}}]
                },
            )
        )
    session.commit()
    page = calls.detail(session, first)
    assert [call.name for call in page.answer.calls] == ["look"]
    assert [result.name for result in page.results] == ["look"]
    assert page.reasoning is not None
    assert len(page.others) == 1
    assert page.neighbours.previous is None
    assert page.neighbours.next is not None
    html = get(f"/admin/interactions/{first}").text
    assert "saw a zebra" in html
    assert "I think so." in html
    assert f'data-step="next" rel="next" href="/admin/interactions/{second}"' in html
    assert "result of look" in get(f"/admin/interactions/{second}").text


def test_the_neighbours_of_a_call_deep_in_an_episode_are_its_neighbours(
    session: Session, add_call: AddCall
) -> None:
    episode = new_id()
    ids = [add_call(session, text="t", episode_id=episode) for _ in range(90)]
    session.commit()
    call = session.get_one(Interaction, ids[70])
    around = calls.neighbours_of(session, call)
    assert [one.id for one in around.calls] == ids[40:]
    assert around.previous is not None
    assert around.next is not None
    assert (around.previous.id, around.next.id) == (ids[69], ids[71])


def test_a_call_says_in_words_whom_it_taught_and_why_not(
    session: Session, filled: Any, get: Get, hostile: str
) -> None:
    page = get(f"/admin/interactions/{filled.ids['interactions']}").text
    assert "This call taught <b>coder-v1" in page
    assert "which was measured" in page
    assert "which came into service" in page
    dropped = session.scalars(select(Example).where(col(Example.status) == "dropped")).one()
    session.add(Interaction(id=dropped.interaction_id, role="coder"))
    session.commit()
    (made,) = calls.lineage_of(session, dropped.interaction_id).made
    assert made.why
    assert made.means
    assert (
        made.means.split(",")[0].split("<")[0]
        in get(f"/admin/interactions/{dropped.interaction_id}").text
    )


# Feedback in place


def said(session: Session) -> list[Feedback]:
    session.expire_all()
    return list(session.scalars(select(Feedback).order_by(col(Feedback.created_at))))


def test_a_reviewer_says_it_once_however_often_the_button_is_pressed(
    session: Session, add_call: AddCall, post: Get
) -> None:
    call = add_call(session, text="t", episode_id=new_id())
    session.commit()
    form = {"said": "success:1", "statement": str(new_id())}
    for _ in range(2):
        answer = post(f"/interactions/{call}/feedback", by="reviewer", **form)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/admin/interactions/{call}#feedback"
    (one,) = said(session)
    assert (one.kind, one.value, one.source, one.actor) == ("success", 1.0, "human", "a-reviewer")
    assert one.interaction_id == call
    post(f"/interactions/{call}/feedback", by="reviewer", **{**form, "said": "success:0"})
    assert [one.value for one in said(session)] == [1.0, 0.0], "another word is another statement"
    counts = {row.outcome: row.n for row in session.scalars(select(IngestCount))}
    assert counts == {"stored": 2, "duplicate": 1}


def test_what_is_written_is_scrubbed_and_the_audit_log_does_not_repeat_it(
    session: Session, add_call: AddCall, post: Get, get: Get
) -> None:
    call = add_call(session, text="def f(): pass")
    session.commit()
    secret = "mail ada.lovelace@example.org about it"
    post(f"/interactions/{call}/feedback", said="comment", text=secret, statement=str(new_id()))
    post(
        f"/interactions/{call}/feedback",
        said="correction",
        text="def f():\r\n    return 1\r\n",
        statement=str(new_id()),
    )
    comment, correction = said(session)
    assert "ada.lovelace" not in (comment.text or "")
    assert correction.text == "def f():\n    return 1"
    entries = session.scalars(select(AuditEntry)).all()
    assert [entry.action for entry in entries] == ["feedback.add", "feedback.add"]
    assert "lovelace" not in json.dumps([entry.after for entry in entries])
    assert 'class="diff"' in get(f"/admin/interactions/{call}").text


def test_an_episode_as_a_whole_can_be_spoken_of(
    session: Session, add_call: AddCall, post: Get
) -> None:
    episode = new_id()
    call, alone = add_call(session, text="t", episode_id=episode), add_call(session, text="t")
    session.commit()
    form = {"said": "rating:4", "about": "episode", "statement": str(new_id())}
    post(f"/interactions/{call}/feedback", **form)
    (one,) = said(session)
    assert (one.interaction_id, one.episode_id, one.value) == (None, episode, 4.0)
    assert post(f"/interactions/{alone}/feedback", **form).status_code == 400
    assert len(said(session)) == 1


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"said": "rating:6"}, 400),
        ({"said": "rating:many"}, 400),
        ({"said": "rating:nan"}, 400),
        ({"said": "comment", "text": "  \n"}, 400),
        ({"said": "applause"}, 400),
        ({"said": "correction", "text": "x", "about": "episode"}, 400),
        ({"said": "success:1", "about": "world"}, 422),
        ({"said": "success:1", "statement": "x"}, 422),
    ],
)
def test_what_says_nothing_is_refused_and_kept_nowhere(
    session: Session, add_call: AddCall, post: Get, form: dict[str, str], status: int
) -> None:
    call = add_call(session, text="t", episode_id=new_id())
    session.commit()
    answer = post(f"/interactions/{call}/feedback", **{"statement": str(new_id()), **form})
    assert answer.status_code == status
    assert said(session) == []
    assert session.scalars(select(AuditEntry)).all() == []


CHANGES = [
    ("feedback", "viewer", {"said": "success:1", "statement": str(UUID(int=1))}),
    ("review", "viewer", {}),
    ("erase", "operator", {"scope": "interaction", "word": "ERASE", "reason": "r"}),
]


@pytest.mark.parametrize("place", range(len(CHANGES)))
def test_who_may_not_is_refused_and_shown_no_button(
    session: Session,
    filled: Any,
    post: Get,
    getter: Callable[..., Get],
    signed_in: Callable[..., str],
    place: int,
) -> None:
    name, by, form = CHANGES[place]
    call = filled.ids["interactions"]
    assert post(f"/interactions/{call}/{name}", by=by, **form).status_code == 403
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    page = getter(service, token=signed_in(session, by, f"b-{by}"))(f"/admin/interactions/{call}")
    assert f"/interactions/{call}/{name}" not in page.text
    assert post(f"/interactions/{new_id()}/{name}", **form).status_code == 404


# Add to review


def test_the_examples_of_a_call_come_first_in_review(
    session: Session, filled: Any, post: Get, get: Get, add_call: AddCall
) -> None:
    call = filled.ids["interactions"]
    assert "Add to review</button>" in get(f"/admin/interactions/{call}").text
    for _ in range(2):
        assert post(f"/interactions/{call}/review", by="reviewer").status_code == 303
    (item,) = session.scalars(select(ReviewItem)).all()
    assert (item.reason, item.status) == ("filter", "open")
    page = get(f"/admin/interactions/{call}").text
    assert "waits in the review queue" in page
    assert "Add to review</button>" not in page
    bare = add_call(session, text="t")
    session.commit()
    assert "nothing has curated this call" in get(f"/admin/interactions/{bare}").text
    answer = post(f"/interactions/{bare}/review", by="reviewer")
    assert answer.status_code == 409
    assert "not curated yet" in answer.text


def test_all_that_fit_are_counted_then_added(
    session: Session, add_call: AddCall, post: Get, get: Get
) -> None:
    ids = [add_call(session, text="t", project="p") for _ in range(5)]
    add_call(session, text="t", project="q")
    words: dict[str, Any] = {"role": "coder", "prompt": [], "answer": "a", "norm_hash": "x"}
    examples = [Example(interaction_id=one, **words) for one in ids[:4]]
    examples.append(Example(interaction_id=ids[4], **words, variant="unverified"))
    session.add_all(examples)
    session.flush()
    for example, status in ((examples[0], "open"), (examples[1], "done")):
        session.add(ReviewItem(role="coder", subject_id=example.id, reason="random", status=status))
    session.commit()
    page = to_review.matching_page(session, Filters(project="p"))
    assert (page.n_calls, page.n_new, page.n_waiting, page.n_labelled, page.n_without) == (
        5,
        2,
        1,
        1,
        1,
    )
    html = get("/admin/interactions/to-review?project=p").text
    form = dict(re.findall(r'name="(newest|oldest)" value="([^"]+)"', html))
    add_call(session, text="t", project="p")
    session.commit()
    answer = post("/interactions/to-review?project=p", by="reviewer", **form)
    assert answer.status_code == 200
    assert "3 examples come first" in answer.text
    session.expire_all()
    items = session.scalars(select(ReviewItem)).all()
    assert sorted(item.status for item in items) == ["done", "open", "open", "open"]


# Erase


def test_erasing_shows_its_reach_then_does_it_and_says_what_went(
    session: Session, filled: Any, get: Get, post: Get, hostile: str
) -> None:
    call = filled.ids["interactions"]
    page = erasing.erase_page(session, call, "episode")
    assert (page.n_calls, page.n_examples, page.n_neighbours) == (2, 1, 0)
    assert page.n_feedback == 4
    assert filled.ids["datasets"] in [one.id for one in page.datasets]
    assert page.models
    alone = erasing.erase_page(session, call, "interaction")
    assert (alone.n_calls, alone.n_neighbours) == (1, 1)
    assert "Write ERASE to confirm" in get(f"/admin/interactions/{call}/erase").text

    form = {"scope": "interaction", "word": "erase", "reason": "asked for by its author"}
    assert post(f"/interactions/{call}/erase", **form).status_code == 400
    assert session.get(Interaction, call) is not None


def test_an_erased_call_is_gone_and_the_audit_log_has_no_text(
    session: Session, add_call: AddCall, get: Get, post: Get
) -> None:
    private, episode = "a very private matter", new_id()
    call = add_call(session, text=private, episode_id=episode)
    other = add_call(session, text="t", episode_id=episode)
    session.add(Feedback(interaction_id=call, kind="comment", text=private))
    session.commit()
    form = {"scope": "interaction", "word": "ERASE", "reason": "asked for by its author"}
    answer = post(f"/interactions/{call}/erase", **form)
    assert answer.status_code == 303, answer.text
    session.expire_all()
    assert session.get(Interaction, call) is None
    assert session.get(InteractionPayload, call) is None
    assert said(session) == []
    (erasure,) = session.scalars(select(Erasure)).all()
    assert answer.headers["location"] == f"/admin/interactions/erased/{erasure.id}"
    assert erasure.reason == "asked for by its author"
    (entry,) = session.scalars(select(AuditEntry)).all()
    kept = json.dumps([entry.before, entry.after, entry.subject_id])
    assert private not in kept
    assert str(call) not in kept, "its id is not kept either"
    page = get(answer.headers["location"]).text
    assert "asked for by its author" in page
    assert "1 other calls of the episode stayed" in page
    assert get(f"/admin/interactions/{call}").status_code == 404
    assert post(f"/interactions/{call}/erase", **form).status_code == 404

    assert post(f"/interactions/{other}/erase", **{**form, "scope": "episode"}).status_code == 303
    assert session.scalars(select(Interaction)).all() == []


def test_an_erasure_takes_the_work_of_trainings_along_and_is_proven(
    session: Session,
    filled: Any,
    add_call: AddCall,
    get: Get,
    post: Get,
    visit: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = add_call(session, text="a text that is long enough to be looked for")
    erase = erasing.erase_everywhere

    def reached(*what: Any, **how: Any) -> Erasure:
        account = erase(*what, **how)
        account.dataset_ids = [str(filled.ids["datasets"])]  # whose files are not there
        return account

    monkeypatch.setattr(erasing, "erase_everywhere", reached)
    training = session.scalars(select(TrainingRun)).one()
    training.dataset_id = filled.ids["datasets"]
    session.get_one(Run, training.run_id).status = DONE
    session.commit()
    work = get_settings().home.absolute() / "work" / "training" / str(training.id)
    work.mkdir(parents=True)
    form = {"scope": "interaction", "word": "ERASE", "reason": "asked for by its author"}
    answer = post(f"/interactions/{call}/erase", **form)
    assert answer.status_code == 303, answer.text
    assert not work.exists()
    address = answer.headers["location"]
    assert "Every table was searched" in get(address).text
    told = get(f"{address}/certificate.json")
    assert told.headers["content-disposition"].startswith("attachment; filename=")
    assert told.json()["verified"]["searched_for"] > 0
    assert told.json()["verified"]["remaining"] is not None
    assert str(call) not in told.text
    operator = visit("operator")
    assert operator.get(f"{address.removeprefix('/admin')}/certificate.json").status_code == 403


def test_a_search_that_takes_too_long_is_said_to_be_undone(
    session: Session, add_call: AddCall, get: Get, post: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = add_call(session, text="a text that is long enough to be looked for")
    session.commit()

    def slow(session: Session, _: object) -> None:
        session.execute(text("SELECT pg_sleep(5)"))

    monkeypatch.setattr("router.erase_proof.search", slow)
    monkeypatch.setattr(erasing, "SEARCH_MS", 20)
    form = {"scope": "interaction", "word": "ERASE", "reason": "r"}
    answer = post(f"/interactions/{call}/erase", **form)
    assert answer.status_code == 303, answer.text
    assert "Not searched for what is left" in get(answer.headers["location"]).text
    told = get(f"{answer.headers['location']}/certificate.json").json()
    assert (told["verified"]["searched_for"], told["verified"]["remaining"]) == (0, None)


def test_an_erasure_waits_for_no_build_for_ever(
    session: Session, add_call: AddCall, post: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = add_call(session, text="t")
    session.commit()
    monkeypatch.setattr(erasing, "LOCK_MS", 50)
    form = {"scope": "interaction", "word": "ERASE", "reason": "r"}
    with get_engine().begin() as building:
        building.execute(text("LOCK TABLE curation_chunk IN ROW EXCLUSIVE MODE"))
        answer = post(f"/interactions/{call}/erase", **form)
    assert answer.status_code == 409
    assert "Nothing was erased" in answer.text
    session.expire_all()
    assert session.get(Interaction, call) is not None


def test_nothing_can_be_done_to_what_is_not_there(session: Session, get: Get) -> None:
    with pytest.raises(NotFound):
        calls.detail(session, new_id())
    for path in (f"{new_id()}/erase", f"erased/{new_id()}", str(new_id()), "to-review/x"):
        assert get(f"/admin/interactions/{path}").status_code == 404, path


def test_an_empty_log_says_how_to_send_the_first_call(get: Get) -> None:
    page = get("/admin/interactions").text
    assert "Nothing logged yet." in page
    assert "from collector.client import Flywheel" in page
    assert "No call matches." in get("/admin/interactions?role=tester").text
    assert get("/admin/interactions/to-review").status_code == 200
