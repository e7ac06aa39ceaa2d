"""Feedback, metrics and results of CI through the service, as any client would send them."""

import hmac
import json
from collections.abc import Iterator
from hashlib import sha256

import pytest
from fastapi.testclient import TestClient
from feedback_records import call, said, store, targets
from sqlmodel import Session, col, select

from collector.feedback.ci import read_github
from collector.feedback.metrics import declare, normalised
from collector.tables import Feedback
from flywheel.app import create_app
from foundation.errors import BadInput, BadSetting
from foundation.ids import keyed_episode_id, new_id
from foundation.settings import get_settings

URL = "/v1/feedback"
REPORT = b"""<testsuite name="s"><testcase name="a"/><testcase name="b"><failure message="no"/>
</testcase></testsuite>"""


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    with TestClient(create_app(), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def rows(session: Session):
    session.rollback()
    session.expire_all()
    return list(session.exec(select(Feedback).order_by(col(Feedback.id))).all())


KINDS = [
    {"kind": "rating", "value": 4},
    {"kind": "success", "value": 1},
    {"kind": "metric", "name": "lines", "value": -3.5},
    {"kind": "category", "name": "verdict", "text": "approve"},
    {"kind": "comment", "text": "good"},
    {"kind": "correction", "text": "x = 1"},
    {"kind": "preference", "loser_interaction_key": "other"},
]


@pytest.mark.parametrize("statement", KINDS, ids=lambda one: one["kind"])
@pytest.mark.parametrize("name", ["interaction_id", "interaction_key", "response_id"])
def test_every_kind_by_every_name_of_a_call_before_its_record(client, session, statement, name):
    record = call(key="mine", gen_ai_response_id="theirs")
    names = {"interaction_id": record["id"], "interaction_key": "mine", "response_id": "theirs"}
    answer = client.post(URL, json=statement | {name: names[name]})
    assert answer.status_code == 200, answer.text
    assert [one["status"] for one in answer.json()["results"]] == ["stored"]
    store(session, [record])
    assert targets(session) == [record["id"]]


@pytest.mark.parametrize("statement", KINDS[:-1], ids=lambda one: one["kind"])
def test_every_kind_on_an_episode(client, session, statement):
    episode = new_id()
    answer = client.post(
        URL,
        json=[
            statement | {"episode_id": str(episode)},
            statement | {"episode_key": "PR-1", "project": "p"},
        ],
    )
    assert [one["status"] for one in answer.json()["results"]] == ["stored", "stored"]
    assert {one.episode_id for one in rows(session)} == {episode, keyed_episode_id("p", "PR-1")}


def test_each_of_a_list_is_answered_alone(client, session):
    good = {"kind": "success", "value": 1, "episode_key": "k"}
    answer = client.post(
        URL,
        content=json.dumps([good, good | {"value": 2}, 7, good | {"colour": "red"}, good]) + " ",
    )
    assert answer.status_code == 200
    statuses = [one["status"] for one in answer.json()["results"]]
    assert statuses == ["stored", "rejected", "rejected", "rejected", "stored"]
    assert len(rows(session)) == 2


def test_one_alone_that_is_rejected_is_an_error(client):
    answer = client.post(URL, json={"kind": "rating", "value": 6, "episode_key": "k"})
    assert answer.status_code == 422
    assert "1 to 5" in answer.json()["results"][0]["reason"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"nothing"])
def test_what_is_no_json_is_refused(client, body):
    answer = client.post(URL, content=body)
    assert answer.status_code == 400
    assert "expected JSON" in answer.json()["error"]["message"]


def test_too_much_is_refused(client, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_MAX_BATCH_BYTES", "2048")
    get_settings.cache_clear()
    for path in (URL, f"{URL}/ci/junit?episode_key=k", f"{URL}/ci/github"):
        answer = client.post(path, content=b"x" * 3000)
        assert answer.status_code == 413, path
        assert "2048" in answer.text


def test_the_same_id_or_key_stores_once(client, session):
    statement = {"kind": "comment", "text": "good", "episode_key": "k"}
    named = statement | {"id": str(new_id())}
    keyed = {"Idempotency-Key": "job-7"}
    for expected in ("stored", "duplicate"):
        answers = [
            client.post(URL, json=named),
            client.post(URL, json=[statement, statement], headers=keyed),
        ]
        assert [one["status"] for a in answers for one in a.json()["results"]] == [expected] * 3
    assert len(rows(session)) == 3


@pytest.mark.parametrize("name", ["interaction_key", "response_id", "episode_key", "project"])
def test_a_name_that_no_database_can_hold_is_refused(client, name):
    answer = client.get(URL, params={"interaction_key": "k", name: "a\0b"})
    assert answer.status_code == 400
    assert name in answer.text


def test_what_was_said_is_read_back(client, session):
    episode = new_id()
    record = call(key="k", gen_ai_response_id="r", episode_id=episode)
    store(
        session,
        [record],
        [
            said(interaction_key="k"),
            said("comment", episode_id=episode, text="whole", value=None),
            said(response_id="not here yet"),
            said(episode_key="another"),
        ],
    )

    def texts(**about):
        found = client.get(URL, params=about)
        assert found.status_code == 200, found.text
        return [(one["kind"], one["text"]) for one in found.json()]

    for about in ({"interaction_id": record["id"]}, {"interaction_key": "k"}, {"response_id": "r"}):
        assert texts(**about) == [("success", None)]
    assert texts(episode_id=episode) == [("success", None), ("comment", "whole")]
    assert texts(response_id="not here yet") == [("success", None)]
    assert texts(interaction_key="k", project="other") == []
    assert client.get(URL).status_code == 400


# Metrics


def test_a_declared_metric_is_held_to_its_range(client, session):
    declared = {"direction": "max", "low": 0, "high": 1}
    assert client.put(f"{URL}/metrics/coverage", json=declared).status_code == 200
    about = {"kind": "metric", "name": "coverage", "episode_key": "k"}
    answer = client.post(URL, json=[about | {"value": v} for v in (0, 1, 1.01, -0.01)])
    results = answer.json()["results"]
    assert [one["status"] for one in results] == ["stored", "stored", "rejected", "rejected"]
    assert results[2]["reason"] == "out_of_range: metric 'coverage' got 1.01, expected 0 to 1"
    client.post(URL, json=about | {"name": "lines", "value": 1e9})
    listed = {one["name"]: one for one in client.get(f"{URL}/metrics").json()}
    assert (listed["coverage"]["direction"], listed["coverage"]["n"]) == ("max", 2)
    assert (listed["lines"]["direction"], listed["lines"]["highest"]) == (None, 1e9)
    assert client.delete(f"{URL}/metrics/coverage").status_code == 204
    assert client.post(URL, json=about | {"value": 7}).status_code == 200
    assert client.delete(f"{URL}/metrics/coverage").status_code == 404


@pytest.mark.parametrize(
    "declared",
    [
        {"direction": "up"},
        {"direction": "max", "low": 1, "high": 1},
        {"direction": "min", "low": 2, "high": 1},
    ],
)
def test_a_declaration_without_sense_is_refused(client, declared):
    answer = client.put(f"{URL}/metrics/m", json=declared)
    assert answer.status_code == 400
    assert "metric m" in answer.json()["error"]["message"]


def test_normalised_values(session: Session):
    latency = declare(session, "latency", "min", 0, 200)
    assert [normalised(v, latency) for v in (0, 50, 200, 900)] == [1.0, 0.75, 0.0, 0.0]
    again = declare(session, "latency", "max", -1, 1)
    assert [normalised(v, again) for v in (-1, 0, 1)] == [0.0, 0.5, 1.0]
    assert normalised(3, declare(session, "open", "max", low=0)) is None
    with pytest.raises(BadInput, match="nan"):
        declare(session, "m", "max", low=float("nan"))


# Continuous integration


def test_a_report_becomes_two_statements_once(client, session):
    path = f"{URL}/ci/junit"
    for status in ("stored", "duplicate"):
        answer = client.post(path, content=REPORT, params={"episode_key": "PR-12"})
        assert [one["status"] for one in answer.json()["results"]] == [status] * 2
    headers = {"X-Flywheel-Episode-Key": "PR-12", "X-Flywheel-Project": "p"}
    assert (
        client.post(path, content=REPORT, headers=headers).json()["results"][0]["status"]
        == "stored"
    )
    found = rows(session)
    assert {one.episode_id for one in found} == {
        keyed_episode_id("default", "PR-12"),
        keyed_episode_id("p", "PR-12"),
    }
    success = next(one for one in found if one.kind == "success")
    assert (success.value, success.source, success.actor) == (0.0, "test", "junit")
    assert success.details["failing"] == [{"name": "b", "message": "no"}]
    ratio = next(one for one in found if one.kind == "metric")
    assert (ratio.name, ratio.value) == ("tests_passed_ratio", 0.5)


def test_a_report_is_scrubbed(client, session):
    secret = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
    body = REPORT.replace(b'message="no"', f'message="token {secret}"'.encode())
    client.post(f"{URL}/ci/junit", content=body, params={"interaction_key": "k"})
    kept = json.dumps([one.details for one in rows(session)])
    assert secret not in kept
    assert "token <" in kept


@pytest.mark.parametrize(
    ("body", "params", "status"),
    [
        (REPORT, {}, 400),
        (REPORT, {"interaction_id": "x"}, 422),
        (b"<testsuite", {"episode_key": "k"}, 400),
        (b"<testsuite/>", {"episode_key": "k"}, 422),
        (b"", {"episode_key": "k"}, 400),
    ],
)
def test_a_bad_report_is_refused(client, session, body, params, status):
    assert client.post(f"{URL}/ci/junit", content=body, params=params).status_code == status
    assert rows(session) == []


def test_test_results_of_a_testers_turn_credit_the_coder(client, session):
    episode = new_id()
    coder, tester = call(episode_id=episode), call("tester", episode_id=episode)
    store(session, [coder, tester])
    client.post(f"{URL}/ci/junit", content=REPORT, params={"interaction_id": tester["id"]})
    (credit,) = [one for one in rows(session) if one.derived_from is not None]
    assert (str(credit.interaction_id), credit.value, credit.source) == (coder["id"], 0.0, "role")


CHECK = {
    "action": "completed",
    "check_run": {
        "id": 7,
        "name": "unit",
        "head_sha": "c0ffee",
        "status": "completed",
        "conclusion": "success",
        "completed_at": "2026-03-02T10:00:00Z",
    },
    "repository": {"full_name": "o/r"},
}


def signed(body: bytes, secret: str = "s3cret"):
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()}


def test_githubs_check_names_the_commit(client, session):
    body = json.dumps(CHECK)
    for status in ("stored", "duplicate"):
        answer = client.post(f"{URL}/ci/github", content=body)
        assert [one["status"] for one in answer.json()["results"]] == [status]
    client.post(f"{URL}/ci/github", content=body.replace('"id": 7', '"id": 8'),
                params={"subject": "interaction_key", "project": "p"})  # fmt: skip
    by_commit, by_key = sorted(rows(session), key=lambda one: one.interaction_key or "")
    assert by_commit.episode_id == keyed_episode_id("default", "c0ffee")
    assert (by_commit.value, by_commit.source, by_commit.actor) == (1.0, "test", "unit")
    assert (by_key.interaction_key, by_key.project) == ("c0ffee", "p")


def test_what_says_nothing_is_answered_with_the_reason(client, session):
    neutral = json.loads(json.dumps(CHECK))
    neutral["check_run"]["conclusion"] = "neutral"
    answer = client.post(f"{URL}/ci/github", json=neutral)
    assert (answer.status_code, answer.json()["results"]) == (200, [])
    assert "neutral" in answer.json()["ignored"]
    other = client.post(f"{URL}/ci/github", json=CHECK, params={"check": "lint"})
    assert "'unit'" in other.json()["ignored"]
    assert rows(session) == []


def test_githubs_signature_is_the_key_of_its_path_only(session, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_API_KEY", "key")
    monkeypatch.setenv("FLYWHEEL_GITHUB_SECRET", "s3cret")
    get_settings.cache_clear()
    body = json.dumps(CHECK).encode()
    with TestClient(create_app(), "http://127.0.0.1") as client:

        def status(path: str, headers: dict[str, str]) -> int:
            return client.post(path, content=body, headers=headers).status_code

        assert status(f"{URL}/ci/github", signed(body)) == 200
        assert status(f"{URL}/ci/github", signed(body, "guess")) == 401
        assert status(f"{URL}/ci/github", {"Authorization": "Bearer key"}) == 401
        assert status(f"{URL}/ci/junit?episode_key=k", signed(body)) == 401
        assert status(URL, signed(body)) == 401
    (one,) = rows(session)  # by an id that nobody without the secret can foresee
    assert str(one.id) != read_github(body).statement({})["id"]


def test_without_a_secret_github_needs_the_key(session, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_API_KEY", "key")
    get_settings.cache_clear()
    body = json.dumps(CHECK).encode()
    with TestClient(create_app(), "http://127.0.0.1") as client:
        assert client.post(f"{URL}/ci/github", content=body).status_code == 401
        headers = {"Authorization": "Bearer key"}
        assert client.post(f"{URL}/ci/github", content=body, headers=headers).status_code == 200


def test_rules_that_make_no_sense_stop_the_service_at_its_start(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("FLYWHEEL_CREDIT_RULES", str(tmp_path / "none.yaml"))
    get_settings.cache_clear()
    with pytest.raises(BadSetting, match="FLYWHEEL_CREDIT_RULES"):
        create_app()
