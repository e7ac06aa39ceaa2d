"""Who comes in: passwords, codes, sessions and cookies, limits, origins, and what each role may."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import argon2
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import event, func, select, text, update
from sqlmodel import Session, col

from admin.access import attempts, codes, passwords, sessions, signing, users
from admin.access.attempts import PER_ADDRESS, PER_NAME, TooManyAttempts
from admin.access.people import ROLES, VIEWER
from admin.access.signing import NotSignedIn, Visitor
from admin.pages import create_admin_app
from admin.tables import AuditEntry, SignInAttempt, SignInCode, User, UserSession
from flywheel.app import create_app
from foundation.database import get_engine, session_scope
from foundation.errors import BadInput, Forbidden
from foundation.settings import get_settings
from foundation.tables import now

OURS = {"sec-fetch-site": "same-origin"}
GOOD = "correct horse battery"
HOME = Visitor("192.0.2.1", "a browser")


def add_user(
    session: Session, name: str = "ada", role: str = "admin", password: str = GOOD
) -> User:
    user = users.create(session, name, role, actor="test")
    user.password_hash = passwords.hash_of(password)
    session.add(user)
    session.commit()
    return user


def entries(session: Session, action: str) -> list[AuditEntry]:
    session.expire_all()
    query = select(AuditEntry).where(col(AuditEntry.action) == action).order_by(col(AuditEntry.id))
    return list(session.scalars(query).all())


def n_sessions(session: Session) -> int:
    session.expire_all()
    return session.scalar(select(func.count()).select_from(UserSession)) or 0


# Passwords


def test_who_has_a_password_comes_in_and_it_is_written_down_without_it(
    session: Session, visit
) -> None:
    add_user(session)
    browser = visit()
    answer = browser.post("/login", name="ada", password=GOOD, next="/admin/decisions?kind=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/decisions?kind=x")
    assert browser.get("/").status_code == 200
    (entry,) = entries(session, "session.begin")
    assert (entry.actor, entry.role, entry.via) == ("ada", "admin", "password")
    assert entry.address == "127.0.0.1"
    assert GOOD not in str(entry.model_dump())


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "wrong horse battery"),
        ("nobody", GOOD),
        ("ada\0", GOOD),
        ("x" * 5_000, GOOD),
        ("ada", "x" * 5_000),
        ("off", GOOD),
        ("by-code", GOOD),
        ("by-code", ""),
    ],
)
def test_every_wrong_pair_is_refused_in_the_same_words(
    session: Session, visit, name: str, password: str
) -> None:
    add_user(session)
    users.create(session, "by-code", "viewer", actor="test")
    users.disable(session, add_user(session, "off", "viewer"))
    session.commit()
    browser = visit()
    answer = browser.post("/login", name=name, password=password or " ")
    assert answer.status_code == 401
    assert "That name and password do not belong together." in answer.text
    assert browser.token is None
    (entry,) = entries(session, "session.refuse")
    assert len(entry.actor) <= 65
    assert "horse" not in str(entry.model_dump())


def test_an_unknown_name_takes_the_work_of_a_known_one(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(session)
    done: list[str] = []
    verify = argon2.PasswordHasher.verify

    def noted(self: argon2.PasswordHasher, kept: str, given: bytes) -> bool:
        done.append(kept.split("$p")[0])
        return verify(self, kept, given)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", noted)
    for name in ("ada", "nobody"):
        with pytest.raises(NotSignedIn):
            signing.with_password(name, "wrong horse battery", HOME)
    assert len(done) == 2
    assert argon2.extract_parameters(session.scalars(select(User.password_hash)).one()) == (
        argon2.extract_parameters(passwords._nobodys())
    )


def test_a_hash_of_other_parameters_is_renewed(session: Session) -> None:
    user = add_user(session)
    user.password_hash = argon2.PasswordHasher(time_cost=1, memory_cost=64).hash(GOOD)
    session.commit()
    signing.with_password("ada", GOOD, HOME)
    session.expire_all()
    kept = session.scalars(select(User.password_hash)).one()
    assert kept is not None
    assert "m=64," not in kept
    signing.with_password("ada", GOOD, HOME)


@pytest.mark.parametrize(
    "password", ["short", "x" * 12, "abcabcabcabc", "é" * 501, "Ada Lovelace", ""]
)
def test_a_poor_password_is_not_set(password: str) -> None:
    with pytest.raises(BadInput) as refused:
        passwords.require_good(password, "ada lovelace")
    assert password == "" or password not in str(refused.value)


def test_two_passwords_are_hashed_at_once_a_few_wait_and_others_are_sent_away(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(session)
    under_way, most, lock, go_on = [0], [0], threading.Lock(), threading.Event()

    def slow(self: argon2.PasswordHasher, kept: str, given: bytes) -> bool:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        go_on.wait(30)
        with lock:
            under_way[0] -= 1
        return True

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    kept = passwords.hash_of(GOOD)
    n = passwords.AT_ONCE + passwords.WAITING
    with ThreadPoolExecutor(n) as pool:
        waiting = [pool.submit(passwords.is_right, kept, GOOD) for _ in range(n)]
        while passwords._QUEUE._value:  # type: ignore[attr-defined]
            time.sleep(0.001)
        with pytest.raises(passwords.TooBusy):
            signing.with_password("ada", GOOD, HOME)
        assert session.scalar(select(func.count()).select_from(SignInAttempt)) == 0
        monkeypatch.setattr(passwords, "require_room", lambda: None)  # the room was taken after it
        with pytest.raises(passwords.TooBusy):
            signing.with_password("ada", GOOD, HOME)
        go_on.set()
        assert all(one.result() for one in waiting)
    assert most[0] == passwords.AT_ONCE
    # Who was sent away has not used up an attempt.
    assert session.scalar(select(func.sum(col(SignInAttempt.n_failed)))) == 0


# Limits


def fail(name: str, address: str = "192.0.2.1") -> str:
    try:
        signing.with_password(name, "wrong horse battery", Visitor(address))
    except (NotSignedIn, TooManyAttempts) as error:
        return type(error).__name__
    return "in"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check passwords without the work, where only counting is tested."""
    monkeypatch.setattr(
        passwords, "is_right", lambda kept, given: kept is not None and given == GOOD
    )


def test_a_name_is_held_after_five_failures_and_says_for_how_long(
    session: Session, visit, quick: None
) -> None:
    add_user(session)
    inside = visit("admin", "ada")
    for _ in range(PER_NAME):
        assert fail("ada") == "NotSignedIn"
    answer = visit().post("/login", name="ada", password=GOOD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 901
    assert "Try again in 15 minutes" in answer.text
    assert inside.get("/").status_code == 200, "who is in stays in"
    assert fail("bob") == "NotSignedIn", "others are not held"
    # The failures leave the window one after the other, however often somebody tried meanwhile.
    older = col(SignInAttempt.starts_at) - attempts.WINDOW
    session.execute(update(SignInAttempt).values(starts_at=older))
    session.commit()
    assert visit().post("/login", name="ada", password=GOOD).status_code == 303


def test_a_held_name_comes_in_by_a_code(session: Session, visit, quick: None) -> None:
    user = add_user(session)
    for _ in range(PER_NAME):
        fail("ada", "127.0.0.1")
    code = codes.make_code(session, user)
    session.commit()
    assert visit().post("/login/code", code=code).status_code == 303


def test_a_success_lets_a_name_begin_anew(session: Session, quick: None) -> None:
    add_user(session)
    for _ in range(3):
        for _ in range(PER_NAME - 1):
            assert fail("ada") == "NotSignedIn"
        signing.with_password("ada", GOOD, HOME)
    assert session.scalar(select(func.sum(col(SignInAttempt.n_failed)))) == 3 * (PER_NAME - 1)


def test_an_address_is_held_whatever_names_it_tries(session: Session, quick: None) -> None:
    add_user(session)
    for n in range(PER_ADDRESS):
        assert fail(f"guess {n}") == "NotSignedIn"
    assert fail("ada") == "TooManyAttempts"
    assert fail("ada", "192.0.2.2") == "NotSignedIn"


def test_the_addresses_of_one_household_count_as_one() -> None:
    one, other = (attempts.subject_of_address(f"2001:db8::{n}") for n in ("1", "ffff"))
    assert one == other != attempts.subject_of_address("2001:db8:0:1::1")
    assert attempts.subject_of_address("192.0.2.1") != attempts.subject_of_address("192.0.2.2")
    assert len(attempts.subject_of_address("x" * 500)) < 100


def test_many_at_once_are_as_many_as_one_after_the_other(session: Session, quick: None) -> None:
    add_user(session)
    with ThreadPoolExecutor(12) as pool:
        told = list(pool.map(fail, ["ada"] * 24))
    assert told.count("NotSignedIn") == PER_NAME
    assert told.count("TooManyAttempts") == 24 - PER_NAME
    assert len(entries(session, "session.refuse")) == PER_NAME


def test_old_attempts_are_deleted_and_names_are_not_kept(session: Session, quick: None) -> None:
    fail("a-password-in-the-wrong-field")
    session.execute(update(SignInAttempt).values(starts_at=now() - timedelta(hours=1)))
    session.commit()
    fail("bob", "192.0.2.9")
    session.expire_all()
    rows = session.scalars(select(SignInAttempt)).all()
    assert len(rows) == 2
    assert "a-password" not in str(rows)
    assert "192.0.2.9" in str(rows)


# One-time codes


def test_a_code_opens_one_session_once(session: Session, visit) -> None:
    code = codes.make_code(session, add_user(session))
    session.commit()
    assert session.scalars(select(SignInCode.code_hash)).one() != code
    browser = visit()
    page = browser.ask("GET", f"/admin/login?code={code}")
    assert code not in page.text, "nothing in an address is worth anything"
    assert browser.post("/login/code", code=f" {code} ").status_code == 303
    assert browser.get("/").status_code == 200
    other = visit()
    again = other.post("/login/code", code=code)
    assert again.status_code == 403
    assert "Ask for another" in again.text
    assert other.token is None
    assert [e.via for e in entries(session, "session.begin")] == ["code"]
    assert [e.via for e in entries(session, "session.refuse")] == ["code"]


def test_a_code_is_worth_one_session_to_two_at_once(session: Session) -> None:
    code = codes.make_code(session, add_user(session))
    session.commit()
    start = threading.Barrier(6)

    def redeem(_: int) -> bool:
        start.wait(30)
        try:
            signing.with_code(code, HOME)
        except Forbidden:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(redeem, range(6))).count(True) == 1
    assert n_sessions(session) == 1


@pytest.mark.parametrize("spoil", ["old", "disabled", "reset", "password"])
def test_a_code_that_is_over_opens_nothing(session: Session, spoil: str) -> None:
    add_user(session, "eva")
    user = add_user(session)
    code = codes.make_code(session, user)
    if spoil == "old":
        session.flush()
        session.execute(update(SignInCode).values(expires_at=now()))
    elif spoil == "disabled":
        users.disable(session, user)
    elif spoil == "reset":
        users.reset(session, user)
    else:
        users.set_password(session, user, "hash")
    session.commit()
    with pytest.raises(Forbidden):
        signing.with_code(code, HOME)


def test_wrong_codes_fill_no_log(session: Session) -> None:
    for _ in range(PER_ADDRESS):
        with pytest.raises(Forbidden):
            signing.with_code("guess", HOME)
    with pytest.raises(TooManyAttempts):
        signing.with_code("guess", HOME)
    assert len(entries(session, "session.refuse")) == PER_ADDRESS
    code = codes.make_code(session, add_user(session))
    session.commit()
    assert signing.with_code(code, HOME), "a right one is never held up"


# Sessions and cookies


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_cookie_is_for_this_view_and_no_script(
    session: Session, visit, scheme: str, secure: bool
) -> None:
    code = codes.make_code(session, add_user(session))
    session.commit()
    answer = visit(base=f"{scheme}://wheel").post("/login/code", code=code)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/admin" in cookie
    assert "Domain" not in cookie
    assert ("Secure" in cookie) == secure
    assert answer.headers["cache-control"] == "no-store"


def test_the_hash_of_a_session_is_not_its_cookie(session: Session, visit) -> None:
    browser = visit("admin")
    kept = session.scalars(select(UserSession.token_hash)).one()
    assert browser.token not in kept
    assert browser.get("/").status_code == 200
    thief = visit()
    thief.cookies.set(sessions.COOKIE, kept)
    assert thief.get("/").status_code == 303


@pytest.mark.parametrize(
    "over",
    [
        "UPDATE admin_session SET expires_at = now()",
        "UPDATE admin_session SET seen_at = now() - interval '12 hours'",
        "UPDATE admin_user SET disabled_at = now()",
        "DELETE FROM admin_session",
    ],
)
def test_a_session_that_is_over_opens_nothing(session: Session, visit, over: str) -> None:
    browser = visit("admin")
    assert browser.get("/").status_code == 200
    session.execute(text(over))
    session.commit()
    assert browser.get("/").headers["location"].startswith("/admin/login")


def test_a_session_is_read_with_its_user_in_one_query(session: Session, visit) -> None:
    token = visit("admin").token
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(get_engine(), "before_cursor_execute", note)
    try:
        with session_scope() as reading:
            assert sessions.person_of(reading, token) is not None
    finally:
        event.remove(get_engine(), "before_cursor_execute", note)
    assert len(asked) == 1


def test_signing_in_ends_the_session_before(session: Session, visit) -> None:
    add_user(session)
    browser = visit("admin", "ada")
    before = browser.token
    browser.post("/login", name="ada", password=GOOD)
    assert browser.token != before
    assert n_sessions(session) == 1
    old = visit()
    old.cookies.set(sessions.COOKIE, before)
    assert old.get("/").status_code == 303


def test_signing_out_ends_the_session_for_good(session: Session, visit, audited) -> None:
    browser = visit("viewer")
    token = browser.token
    answer = browser.post("/sign-out")
    assert answer.headers["location"] == "/admin/login"
    assert 'flywheel_session=""' in answer.headers["set-cookie"]
    assert "Path=/admin" in answer.headers["set-cookie"]
    browser.cookies.set(sessions.COOKIE, token)
    assert browser.get("/").status_code == 303
    assert audited(session)[0].action == "session.end"


def test_one_s_own_page_ends_one_s_own_sessions_only(session: Session, visit) -> None:
    ada, phone, bob = visit("admin", "ada"), visit("admin", "ada"), visit("viewer", "bob")
    page = ada.get("/me").text
    assert page.count('/end"') == 1, "the other browser's"
    handles = {
        "phone": sessions.hash_of(phone.token)[:16],
        "bob": sessions.hash_of(bob.token)[:16],
    }
    assert handles["phone"] in page
    ada.post(f"/me/sessions/{handles['bob']}/end")
    assert bob.get("/").status_code == 200
    ada.post(f"/me/sessions/{handles['phone']}/end")
    assert phone.get("/").status_code == 303
    assert ada.post("/me/sessions/%25%25%25%25%25%25%25%25/end").status_code == 404
    tablet = visit("admin", "ada")
    ada.post("/me/sessions/end-others")
    assert tablet.get("/").status_code == 303
    assert ada.get("/me").status_code == bob.get("/").status_code == 200


def test_changing_a_password_needs_it_and_ends_other_sessions(session: Session, visit) -> None:
    add_user(session)
    ada, thief = visit("admin", "ada"), visit("admin", "ada")
    fresh = "another horse battery"
    wrong = thief.post("/me/password", current="guess", password=fresh, again=fresh)
    assert wrong.status_code == 403
    assert ada.post("/me/password", current=GOOD, password=fresh, again="x" * 20).status_code == 409
    assert (
        ada.post("/me/password", current=GOOD, password="short", again="short").status_code == 400
    )
    assert ada.post("/me/password", current=GOOD, password=fresh, again=fresh).status_code == 303
    assert ada.get("/me").status_code == 200
    assert thief.get("/me").status_code == 303
    assert signing.with_password("ada", fresh, HOME)
    with pytest.raises(NotSignedIn):
        signing.with_password("ada", GOOD, HOME)
    (entry,) = entries(session, "user.password")
    assert "horse" not in str(entry.model_dump())


def test_a_thief_of_a_session_cannot_guess_the_password_there(
    session: Session, visit, quick: None
) -> None:
    add_user(session)
    thief = visit("admin", "ada")
    fields = {"password": "another horse battery", "again": "another horse battery"}
    told = [thief.post("/me/password", current="guess", **fields).status_code for _ in range(7)]
    assert told == [403] * PER_NAME + [429] * 2


def test_who_came_by_a_code_sets_a_first_password(session: Session, visit) -> None:
    browser = visit("reviewer", "new")
    assert browser.post("/me/password", password=GOOD, again=GOOD).status_code == 303
    assert "Your password was changed" in browser.get("/me?changed=true").text
    assert signing.with_password("new", GOOD, HOME)


# The way to the login page and back


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/admin/decisions?kind=a&role=b", "/admin/decisions?kind=a&role=b"),
        ("/admin/", "/admin/"),
        ("/admin/a%2F..%2Fb", "/admin/a/../b"),
    ],
)
def test_who_is_not_signed_in_is_led_to_it_and_back(visit, path: str, back: str) -> None:
    answer = visit().ask("GET", path)
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    assert address.path == "/admin/login"
    assert parse_qs(address.query) == {"next": [back]}


def test_a_form_after_the_end_of_a_session_says_that_nothing_was_changed(visit) -> None:
    browser = visit()
    headers = {"sec-fetch-site": "same-origin", "referer": f"{browser.base}/admin/roles/coder?a=b"}
    answer = browser.ask("POST", "/admin/roles/coder/promote", data={}, headers=headers)
    address = urlsplit(answer.headers["location"])
    assert parse_qs(address.query) == {"next": ["/admin/roles/coder?a=b"], "lost": ["true"]}
    page = browser.ask("GET", answer.headers["location"]).text
    assert "Nothing was changed" in page
    assert 'value="/admin/roles/coder?a=b"' in page
    foreign = browser.ask("POST", "/admin/x", headers={"referer": "https://evil.example/admin/"})
    assert foreign.headers["location"] == "/admin/login?lost=true"


def test_a_part_of_a_page_leads_the_whole_page_to_the_login(visit) -> None:
    browser = visit()
    headers = {"hx-request": "true", "hx-current-url": f"{browser.base}/admin/runs?status=queued"}
    answer = browser.ask("GET", "/admin/open-runs", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/admin/login?next=%2Fadmin%2Fruns%3Fstatus%3Dqueued"


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "/admin/\\..\\..\\",
        "\t//evil.example",
        "/admin/\n/evil",
        "/v1/keys",
        "/adminevil",
        "javascript:alert(1)",
        "/admin/login",
        "/admin/login?next=/admin/login",
        "/admin/../v1/keys",
        "/admin/x/%2e%2E/../v1/keys",
    ],
)
def test_one_goes_on_to_own_pages_only(session: Session, visit, next: str) -> None:
    code = codes.make_code(session, add_user(session))
    session.commit()
    browser = visit()
    assert f'value="{next}"' not in browser.ask("GET", "/admin/login", params={"next": next}).text
    answer = browser.post("/login/code", code=code, next=next)
    assert answer.headers["location"] == "/admin/"


def test_the_login_page_shows_hostile_text_as_text(visit, hostile: str) -> None:
    page = visit().post("/login", name=hostile, password="x").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "onerror=alert(2)>" not in page


def test_hostile_names_are_shown_as_text(session: Session, visit) -> None:
    name = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
    browser = visit("admin", name)
    for path in ("/", "/me", "/users", "/audit"):
        page = browser.get(path).text
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert "{{7*7}}" in page or path == "/audit"
    with pytest.raises(BadInput):
        users.create(session, "ada\u202e", "admin", actor="test")


# Origins


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8710"}, False),
        ({"origin": "http://127.0.0.1:8710"}, True),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({}, True),
    ],
)
@pytest.mark.parametrize("path", ["/sign-out", "/login/code"])
def test_no_other_site_s_page_sends_a_form(
    session: Session, visit, path: str, headers: dict[str, str], allowed: bool
) -> None:
    code = codes.make_code(session, add_user(session))
    browser = visit("viewer")
    session.commit()
    answer = browser.ask("POST", f"/admin{path}", data={"code": code}, headers=headers)
    assert answer.status_code == (303 if allowed else 403)
    # Either ends the viewer's session; a code opens another.
    before, after = 1, 0 if path == "/sign-out" else 1
    assert n_sessions(session) == (after if allowed else before)
    assert len(entries(session, "session.begin")) == (after if allowed else 0)


# What each role may


def routes_of(owner: Any, prefix: str = "") -> Iterator[tuple[str, APIRoute]]:
    """Every route with its path; FastAPI keeps included routers nested."""
    for route in owner:
        if hasattr(route, "original_router"):
            inner = prefix + route.include_context.prefix
            yield from routes_of(route.original_router.routes, inner)
        elif isinstance(route, APIRoute):
            yield prefix + route.path_format, route


def needed_roles(dependant: Dependant) -> Iterator[str]:
    role = getattr(dependant.call, "needed_role", None)
    if role is not None:
        yield role
    for inner in dependant.dependencies:
        yield from needed_roles(inner)


RANK = {role: place for place, role in enumerate(ROLES)}
LOGIN = ("sign_in", "sign_in.password", "sign_in.code", "sign_in.oidc", "sign_in.oidc.back")
ROUTES = sorted(
    routes_of(create_admin_app().routes), key=lambda found: (found[0], sorted(found[1].methods))
)
FILLED = {"role": "coder", "name": "nobody", "handle": "0" * 16}
UNKNOWN = "52d955db-2ac5-4333-96c2-4e17e9c2d38e"


def needed(route: APIRoute) -> str:
    return max(needed_roles(route.dependant), key=RANK.__getitem__, default=VIEWER)


def address_of(path: str) -> str:
    filled = re.sub(r"{(\w+)}", lambda found: FILLED.get(found[1], UNKNOWN), path)
    return f"/admin{filled}"


def changes(route: APIRoute) -> bool:
    return not route.methods <= {"GET", "HEAD"}


def test_every_route_that_changes_something_asks_for_a_role() -> None:
    assert len(ROUTES) > 50
    silent = [
        path
        for path, route in ROUTES
        if changes(route) and route.name not in LOGIN and not [*needed_roles(route.dependant)]
    ]
    assert silent == []


def test_users_keys_and_the_audit_log_are_for_admins() -> None:
    nouns = ("/users", "/keys", "/audit")
    assert {needed(route) for path, route in ROUTES if path.startswith(nouns)} == {"admin"}


def test_nobody_who_is_not_signed_in_gets_past_the_door(visit) -> None:
    browser = visit()
    for path, route in ROUTES:
        if route.name in LOGIN:
            continue
        for method in sorted(route.methods):
            answer = browser.ask(
                method, address_of(path), headers={"sec-fetch-site": "same-origin"}
            )
            assert answer.status_code == 303, (method, path)
            assert answer.headers["location"].startswith("/admin/login?"), path


@pytest.mark.parametrize("role", list(ROLES))
def test_each_role_may_what_it_may_on_every_route(visit, role: str) -> None:
    browser, wrong = visit(role), []
    for path, route in ROUTES:
        if route.name in (*LOGIN, "sign_out"):
            continue
        allowed = RANK[role] >= RANK[needed(route)]
        for method in sorted(route.methods):
            answer = browser.ask(
                method, address_of(path), headers={"sec-fetch-site": "same-origin"}
            )
            if allowed:
                is_right = answer.status_code not in (401, 403) and answer.status_code < 500
            else:
                is_right = answer.status_code == 403 and "Nothing was changed" in answer.text
            if not is_right:
                wrong.append((method, path, answer.status_code))
    assert wrong == []


def test_a_new_role_holds_from_the_next_request_on(session: Session, visit) -> None:
    browser = visit("viewer", "vera")
    assert browser.get("/users").status_code == 403
    session.execute(update(User).values(role="admin"))
    session.commit()
    assert browser.get("/users").status_code == 200


# The service around it


@pytest.fixture
def locked_service(monkeypatch: pytest.MonkeyPatch, session: Session) -> Iterator[FastAPI]:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "the-key")
    get_settings.cache_clear()
    yield create_app()
    get_settings.cache_clear()


def test_the_first_page_leads_to_the_view(locked_service: FastAPI, visit) -> None:
    browser = visit(app=locked_service)
    for path in ("/", "/admin"):
        answer = browser.ask("GET", path)
        assert answer.status_code == 307, path
        assert urlsplit(answer.headers["location"]).path == "/admin/"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/keys",
        "/docs",
        "/openapi.json",
        "/admin/../v1/keys",
        "/admin/..%2Fv1/keys",
        "/admin%2F..%2Fv1%2Fkeys",
        "/admin/%2e%2e/v1/keys",
        "//admin/../v1/keys",
        "//admin/",
        "/Admin/",
        "/admin;/v1/keys",
        "/healthz/../v1/keys",
        "/%2Fadmin/",
        "/admin/login/../users",
        "/admin/login%2F..%2Fusers",
        "/admin/static/..%2Fusers",
        "/admin//users",
        "/admin/loginx",
    ],
)
def test_no_spelling_of_a_path_opens_what_is_closed(
    locked_service: FastAPI, visit, path: str
) -> None:
    scope_path = path.replace("%2F", "/").replace("%2e", ".")
    answer = raw(locked_service, scope_path, path)
    assert answer[0] in (303, 307, 401, 404), answer
    assert b"users" not in answer[1].lower() or b"no such page" in answer[1], answer
    assert b'"prefix"' not in answer[1]


@pytest.mark.parametrize(
    "host", ["x/healthz?", "x/admin/?", "x/admin/#", "wheel", "127.0.0.1:8710/admin/"]
)
def test_the_host_header_opens_nothing(locked_service: FastAPI, host: str) -> None:
    assert raw(locked_service, "/v1/keys", "/v1/keys", host)[0] == 401


def raw(app: FastAPI, path: str, raw_path: str, host: str = "wheel") -> tuple[int, bytes]:
    """Ask as a server would, without a client that tidies the path."""
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": raw_path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", host.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8710),
        "state": {},
    }
    asyncio.run(app(scope, receive, send))
    body = b"".join(m.get("body", b"") for m in told if m["type"] == "http.response.body")
    return told[0]["status"], body


def test_the_key_of_the_service_opens_the_view_for_scripts(
    locked_service: FastAPI, visit, session: Session, audited: Callable[..., list[AuditEntry]]
) -> None:
    browser = visit(app=locked_service)
    key = {"authorization": "Bearer the-key"}
    assert browser.ask("GET", "/admin/users", headers=key).status_code == 200
    assert "no session to end" in browser.ask("GET", "/admin/me", headers=key).text
    wrong = {"authorization": "Bearer another"}
    assert browser.ask("GET", "/admin/users", headers=wrong).status_code == 303
    browser.ask("POST", "/admin/users", headers=key, data={"name": "bob", "role": "viewer"})
    (entry,) = audited(session)
    assert (entry.action, entry.actor, entry.via) == ("user.create", "admin", "key")
