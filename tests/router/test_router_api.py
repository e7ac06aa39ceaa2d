"""The router's routes: a person starts, stops, promotes and rolls back, each with a reason."""

from uuid import UUID

import pytest

from foundation.tables import now
from router.experiment import get_experiment
from router.promote import initial


def test_from_first_version_to_rollback(client, session, make_version) -> None:
    for _ in range(2):
        make_version(kind="external", base_model="gpt")
    session.commit()
    assert client.get("/v1/roles/coder/serving").json()["model_version"] is None
    say = {"reason": "first"}
    first = client.post("/v1/roles/coder/promote", json={"version": "coder-v1", **say})
    assert first.json()["kind"] == "initial"
    second = client.post("/v1/roles/coder/promote", json={"version": "coder-v2", **say})
    assert (second.json()["kind"], second.json()["actor"]) == ("promote", "admin")
    again = client.post("/v1/roles/coder/promote", json={"version": "coder-v2", **say})
    assert again.status_code == 409
    back = client.post("/v1/roles/coder/rollback", json={"reason": "errors", "actor": "ada"})
    assert (back.json()["kind"], back.json()["actor"]) == ("rollback", "ada")
    assert client.get("/v1/roles/coder/serving").json()["model_version"]["name"] == "coder-v1"


def test_an_experiment_by_hand(client, session, make_version) -> None:
    initial(session, "coder", make_version())
    make_version()
    session.commit()
    wanted = {"role": "coder", "treatment": "coder-v2", "profile": "demo", "plan": {"alpha": 0.01}}
    started = client.post("/v1/experiments", json=wanted)
    assert started.status_code == 201
    assert started.json()["plan"]["alpha"] == 0.01
    identifier = started.json()["id"]
    assert client.get("/v1/roles/coder/serving").json()["experiment_id"] == identifier
    assert [row["id"] for row in client.get("/v1/experiments?role=coder").json()] == [identifier]
    assert client.get(f"/v1/experiments/{identifier}").json()["e_value"] == 1.0
    assert client.post("/v1/experiments", json=wanted).status_code == 409
    stopped = client.post(f"/v1/experiments/{identifier}/stop", json={"reason": "freeze"})
    assert stopped.json()["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/experiments", {"role": "coder", "treatment": "nobody"}, 404),
        ("/v1/experiments", {"role": "coder", "treatment": "x", "plan": {"alfa": 1}}, 400),
        ("/v1/experiments", {"role": "coder", "treatment": "x", "plan": {"alpha": "1"}}, 400),
        ("/v1/roles/painter/promote", {"version": "coder-v1", "reason": "r"}, 404),
        ("/v1/roles/coder/rollback", {"reason": "r"}, 404),
        ("/v1/roles/coder/rollback", {"reason": ""}, 422),
    ],
)
def test_what_cannot_be_done_is_said(client, session, make_version, path, body, status) -> None:
    make_version()
    session.commit()
    answer = client.post(path, json=body)
    assert answer.status_code == status


def test_unknown_ids_are_not_found(client) -> None:
    assert client.get("/v1/roles/painter/serving").status_code == 404
    missing = "/v1/experiments/01890000-0000-7000-8000-000000000000"
    assert client.get(missing).status_code == 404


def test_what_is_proposed_is_accepted_by_one_call(client, session, make_version) -> None:
    initial(session, "coder", make_version(kind="external"))
    make_version(kind="external")
    session.commit()
    policy = client.put("/v1/roles/coder/policy", json={"auto_promote": "assisted", "actor": "ada"})
    assert (policy.json()["auto_promote"], policy.json()["actor"]) == ("assisted", "ada")
    assert client.get("/v1/roles/coder/policy").json() == policy.json()
    wanted = {"role": "coder", "treatment": "coder-v2", "profile": "demo"}
    identifier = client.post("/v1/experiments", json=wanted).json()["id"]
    early = client.post(f"/v1/experiments/{identifier}/accept", json={})
    assert early.status_code == 409
    running = get_experiment(session, UUID(identifier))
    running.proposed_at = now()
    session.add(running)
    session.commit()
    accepted = client.post(f"/v1/experiments/{identifier}/accept", json={"actor": "ada"}).json()
    assert (accepted["outcome"], accepted["actor"]) == ("promoted", "ada")
    assert client.get("/v1/roles/coder/serving").json()["model_version"]["name"] == "coder-v2"


def test_an_outlook_says_what_could_be_shown(client, session, make_version) -> None:
    initial(session, "coder", make_version())
    session.commit()
    said = client.get("/v1/roles/coder/outlook?baseline=0.85").json()
    assert [size["effect"] for size in said["sizes"]] == [0.02, 0.05, 0.1]
    assert any("offline replay" in sentence for sentence in said["advice"])
    assert client.get("/v1/roles/coder/outlook?baseline=7").status_code == 400
    assert client.get("/v1/roles/painter/outlook").status_code == 404
