"""Changes by hand: who may send a form, and that each goes through its stage to the ledger."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlmodel import Session, col

from admin.access.sessions import COOKIE
from admin.pages import create_admin_app
from flywheel.app import create_app
from foundation.tables import Decision, now
from router import emergency, experiment, policy, promote
from router.tables import RUNNING, STOPPED, Experiment
from trainer.tables import ModelVersion

OURS = {"origin": "http://127.0.0.1:8710", "sec-fetch-site": "same-origin"}


@dataclass
class Browser:
    """Keeps cookies, and sends forms as a page of ours would."""

    app: FastAPI
    base: str = "http://127.0.0.1:8710"
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)

    def ask(self, method: str, path: str, **given: object) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url=self.base, cookies=self.cookies
            ) as client:
                answer = await client.request(method, f"/admin{path}", **given)  # type: ignore[arg-type]
                self.cookies = client.cookies
                return answer

        return asyncio.run(go())

    def send(self, page: str, path: str, **fields: str) -> httpx.Response:
        """Send a form of `page` for `path`, as a browser does that shows it."""
        assert self.ask("GET", page).status_code == 200, page
        return self.ask("POST", path, data=fields, headers=OURS)


@pytest.fixture
def browser(
    session: Session, signed_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Browser:
    # What is promoted by hand here has no files: that it must be loadable has tests of its own.
    monkeypatch.setattr("serving.deploy.prepare", lambda session, version: None)
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    browser = Browser(service)
    browser.cookies.set(COOKIE, signed_in(session))
    return browser


@pytest.fixture
def versions(session: Session) -> list[ModelVersion]:
    """Three versions of the coder; the second serves after the first."""
    made = [
        ModelVersion(role="coder", number=n, name=f"coder-v{n}", kind="adapter", base_model="tiny")
        for n in range(1, 4)
    ]
    session.add_all(made)
    session.flush()
    promote.initial(session, "coder", made[0])
    promote.promote(session, "coder", made[1], reason="it is better", actor="ada")
    session.commit()
    return made


@pytest.fixture
def running(session: Session, versions: list[ModelVersion]) -> Experiment:
    plan = experiment.plan_from("demo")
    row = experiment.start(session, "coder", versions[2], plan, "ada")
    session.commit()
    return row


def serves(session: Session) -> str:
    session.expire_all()
    version = promote.serving_version(session, "coder")
    assert version is not None
    return version.name


def last_decision(session: Session) -> Decision:
    session.expire_all()
    found = session.scalars(select(Decision).order_by(col(Decision.id).desc()).limit(1)).one()
    return found


def test_one_button_stops_every_role_and_every_page_says_so(
    session: Session, browser: Browser, running: Experiment
) -> None:
    assert "Emergency stop…" in browser.ask("GET", "/").text
    answer = browser.send("/emergency", "/emergency/stop", reason="it deletes files")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/emergency")
    assert emergency.baselines(session).keys() == {"coder"}
    assert last_decision(session).reasons[0] == "it deletes files"
    assert last_decision(session).actor == "ada"
    for path in ("/", "/decisions", f"/experiments/{running.id}", "/roles/coder", "/nowhere"):
        page = browser.ask("GET", path).text
        assert 'class="alarm"' in page, path
        assert "coder</span>" in page, path
    refused = browser.send("/emergency", "/emergency/resume", reason="")
    assert refused.status_code == 422
    assert 'class="alarm"' in refused.text, "the answer to a form is a page, too"
    page = browser.ask("GET", "/emergency").text
    assert "it deletes files" in page
    assert "coder-v1</a>" in page, "the baseline that answers"

    answer = browser.send("/emergency", "/emergency/resume", reason="mended", role="coder")
    assert answer.status_code == 303
    assert emergency.baselines(session) == {}
    assert 'class="alarm"' not in browser.ask("GET", "/").text


def test_an_open_page_learns_of_a_stop_and_is_left_alone_otherwise(
    session: Session, browser: Browser, versions: list[ModelVersion]
) -> None:
    def next_look(page: str) -> httpx.Response:
        found = re.search(r'hx-get="/admin(/emergency/banner[^"]*)"', page)
        assert found
        return browser.ask("GET", found.group(1).replace("&amp;", "&"))

    page = browser.ask("GET", "/decisions").text
    assert next_look(page).status_code == 204
    emergency.stop(session, "it loops", "ada", "coder")
    session.commit()
    said = next_look(page)
    assert 'class="alarm"' in said.text
    assert next_look(said.text).status_code == 204


def test_one_click_accepts_what_is_proposed(
    session: Session, browser: Browser, running: Experiment
) -> None:
    path = f"/experiments/{running.id}"
    from_here = {"referer": f"{browser.base}/admin{path}"}
    refused = browser.ask("POST", f"{path}/accept", headers=OURS | from_here)
    assert refused.status_code == 409, "nothing is proposed yet"
    assert f'href="{from_here["referer"]}">Back to the page' in refused.text
    assert "/accept" not in browser.ask("GET", path).text
    running.proposed_at = now()
    session.add(running)
    session.commit()
    page = browser.ask("GET", path).text
    assert f'action="/admin{path}/accept"' in page
    assert "every 5s" not in page, "a page that waits for a click does not move under it"
    assert browser.send(path, f"{path}/accept").status_code == 303
    assert serves(session) == "coder-v3"
    assert "promoted" in browser.ask("GET", path).text


def test_an_experiment_is_stopped_with_a_reason_once(
    session: Session, browser: Browser, running: Experiment
) -> None:
    path = f"/experiments/{running.id}"
    for reason in ("it is a bad idea", "again"):
        answer = browser.send(path, f"{path}/stop", reason=reason)
        assert answer.headers["location"] == f"/admin{path}"
    session.refresh(running)
    assert running.status == STOPPED
    assert last_decision(session).reasons == ["it is a bad idea"]
    assert "it is a bad idea" in browser.ask("GET", path).text


@pytest.mark.parametrize("reason", [None, "", "   ", "x" * 2001])
def test_a_form_without_a_reason_changes_nothing(
    session: Session, browser: Browser, running: Experiment, reason: str | None
) -> None:
    path = f"/experiments/{running.id}"
    answer = browser.send(path, f"{path}/stop", **({} if reason is None else {"reason": reason}))
    assert answer.status_code == 422
    assert "Nothing was changed" in answer.text
    session.refresh(running)
    assert running.status == RUNNING


def test_a_version_is_promoted_and_rolled_back_by_hand(
    session: Session, browser: Browser, versions: list[ModelVersion]
) -> None:
    first, second, third = (str(version.id) for version in versions)
    answer = browser.send(
        "/roles/coder", "/roles/coder/promote", version=third, seen=second, reason="a hot fix"
    )
    assert (answer.status_code, serves(session)) == (303, "coder-v3")
    page = browser.ask("GET", "/roles/coder").text
    assert "a hot fix" in page
    assert f'name="to" value="{second}"' in page
    answer = browser.send(
        "/roles/coder", "/roles/coder/rollback", to=second, seen=third, reason="it is worse"
    )
    assert (answer.status_code, serves(session)) == (303, "coder-v2")
    assert f'name="to" value="{first}"' in browser.ask("GET", "/roles/coder").text


@pytest.mark.parametrize("deed", ["promote", "rollback"])
def test_what_was_confirmed_of_another_version_is_not_done(
    session: Session, browser: Browser, versions: list[ModelVersion], deed: str
) -> None:
    first, _, third = (str(version.id) for version in versions)
    answer = browser.send(
        "/roles/coder",
        f"/roles/coder/{deed}",
        version=third,
        to=first,
        seen=first,
        reason="as it was this morning",
    )
    assert answer.status_code == 409
    assert "has changed meanwhile" in answer.text
    assert serves(session) == "coder-v2"


@pytest.mark.parametrize("mode", ["off", "assisted", "on"])
def test_what_becomes_of_a_proof_is_set_by_role(
    session: Session, browser: Browser, versions: list[ModelVersion], mode: str
) -> None:
    answer = browser.send("/roles/coder", "/roles/coder/policy", auto_promote=mode)
    assert answer.status_code == 303
    session.expire_all()
    assert policy.policy_of(session, "coder").auto_promote == mode
    assert f'value="{mode}" checked' in browser.ask("GET", "/roles/coder").text
    assert browser.send("/roles/coder", "/roles/coder/policy", auto_promote="x").status_code == 400


def _with(**headers: str) -> Callable[[Browser, str], httpx.Response]:
    def send(browser: Browser, path: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return browser.ask("POST", path, data={"reason": "r"}, headers=named)

    return send


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(_with(sec_fetch_site="cross-site", origin="http://evil.example"), id="site"),
        pytest.param(_with(sec_fetch_site="same-site"), id="another port"),
        pytest.param(_with(origin="http://127.0.0.1:3000"), id="another port, old browser"),
        pytest.param(_with(origin="null"), id="sandboxed frame"),
    ],
)
def test_no_other_page_changes_anything(
    session: Session,
    browser: Browser,
    versions: list[ModelVersion],
    attack: Callable[[Browser, str], httpx.Response],
) -> None:
    answer = attack(browser, "/emergency/stop")
    assert answer.status_code == 403
    assert emergency.baselines(session) == {}


def test_no_page_of_another_site_changes_anything_through_the_api(
    session: Session, versions: list[ModelVersion]
) -> None:
    browser = Browser(create_app())
    for method, path in (("POST", "/../v1/keys/ci/revoke"), ("DELETE", "/../v1/budgets")):
        crossing = {"sec-fetch-site": "cross-site", "origin": "http://evil.example"}
        answer = browser.ask(method, path, headers=crossing)
        assert (answer.status_code, "Forbidden" in answer.text) == (403, True), path
        assert browser.ask(method, path).status_code in (404, 422), "a client that is no browser"


def test_a_page_begins_with_what_was_done(visit):
    browser = visit("admin", "ada")
    fields = {"scope": "role:coder", "measure": "tokens_per_day", "amount": "100", "reason": "cap"}
    answer = browser.post("/traffic/budgets", **fields)
    assert answer.status_code == 303
    said = answer.headers["set-cookie"]
    assert "Path=/admin/traffic;" in said
    assert "Max-Age=8;" in said
    assert "HttpOnly" in said
    shown = '<p class="note good said" role="status">The limit is set; it holds'
    assert shown in browser.get("/traffic").text
    assert "said" not in browser.get("/roles").text


def test_what_was_done_is_shown_as_text(visit):
    browser = visit("viewer")
    browser.cookies.set("flywheel_said", '"<b>x</b>"', domain="127.0.0.1", path="/admin/roles")
    page = browser.get("/roles").text
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
