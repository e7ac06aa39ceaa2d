"""Keys: shown once, kept as a hash, scoped; who carries none, and who may not."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import Session

from foundation.errors import BadInput, Conflict, Forbidden, NotAuthorised, NotFound
from foundation.settings import Settings
from foundation.tables import now
from router import keys
from router.keys import LOCAL, MASTER, KeyLimits, Keyring, KeysUnknown, create_key, take
from router.scopes import GATEWAY, METRICS, SCOPES

OPEN = Settings(api_key=None)
LOCKED = Settings(api_key=SecretStr("the-master-key"))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_opens_by_its_secret_which_is_nowhere_in_the_database(session: Session) -> None:
    limits = KeyLimits(requests_per_minute=60, concurrent=4)
    row, secret = create_key(
        session, "ci", kind="service", roles=["coder"], projects=["shop"], limits=limits
    )
    assert secret.startswith(row.prefix)
    assert len(secret) == 3 + 43, "256 random bits"
    stored = session.execute(text("SELECT to_jsonb(k) FROM gateway_key k")).scalar_one()
    assert secret not in json.dumps(stored)
    assert secret[12:] not in json.dumps(stored)
    ring = take(session, LOCKED)
    for headers in (bearer(secret), {"x-api-key": secret}, {"authorization": f"bearer {secret}"}):
        caller = ring.identify(headers)
        assert (caller.key_id, caller.name, caller.kind) == (row.id, "ci", "service")
        assert (caller.roles, caller.projects, caller.limits) == ({"coder"}, ("shop",), limits)
    assert ring.identify(bearer("the-master-key")) is MASTER
    assert secret not in repr(ring)


@pytest.mark.parametrize(
    "headers",
    [{}, bearer(""), bearer("fw_wrong"), bearer("wörng\udcff"), {"x-api-key": "x" * 9999}],
    ids=["none", "empty", "wrong", "not ascii", "long"],
)
def test_other_keys_are_refused_and_never_repeated(session: Session, headers) -> None:
    create_key(session, "ci")
    for settings in (OPEN, LOCKED):
        with pytest.raises(NotAuthorised) as caught:
            take(session, settings).identify(headers)
        assert "fw_wrong" not in str(caught.value)


def test_without_any_key_this_machine_is_open_and_from_the_first_on_never_again(
    session: Session,
) -> None:
    assert take(session, OPEN).identify({}) is LOCAL
    assert take(session, OPEN).identify(bearer("whatever")) is LOCAL
    create_key(session, "ci")
    keys.revoke_key(session, "ci")
    with pytest.raises(NotAuthorised):
        take(session, OPEN).identify({})


def test_before_the_keys_are_read_only_the_master_is_known() -> None:
    with pytest.raises(KeysUnknown) as caught:
        keys.unread_keyring(OPEN).identify({})
    assert caught.value.http_status == 503
    assert keys.unread_keyring(LOCKED).identify(bearer("the-master-key")) is MASTER


def test_the_key_of_the_figures_opens_them_and_nothing_else(session: Session) -> None:
    settings = Settings(
        api_key=SecretStr("the-master-key"), metrics_key=SecretStr("the-figures-key")
    )
    for ring in (keys.unread_keyring(settings), take(session, settings)):
        assert ring.identify(bearer("the-figures-key"), METRICS).scopes == {METRICS}
        assert ring.identify(bearer("the-figures-key"), GATEWAY, METRICS).key_id is None
        for scope in SCOPES.keys() - {METRICS}:
            with pytest.raises(Forbidden, match="FLYWHEEL_METRICS_KEY"):
                ring.identify(bearer("the-figures-key"), scope)
        assert ring.identify(bearer("the-master-key"), METRICS) is MASTER
    with pytest.raises(NotAuthorised):
        take(session, LOCKED).identify(bearer("the-figures-key"), METRICS)
    assert "the-figures-key" not in repr(settings)


def test_a_key_ends_when_it_expires_is_revoked_or_rotated(session: Session) -> None:
    _, expiring = create_key(session, "expiring", expires_at=now() + timedelta(minutes=1))
    _, revoked = create_key(session, "revoked")
    _, old = create_key(session, "rotated")
    before = take(session, OPEN)
    assert [before.identify(bearer(key)).name for key in (expiring, revoked, old)] == [
        *("expiring", "revoked", "rotated"),
    ]
    first = keys.revoke_key(session, "revoked").revoked_at
    assert keys.revoke_key(session, "revoked").revoked_at == first
    row, new = keys.rotate_key(session, "rotated")
    assert new.startswith(row.prefix)
    row = keys.get_key(session, "expiring")
    row.expires_at = now() - timedelta(seconds=1)
    session.flush()
    after = take(session, OPEN)
    assert after.identify(bearer(new)).name == "rotated"
    says = ("'expiring' ended at 20", "'revoked' was revoked", "no valid API key given")
    for key, words in zip((expiring, revoked, old), says, strict=True):
        with pytest.raises(NotAuthorised, match=words):
            after.identify(bearer(key))
    with pytest.raises(NotAuthorised, match="'expiring' ended at 20"):
        replace(before, callers={d: replace(c, expires_at=now()) for d, c in
                                 before.callers.items()}).identify(bearer(expiring))  # fmt: skip
    stale = Keyring({"h": before.identify(bearer(expiring))}, 1, known=True)
    assert stale.callers["h"].expires_at is not None, "an old picture knows when it ends, too"
    with pytest.raises(Conflict):
        keys.rotate_key(session, "revoked")


def test_scopes(session: Session) -> None:
    create_key(session, "narrow", roles=["coder"], projects=["shop"])
    create_key(session, "two", projects=["shop", "blog"])
    _, narrow, two = 0, *(take(session).callers[keys.get_key(session, n).key_hash]
                          for n in ("narrow", "two"))  # fmt: skip
    narrow.require_role("coder")
    with pytest.raises(Forbidden, match="role of key 'narrow': got 'tester'") as caught:
        narrow.require_role("tester")
    assert caught.value.http_status == 403
    assert narrow.project(None) == narrow.project("shop") == "shop"
    assert two.project("blog") == "blog"
    for caller, said in ((narrow, "blog"), (two, None), (two, "")):
        with pytest.raises(Forbidden, match="project of key"):
            caller.project(said)
    two.require_role("tester")
    assert LOCAL.project(None) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": "a b"}, {"name": "-a"}, {"name": "a" * 65}, {"name": "a\x00"},
        {"kind": "operator"}, {"roles": ["nobody"]}, {"roles": ["analysis"]},
        {"projects": ["a\nb"]}, {"projects": [""]}, {"expires_at": now()},
    ],
    ids=lambda fields: "-".join(f"{name} {str(said)[:9]!r}" for name, said in fields.items()),
)  # fmt: skip
def test_bad_keys_are_refused(session: Session, fields) -> None:
    with pytest.raises(BadInput):
        create_key(session, **{"name": "ci", **fields})
    assert keys.list_keys(session) == []


@pytest.mark.parametrize("value", [0, -1, True])
def test_bad_limits_are_refused(value: int) -> None:
    with pytest.raises(BadInput, match="requests_per_minute"):
        KeyLimits(requests_per_minute=value)


def test_a_name_is_taken_once_and_unknown_names_are_said(session: Session) -> None:
    create_key(session, "ci")
    with pytest.raises(Conflict):
        create_key(session, "ci")
    assert [row.name for row in keys.list_keys(session)] == ["ci"]
    with pytest.raises(NotFound, match="flywheel key list"):
        keys.revoke_key(session, "cd")
