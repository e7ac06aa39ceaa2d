"""Review over HTTP, as the admin pages and other programs use it."""

import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from review_rows import dataset, examples, items, pair
from review_rows import item as add_item
from sqlmodel import Session

from curation.review.api import routes
from curation.review.said import is_swapped
from foundation.errors import FlywheelError
from foundation.ids import new_id

URL = "/v1/review"


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(routes)
    app.add_exception_handler(
        FlywheelError,
        lambda _, error: JSONResponse({"message": str(error)}, status_code=error.http_status),
    )
    with TestClient(app) as client:
        yield client


def ask(client: TestClient, method: str, path: str, status: int = 200, **content):
    answer = client.request(method, f"{URL}{path}", **content)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def test_an_item_from_lease_to_undo(client, session):
    (only,) = items(session, 1)
    session.commit()
    card = ask(client, "POST", "/next", json={"reviewer": "ann", "role": "coder"})
    assert (card["item_id"], card["kind"], card["draft"]) == (str(only.id), "example", None)
    assert card["sides"][0]["answer"].startswith("total_0")
    path = f"/items/{card['item_id']}"
    draft = {"reviewer": "ann", "content": {"answer": "total = 0"}}
    ask(client, "PUT", f"{path}/draft", json=draft)
    again = ask(client, "POST", "/next", json={"reviewer": "ann"})
    assert again["draft"] == {"answer": "total = 0"}
    assert ask(client, "POST", "/next", json={"reviewer": "bob"}) is None
    edit = {"reviewer": "ann", "action": "edit", "value": {"answer": "total = 0"}}
    said = ask(client, "POST", f"{path}/label", 201, json=edit)
    assert said["value"]["diff"].startswith("@@")
    seen = ask(client, "GET", path, params={"reviewer": "ann"})
    assert [one["id"] for one in seen["labels"]] == [said["id"]]
    (line,) = client.get(f"{URL}/labels", params={"role": "coder"}).text.splitlines()
    assert json.loads(line)["id"] == said["id"]
    assert ask(client, "POST", "/undo", json={"reviewer": "ann"})["id"] == said["id"]
    ask(client, "POST", f"{path}/release", 204, json={"reviewer": "ann"})
    ask(client, "POST", f"{path}/skip", 201, json={"reviewer": "bob", "reason": "no time"})
    assert ask(client, "POST", "/next", json={"reviewer": "bob"}) is None


def test_the_answers_of_a_pair_come_without_names(client, session):
    made, *_ = pair(session)
    compared = add_item(session, made.id, kind="pair")
    session.commit()
    card = ask(client, "POST", "/next", json={"reviewer": "ann", "kind": "pair"})
    answers = [side["answer"] for side in card["sides"]]
    assert answers == (["bad", "good"] if is_swapped(compared.id, "ann") else ["good", "bad"])
    assert str(made.winner_id) not in json.dumps(card)
    assert card["signals"] == {}


def test_filling_assigning_and_proving(client, session):
    made = dataset(session, examples(session, 40, task_type="fix"))
    session.commit()
    plan = {"random_share": 0.25, "double_share": 0.0}
    counts = ask(client, "POST", "/fill", json={"role": "coder", "plan": plan})
    assert counts["random"] >= 10
    sample = ask(client, "GET", f"/datasets/{made.id}/sample", params={"share": 0.25})
    assert sample["drawn"]["holds"] is True
    assert sample["verified"]["share"] is None
    more = {"role": "coder", "filters": {"task_type": "fix"}, "limit": 5, "assigned_to": "ann"}
    assert ask(client, "POST", "/fill", json=more) == {"filter": 5}
    stats = ask(client, "GET", "/stats", params={"role": "coder"})
    assert sum(one["open"] for one in stats["waiting"]) >= 10
    assert stats["reviewers"][0]["n_assigned"] == 5
    assert stats["dataset"]["n_rows"] == 40
    (mine,) = [ask(client, "POST", "/next", json={"reviewer": "ann"})["item_id"]]
    assert ask(client, "POST", "/assign", json={"item_ids": [mine]}) == {"assigned": 1}
    assert ask(client, "POST", "/withdraw", json={"item_ids": [mine]}) == {"withdrawn": 1}


def test_agreement(client, session):
    (both,) = items(session, 1, n_wanted=2)
    session.commit()
    for name, action in (("ann", "accept"), ("bob", "reject")):
        said = {"reviewer": name, "action": action, "reason": "because"}
        ask(client, "POST", f"/items/{both.id}/label", 201, json=said)
    found = ask(client, "GET", "/agreement", params={"role": "coder"})
    assert (found["n_items"], found["percent"]) == (1, 0.0)
    assert found["disagreements"][0]["verdicts"] == {"ann": "accepted", "bob": "rejected"}


def test_mistakes_are_named(client, session):
    (only,) = items(session, 1)
    session.commit()
    path = f"/items/{only.id}/label"
    bad = ask(client, "POST", path, 400, json={"reviewer": "ann", "action": "praise"})
    assert "review action" in bad["message"]
    ask(client, "POST", path, 422, json={"reviewer": "ann", "action": "accept", "colour": 1})
    ask(client, "POST", path, 201, json={"reviewer": "ann", "action": "accept"})
    ask(client, "POST", path, 409, json={"reviewer": "bob", "action": "accept"})
    ask(client, "POST", "/undo", 404, json={"reviewer": "bob"})
    ask(client, "GET", f"/items/{new_id()}", 404, params={"reviewer": "ann"})
    ask(client, "GET", f"/datasets/{new_id()}/sample", 404)
    ask(client, "POST", "/fill", 400, json={"role": "coder", "plan": {"pool": 0}})
    ask(client, "POST", "/next", 400, json={"reviewer": " "})
    ask(client, "POST", "/next", 422, json={"reviewer": "ann", "lease_s": 0})
