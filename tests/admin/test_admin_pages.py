import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from admin import experiments, interactions, overview, rendering
from admin.pages import create_admin_app
from collector.tables import Feedback
from foundation import database
from foundation.ids import first_id_at, new_id
from foundation.tables import now

LISTS = [
    f"/admin/{noun}"
    for noun in (
        "",
        "interactions",
        "capture",
        "datasets",
        "runs",
        "models",
        "evaluations",
        "verdicts",
        "experiments",
        "roles",
        "roles/coder",
        "traffic",
        "emergency",
        "decisions",
        "open-runs",
        "review",
        "trainings",
        "audit",
        "system",
        "settings",
        "keys",
        "users",
        "me",
        "login",
    )
]


class Elements(HTMLParser):
    """Collects every element of a page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(page)
    return parser.found


@pytest.mark.parametrize("path", LISTS)
def test_every_list_answers_on_an_empty_database(get, path: str) -> None:
    assert get(path).status_code == 200


def test_an_empty_overview_says_how_to_begin(get) -> None:
    page = get("/admin/").text
    assert "Nothing logged yet" in page
    assert 'Flywheel("http://wheel", role="coder")' in page


def test_every_page_answers_with_safe_headers_and_no_way_for_hostile_text(get, filled) -> None:
    for path in [*LISTS, *filled.paths, f"/admin/datasets/{filled.ids['datasets']}?show=dropped"]:
        answer = get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'"), path
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "\u202e" not in answer.text, path
        for tag, attributes in elements(answer.text):
            assert not any(name.startswith("on") or name == "style" for name in attributes), path
            assert tag != "script" or (attributes["src"] or "").startswith("/admin/static/")
            assert tag != "img" or "/admin/static/" in (attributes["src"] or ""), path
            assert tag != "form" or attributes["method"] in ("get", "post")
            for name in ("href", "action", "hx-get"):
                assert (attributes.get(name) or "/admin/").startswith(("/admin/", "#main")), path


def test_a_card_is_a_page_of_its_own_that_runs_and_fetches_nothing(get, filled) -> None:
    answer = get(f"/admin/datasets/{filled.ids['datasets']}/card")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "\u202e" not in answer.text
    for tag, attributes in elements(answer.text):
        assert tag != "script"
        assert not {"src", "href", "onload"} & attributes.keys()


@pytest.mark.parametrize("noun", ["evaluations", "verdicts"])
def test_the_whole_report_is_a_page_of_its_own_that_is_linked(get, filled, noun: str) -> None:
    path = f"/admin/{noun}/{filled.ids[noun]}"
    page = get(path).text
    assert f'href="{path}/report"' in page
    assert "123.25" not in page, "the rate of each of hundreds of batches"
    answer = get(f"{path}/report")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "\u202e" not in answer.text
    assert not {"script", "img"} & {tag for tag, _ in elements(answer.text)}


def test_a_version_shows_its_measures(get, filled) -> None:
    page = get(f"/admin/datasets/{filled.ids['datasets']}").text
    assert "not met, target 80.0" in page
    assert "not measured: " in page


def test_hostile_text_is_shown_as_text(get, filled) -> None:
    page = get(f"/admin/interactions/{filled.ids['interactions']}").text
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "⟨U+202E⟩" in page
    assert "{{7*7}}" in page


def test_no_template_switches_escaping_off() -> None:
    templates = list((rendering.FOLDER / "templates").rglob("*.html"))
    assert len(templates) > 30
    for template in templates:
        source = template.read_text()
        assert not re.search(r"\|\s*safe|autoescape|style=|javascript:", source), template
        assert "<script>" not in source, template


def test_pages_read_in_a_transaction_that_postgresql_keeps_from_writing(session: Session) -> None:
    reading = rendering.reading_session(Request({"type": "http", "headers": []}))
    with pytest.raises(DBAPIError, match="read-only transaction"):
        next(reading).execute(text("DELETE FROM run"))
    reading.close()


def test_pages_change_nothing_without_a_form(get, filled) -> None:
    for path in [*LISTS, *filled.paths]:
        for method in ("PUT", "PATCH", "DELETE"):
            assert get(path, method).status_code == 405, (method, path)
        assert get(path, "POST").status_code in (405, 422), path


def test_links_follow_the_root_path(session: Session, filled, getter, signed_in) -> None:
    outer = FastAPI()
    outer.mount("/faces", create_admin_app())
    page = getter(outer, "/behind/proxy", signed_in(session))("/faces/interactions").text
    links = [a["href"] for tag, a in elements(page) if tag == "a" and a.get("href") != "#main"]
    assert links
    assert all(str(link).startswith("/behind/proxy/faces/") for link in links)


def test_older_rows_follow_without_gap_or_repeat(session: Session, get, add_call) -> None:
    expected = [
        add_call(session, text="t", id=first_id_at(now() - timedelta(minutes=n))) for n in range(95)
    ]
    session.commit()
    seen: list[str] = []
    path: str | None = "/admin/interactions?role=coder"
    while path:
        partial = {"HX-Request-Type": "partial"} if seen else {}
        page = get(path, **partial).text
        assert ("<html" in page) == (not seen)
        seen += re.findall(r'class="row" href="/admin/interactions/([0-9a-f-]{36})"', page)
        older = re.search(r'class="button" href="([^"]*before=[^"]*)"', page)
        path = older.group(1).replace("&amp;", "&") if older else None
    assert seen == [str(identifier) for identifier in expected]


def test_interactions_are_narrowed_by_each_filter(session: Session, add_call) -> None:
    old = add_call(session, text="t", id=first_id_at(now() - timedelta(days=3)), source="gateway")
    cut = add_call(session, role="tester", text="t", status="cut", task_type="unit")
    session.commit()

    def found(**filters: str) -> list[object]:
        rows = interactions.list_rows(session, interactions.Filters(**filters)).rows
        return [row.call.id for row in rows]

    assert found() == [cut, old]
    assert found(role="tester") == found(status="cut") == found(task_type="unit") == [cut]
    assert found(source="gateway") == [old]
    assert found(within="day") == [cut]
    assert found(within="week") == [cut, old]


def test_a_row_says_who_answered_and_whether_it_worked(session: Session, filled, add_call) -> None:
    unknown, episode = add_call(session, text="t"), new_id()
    of_episode = add_call(session, text="t", episode_id=episode)
    doubted = add_call(session, text="t", episode_id=episode)
    said = [
        Feedback(episode_id=episode, kind="success", value=1.0),
        Feedback(interaction_id=doubted, episode_id=episode, kind="success", value=0.0),
        Feedback(
            interaction_id=doubted, kind="success", value=1.0, created_at=now() + timedelta(hours=1)
        ),
    ]
    session.add_all(said)
    call = session.get_one(interactions.Interaction, doubted)
    call.model_version_id = filled.ids["models"]
    session.commit()
    rows = {r.call.id: r for r in interactions.list_rows(session, interactions.Filters()).rows}
    assert rows[unknown].worked is None
    assert rows[of_episode].worked is True
    assert rows[doubted].worked is False
    assert rows[filled.ids["interactions"]].worked is True
    assert rows[unknown].version is None
    assert (rows[doubted].version or "").startswith("coder-v1")


def test_a_rollback_shows_in_the_role_s_line(session: Session, get, filled) -> None:
    assert "rolled back" not in get("/admin/").text
    session.execute(text("UPDATE promotion SET kind = 'rollback'"))
    session.commit()
    assert "rolled back" in get("/admin/").text


def test_a_list_cuts_long_texts_in_the_database(session: Session, add_call) -> None:
    add_call(session, text="x" * 100_000)
    session.commit()
    row = interactions.list_rows(session, interactions.Filters()).rows[0]
    assert row.asked == row.answered == "x" * interactions.PREVIEW_CHARACTERS


def test_a_call_shows_where_it_went(session: Session, filled, hostile) -> None:
    page = interactions.detail(session, filled.ids["interactions"])
    assert [dataset.id for dataset in page.lineage.datasets] == [filled.ids["datasets"]]
    assert [model.id for model in page.lineage.models] == [filled.ids["models"]]
    assert len(page.episode) == 2
    assert [row.kind for row in page.feedback] == ["success", "rating", "comment", "correction"]
    assert page.removed == [(hostile, 2), ("email", 1)]


def test_a_call_without_payload_is_still_shown(session: Session, get, add_call) -> None:
    identifier = add_call(session, text="t")
    session.flush()
    session.execute(text("DELETE FROM interaction_payload"))
    session.commit()
    assert "payload has left" in get(f"/admin/interactions/{identifier}").text


def test_the_overview_tells_where_each_role_stands(session: Session, filled) -> None:
    page = overview.overview(session, "http://wheel")
    assert not page.empty
    numbers = {spoke.stage.name: spoke.stage.number for spoke in page.wheel.spokes}
    assert numbers == {
        "collector": "2",
        "curation": "10",
        "trainer": "1",
        "evaluator": "+50.0",
        "router": "1",
        "agents": "1/5",
    }
    assert page.wheel.turning
    assert [row.run.id for row in page.open_runs] == [filled.ids["runs"]]
    coder = next(line for line in page.roles if line.role == "coder")
    assert coder.logged.n == 1
    assert coder.serves is not None
    assert coder.serves.id == filled.ids["models"]
    assert coder.in_experiment
    assert coder.kept == 10


def test_an_experiment_counts_its_arms_and_reads_its_evidence(session: Session, filled) -> None:
    page = experiments.detail(session, filled.ids["experiments"])
    arms = {arm.arm: (arm.units, arm.known, arm.successes, arm.calls) for arm in page.arms}
    assert arms == {"control": (2, 2, 1, 4), "treatment": (2, 1, 1, 4)}
    assert page.row.evidence.threshold == 20.0
    assert page.row.evidence.gauge is not None
    assert not page.row.evidence.gauge.reached
    assert experiments.read_evidence({}, {}).gauge is None
    assert page.standing.status.evidence.assigned == {"control": 2, "treatment": 2}
    assert page.standing.needed == 20.0


def test_an_open_run_refreshes_itself_until_it_ends(session: Session, get, filled) -> None:
    address = f"/admin/runs/{filled.ids['runs']}"
    assert 'hx-trigger="every 2s"' in get(f"{address}/row").text
    session.execute(text("UPDATE run SET status = 'done', finished_at = now()"))
    session.commit()
    assert "hx-trigger" not in get(f"{address}/row").text
    assert "every 2s" not in get(address).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/nowhere", 404),
        ("/admin/runs/52d955db-2ac5-4333-96c2-4e17e9c2d38e", 404),
        ("/admin/interactions/not-an-id", 404),
        ("/admin/interactions?before=not-an-id", 400),
        ("/admin/static/../pages.py", 404),
    ],
)
def test_wrong_addresses_get_a_friendly_page(get, path: str, status: int) -> None:
    answer = get(path)
    assert answer.status_code == status
    assert "Back to the overview" in answer.text
    assert answer.headers["content-security-policy"]


def test_a_broken_page_answers_500_without_traceback(session: Session, getter, signed_in) -> None:
    app = create_admin_app()

    def broken() -> None:
        raise RuntimeError("a secret in a message")

    app.dependency_overrides[rendering.reading_session] = broken
    answer = getter(app, token=signed_in(session))("/decisions")
    assert answer.status_code == 500
    assert "Something broke" in answer.text
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"]


def test_a_filter_that_looks_at_too_much_is_stopped(
    get, filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "STATEMENT_TIMEOUT_MS", 1)
    monkeypatch.setattr(
        interactions, "list_rows", lambda session, *_: session.execute(text("SELECT pg_sleep(5)"))
    )
    answer = get("/admin/interactions")
    assert answer.status_code == 503
    assert "Narrow it" in answer.text


def test_assets_are_kept_only_at_the_address_of_their_content(get) -> None:
    page = get("/admin/").text
    sheet = re.search(r'href="(/admin/static/admin.css\?v=[0-9a-f]{12})"', page)
    assert sheet
    assert "immutable" in get(sheet.group(1)).headers["cache-control"]
    assert get("/admin/static/admin.css").headers["cache-control"] == "no-cache"


def test_the_vendored_script_has_its_licence_beside_it() -> None:
    licence = Path(rendering.STATIC / "htmx.LICENSE.txt").read_text()
    version = re.search(r"htmx (\d+\.\d+\.\d+)", licence)
    assert version
    assert version.group(1) in (rendering.STATIC / "htmx.min.js").read_text()


@pytest.mark.parametrize("path", ["/admin/", "/admin/review", "/admin/login"])
def test_while_the_database_is_away_every_page_says_so(
    session: Session, get, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Who asks is looked up before the page, and cannot be: nobody comes in meanwhile."""
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/x")
    monkeypatch.setattr(database, "get_engine", lambda: nowhere)
    answer = get(path)
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert answer.headers["content-security-policy"]
    monkeypatch.undo()
    assert get(path).status_code < 400
