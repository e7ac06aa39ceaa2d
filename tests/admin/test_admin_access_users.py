"""Users, keys and the audit log as admins see them, and the commands of a terminal."""

import csv
import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import Session, col
from typer.testing import CliRunner

from admin.access import codes, passwords, signing, users
from admin.access.signing import NotSignedIn, Visitor
from admin.tables import AuditEntry, User
from flywheel.cli import app as command_line
from flywheel.invite import first_link, link_for, link_if_any
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings
from foundation.tables import now
from router import keys
from router.tables import BudgetLimit, GatewayKey, UsageDay

GOOD = "correct horse battery"
HOME = Visitor("192.0.2.1")


def user_of(session: Session, name: str) -> User:
    session.expire_all()
    return users.get(session, name)


def code_in(page: str) -> str:
    found = re.search(r'<output id="secret">http://127.0.0.1:8710/admin/login#code=([\w-]+)<', page)
    assert found, page
    return found.group(1)


# Users


def test_a_new_user_gets_a_link_that_is_shown_once(session: Session, visit, audited) -> None:
    ada = visit("admin", "ada")
    page = ada.post("/users", name="bob", role="reviewer")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    code = code_in(page.text)
    assert code not in ada.get("/users").text + ada.get("/audit").text
    (entry,) = audited(session)
    assert (entry.action, entry.subject_id, entry.actor) == ("user.create", "bob", "ada")
    assert entry.after["role"] == "reviewer"
    assert code not in str(entry.model_dump())
    bob = visit()
    assert bob.post("/login/code", code=code).status_code == 303
    assert bob.get("/review").status_code == 200


@pytest.mark.parametrize(
    ("name", "role", "status"),
    [("", "viewer", 422), ("   ", "viewer", 400), ("x" * 201, "viewer", 400)]
    + [("bob", "root", 400), ("ada", "viewer", 409), ("a\u202eb", "viewer", 400)],
)
def test_a_user_who_cannot_be_is_not_made(
    session: Session, visit, name: str, role: str, status: int
) -> None:
    assert visit("admin", "ada").post("/users", name=name, role=role).status_code == status
    assert len(session.scalars(select(User)).all()) == 1


def test_a_personal_name_is_kept_as_its_labels_are_and_still_signs_in(session: Session) -> None:
    user = users.create(session, "ada@example.com", "viewer", actor="test")
    user.password_hash = passwords.hash_of(GOOD)
    session.commit()
    assert "@" not in user.name
    assert signing.with_password("ada@example.com", GOOD, HOME)


def test_a_role_is_changed_with_before_and_after(session: Session, visit, audited) -> None:
    bob = users.create(session, "bob", "viewer", actor="test")
    session.commit()
    ada = visit("admin", "ada")
    answer = ada.post(f"/users/{bob.id}/role", role="operator", reason="helps out")
    assert answer.headers["location"] == "/admin/users"
    assert user_of(session, "bob").role == "operator"
    (entry,) = audited(session)
    assert (entry.before, entry.after) == ({"role": "viewer"}, {"role": "operator"})
    assert (entry.reason, entry.subject_id) == ("helps out", "bob")
    assert ada.post(f"/users/{bob.id}/role", role="root", reason="x").status_code == 400
    assert ada.post(f"/users/{bob.id}/role", role="viewer").status_code == 422, "a reason is needed"


def test_nobody_lowers_themselves_by_a_slip(session: Session, visit) -> None:
    ada, _ = visit("admin", "ada"), visit("admin", "eva")
    own = user_of(session, "ada").id
    for action, fields in (("role", {"role": "viewer"}), ("disable", {}), ("reset", {})):
        answer = ada.post(f"/users/{own}/{action}", reason="oops", **fields)
        assert answer.status_code == 409, action
        assert "on purpose" in answer.text
    assert ada.get("/users").status_code == 200
    answer = ada.post(f"/users/{own}/role", role="viewer", reason="rest", sure="true")
    assert answer.headers["location"] == "/admin/"
    assert ada.get("/users").status_code == 403


def test_the_last_admin_stays(session: Session, visit) -> None:
    ada = visit("admin", "ada")
    off = users.create(session, "off", "admin", actor="test")
    users.disable(session, off)
    session.commit()
    own = user_of(session, "ada").id
    for action, fields in (("role", {"role": "viewer"}), ("disable", {})):
        answer = ada.post(f"/users/{own}/{action}", reason="x", sure="true", **fields)
        assert answer.status_code == 409
        assert "another admin" in answer.text
    assert ada.get("/users").status_code == 200


@pytest.mark.parametrize("how", ["role", "disable"])
def test_two_admins_cannot_take_each_other_away_at_once(session: Session, how: str) -> None:
    ids = [users.create(session, name, "admin", actor="test").id for name in ("ada", "eva", "zoe")]
    session.commit()
    start = Barrier(3)

    def take(identifier: Any) -> bool:
        start.wait(30)
        try:
            with session_scope() as own:
                user = users.locked(own, identifier)
                if how == "role":
                    users.set_role(own, user, "viewer")
                else:
                    users.disable(own, user)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(take, ids)) == [False, True, True]
    session.expire_all()
    rows = session.scalars(select(User)).all()
    assert sum(row.role == "admin" and row.disabled_at is None for row in rows) == 1


def test_a_reset_forgets_the_password_and_ends_sessions(session: Session, visit, audited) -> None:
    bob = visit("viewer", "bob")
    user = user_of(session, "bob")
    user.password_hash = passwords.hash_of(GOOD)
    old = codes.make_code(session, user)
    session.commit()
    ada = visit("admin", "ada")
    page = ada.post(f"/users/{user.id}/reset", reason="forgot it")
    assert bob.get("/").status_code == 303
    with pytest.raises(NotSignedIn):
        signing.with_password("bob", GOOD, HOME)
    assert visit().post("/login/code", code=old).status_code == 403
    assert visit().post("/login/code", code=code_in(page.text)).status_code == 303
    assert audited(session, 3)[-1].action in ("user.reset", "session.refuse")


def test_a_disabled_user_is_out_at_once_and_may_come_back(session: Session, visit) -> None:
    bob, ada = visit("viewer", "bob"), visit("admin", "ada")
    identifier = user_of(session, "bob").id
    assert ada.post(f"/users/{identifier}/disable", reason="left").status_code == 303
    assert bob.get("/").status_code == 303
    assert ada.post(f"/users/{identifier}/reset", reason="x").status_code == 409
    assert "disabled" in ada.get("/users?status=disabled").text
    assert ada.post(f"/users/{identifier}/enable", reason="is back").status_code == 303
    assert bob.get("/").status_code == 303, "the old session stays ended"
    unknown = "52d955db-2ac5-4333-96c2-4e17e9c2d38e"
    assert ada.post(f"/users/{unknown}/disable", reason="x").status_code == 404


def test_users_are_listed_sorted_and_exported_without_what_opens(session: Session, visit) -> None:
    ada = visit("admin", "ada")
    for name, role in (("bob", "viewer"), ("=cmd", "reviewer")):
        user = users.create(session, name, role, actor="test")
        user.password_hash = "$argon2id$secret"
    session.commit()
    page = ada.get("/users?sort=name").text
    rows = page.partition('id="list"')[2]
    assert rows.index("<b>=cmd") < rows.index("<b>ada") < rows.index("<b>bob")
    assert "bob" not in ada.get("/users?role=reviewer").text
    lines = ada.get("/users?format=jsonl&sort=name").text.splitlines()
    told = [json.loads(line) for line in lines]
    assert [row["name"] for row in told] == ["=cmd", "ada", "bob"]
    assert told[0]["proof"] == "password"
    assert "argon2" not in page + "".join(lines)
    table = list(csv.DictReader(io.StringIO(ada.get("/users?format=csv&sort=name").text)))
    assert table[0]["name"] == "'=cmd"


# Keys


def test_a_key_is_shown_once_and_opens_what_it_was_made_for(
    session: Session, visit, audited
) -> None:
    ada = visit("admin", "ada")
    page = ada.post(
        "/keys",
        name="ci",
        kind="service",
        roles=["coder", "tester"],
        scopes=["gateway", "ingest"],
        projects="shop, web ,",
        expires_on="2999-01-31",
        requests_per_minute="600",
        tokens_per_minute="",
        concurrent="",
        tokens_per_day="5e6",
        cost_usd_per_month="",
    )
    assert page.status_code == 200, page.text
    assert page.headers["cache-control"] == "no-store"
    found = re.search(r">(fw_[\w-]{40,})<", page.text)
    assert found
    secret = found.group(1)
    caller = keys.take(session).identify({"x-api-key": secret})
    assert (caller.name, caller.kind, caller.projects) == ("ci", "service", ("shop", "web"))
    assert caller.roles == {"coder", "tester"}
    assert caller.scopes == {"gateway", "ingest"}
    assert caller.limits.requests_per_minute == 600
    assert str(caller.expires_at) == "2999-01-31 23:59:59+00:00"
    limit = session.scalars(select(BudgetLimit)).one()
    assert (limit.measure, limit.amount) == ("tokens_per_day", 5e6)
    row = session.scalars(select(GatewayKey)).one()
    assert row.actor == "ada"
    shown = [ada.get("/keys").text, ada.get("/keys?format=jsonl").text, ada.get("/audit").text]
    (entry,) = audited(session)
    shown += [ada.get(f"/audit/{entry.id}").text, str(entry.model_dump())]
    for text in shown:
        assert secret not in text
        assert row.key_hash not in text
    assert (entry.action, entry.subject_id) == ("key.create", "ci")
    assert entry.after["tokens_per_day"] == 5e6


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"name": "a b"}, 400),
        ({"name": ""}, 422),
        ({"kind": "root"}, 400),
        ({"roles": ["nobody"]}, 400),
        ({"scopes": ["everything"]}, 400),
        ({"scopes": ["read"], "roles": ["coder"]}, 400),
        ({"roles": ["analysis"]}, 400),
        ({"expires_on": "2001-01-01"}, 400),
        ({"expires_on": "soon"}, 422),
        ({"requests_per_minute": "0"}, 400),
        ({"requests_per_minute": "many"}, 422),
        ({"tokens_per_day": "-1"}, 400),
        ({"tokens_per_day": "nan"}, 400),
    ],
)
def test_a_key_that_cannot_be_is_not_made(
    session: Session, visit, fields: dict[str, Any], status: int
) -> None:
    answer = visit("admin").post("/keys", **{"name": "ci", "kind": "agent", **fields})
    assert answer.status_code == status, answer.text
    assert session.scalars(select(GatewayKey)).all() == []
    assert session.scalars(select(AuditEntry)).all() == []


def test_a_key_is_rotated_and_revoked(session: Session, visit, audited) -> None:
    _, old = keys.create_key(session, "ci")
    session.commit()
    ada = visit("admin", "ada")
    page = ada.post("/keys/ci/rotate", reason="leaked")
    assert page.headers["cache-control"] == "no-store"
    fresh = re.search(r">(fw_[\w-]{40,})<", page.text)
    assert fresh
    assert fresh.group(1) != old
    session.expire_all()
    assert keys.take(session).identify({"x-api-key": fresh.group(1)}).name == "ci"
    (entry,) = audited(session)
    assert entry.before.keys() == entry.after.keys() == {"prefix"}
    assert ada.post("/keys/ci/rotate", reason="leaked", grace_hours="2").status_code == 200
    session.expire_all()
    opens = keys.take(session)
    assert opens.identify({"x-api-key": fresh.group(1)}).expires_at is not None
    assert keys.get_key(session, "ci").key_hash not in ada.get("/audit").text
    assert ada.post("/keys/ci/rotate", reason="x", grace_hours="721").status_code == 422
    assert ada.post("/keys/ci/revoke", reason="done").status_code == 303
    assert ada.post("/keys/ci/rotate", reason="again").status_code == 409
    assert ada.post("/keys/nobody/revoke", reason="x").status_code == 404
    assert ada.post("/keys/ci/revoke").status_code == 422
    page_now = ada.get("/keys?status=revoked").text
    assert "revoked" in page_now
    assert "Rotate…" not in page_now
    assert "No key matches" in ada.get("/keys?status=open").text


def test_keys_say_when_they_were_used(session: Session, visit) -> None:
    keys.create_key(session, "ci")
    keys.create_key(session, "idle")
    today = now().date()
    for model, n in (("a", 3), ("b", 4)):
        session.add(
            UsageDay(day=today, role="coder", project="p", model=model, key_name="ci", n_calls=n)
        )
    session.commit()
    told = visit("admin").get("/keys?format=jsonl&sort=name").text.splitlines()
    ci, idle = (json.loads(line) for line in told)
    assert (ci["used_on"], ci["n_calls_30_days"]) == (str(today), 7)
    assert (idle["used_on"], idle["n_calls_30_days"]) == (None, 0)


# The audit log


def test_the_log_is_narrowed_opened_and_exported(session: Session, visit, hostile: str) -> None:
    for n, (actor, action, kind) in enumerate(
        [("ada", "role.promote", "roles"), ("bob", "key.create", "keys"), (hostile, "x", "roles")]
    ):
        session.add(
            AuditEntry(
                actor=actor,
                role="admin",
                action=action,
                subject_kind=kind,
                subject_id=str(n),
                reason=hostile,
                before={"name": "old", hostile: hostile, "empty": None},
                after={"name": "new"},
            )
        )
    session.commit()
    ada = visit("admin", "ada")

    def found(**filters: str) -> list[str]:
        lines = ada.ask("GET", "/admin/audit", params={**filters, "format": "jsonl"}).text
        return [json.loads(line)["subject"] for line in lines.splitlines()]

    assert found() == ["2", "1", "0"]
    assert found(sort="subject") == ["0", "1", "2"]
    assert found(actor="bob") == found(action="key.create") == found(kind="keys") == ["1"]
    assert found(subject="0") == ["0"]
    assert found(within="hour", actor=hostile) == ["2"]
    assert ada.get("/audit?within=century").status_code == 400
    entry = session.scalars(select(AuditEntry).where(col(AuditEntry.actor) == "ada")).one()
    whole = ada.get(f"/audit/{entry.id}").text
    part = ada.get(f"/audit/{entry.id}", **{"HX-Request-Type": "partial"}).text
    for page in (whole, part):
        assert "<del>old</del>" in page
        assert "<ins>new</ins>" in page
        assert "<script>alert" not in page
        assert "empty" not in page
    assert part.startswith("<tbody")
    assert 'aria-expanded="true"' in part
    assert "<html" in whole
    closed = ada.get(f"/audit/{entry.id}/row").text
    assert closed.startswith("<tbody")
    assert "<del>" not in closed
    assert ada.get("/audit/52d955db-2ac5-4333-96c2-4e17e9c2d38e").status_code == 404


def test_a_change_that_fails_leaves_no_entry(session: Session, visit) -> None:
    ada = visit("admin", "ada")
    ada.post("/users", name="ada", role="viewer")
    ada.post("/keys/nobody/revoke", reason="x")
    assert session.scalars(select(AuditEntry)).all() == []


# The terminal


def command(*words: str, given: str | None = None) -> Any:
    return CliRunner().invoke(command_line, words, input=given)


def test_the_first_link_makes_an_admin_and_no_second_one(session: Session, visit) -> None:
    told = command("login", "--json")
    assert told.exit_code == 0, told.output
    link = json.loads(told.output)["sign in"]
    address, _, code = link.partition("#code=")
    assert address == "http://127.0.0.1:8710/admin/login"
    browser = visit()
    assert browser.post("/login/code", code=code).status_code == 303
    assert browser.get("/users").status_code == 200
    assert user_of(session, "admin").role == "admin"
    assert first_link() is None, "there is a user now"
    assert link_if_any() is not None
    with pytest.raises(NotFound):
        link_for("eva")
    assert len(session.scalars(select(User)).all()) == 1


def test_a_link_makes_nobody_where_others_are_users(session: Session) -> None:
    users.create(session, "eva", "viewer", actor="test")
    session.commit()
    assert link_if_any() is None
    with pytest.raises(NotFound):
        link_for()
    assert session.scalars(select(User.name)).all() == ["eva"]
    with pytest.raises(NotFound):
        link_for("admin")


def test_off_loopback_nothing_that_opens_is_printed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOST", "0.0.0.0")
    get_settings.cache_clear()
    assert first_link() is None
    assert link_if_any() is None
    assert session.scalars(select(User)).all() == []


def test_a_terminal_manages_users_and_it_is_written_down(session: Session) -> None:
    made = json.loads(command("user", "create", "bob", "--role", "operator", "--json").output)
    assert made["sign in"].startswith("http://127.0.0.1:8710/admin/login#code=")
    command("user", "create", "eva", "--role", "admin")
    assert command("user", "role", "bob", "viewer").exit_code == 0
    assert command("user", "disable", "bob").exit_code == 0
    assert command("user", "enable", "bob").exit_code == 0
    assert command("user", "password", "bob", given=f"{GOOD}\n").exit_code == 0
    assert signing.with_password("bob", GOOD, HOME)
    listed = json.loads(command("user", "list", "--json").output)
    assert [(u["name"], u["role"], u["proof"]) for u in listed] == [
        ("bob", "viewer", "password"),
        ("eva", "admin", "one-time link"),
    ]
    assert "argon2" not in json.dumps(listed)
    rows = session.scalars(select(AuditEntry).order_by(col(AuditEntry.id))).all()
    assert [(e.action, e.subject_id) for e in rows if e.via == "command"] == [
        ("user.create", "bob"),
        ("user.create", "eva"),
        ("user.role", "bob"),
        ("user.disable", "bob"),
        ("user.enable", "bob"),
        ("user.password", "bob"),
    ]
    assert GOOD not in str([e.model_dump() for e in rows])


@pytest.mark.parametrize(
    ("words", "given", "error"),
    [
        (("user", "role", "eva", "viewer"), None, Conflict),
        (("user", "disable", "eva"), None, Conflict),
        (("user", "role", "nobody", "viewer"), None, NotFound),
        (("user", "role", "eva", "root"), None, BadInput),
        (("user", "password", "eva"), "short\n", BadInput),
        (("user", "password", "nobody"), None, NotFound),
        (("user", "create", "eva"), None, Conflict),
    ],
)
def test_a_terminal_is_refused_what_a_page_is(
    session: Session, words: tuple[str, ...], given: str | None, error: Callable[..., Exception]
) -> None:
    users.create(session, "eva", "admin", actor="test")
    session.commit()
    told = command(*words, given=given)
    assert type(told.exception) is error, told.output
    assert session.scalars(select(AuditEntry)).all() == []
