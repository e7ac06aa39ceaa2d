"""The doors: the datasets API and the job behind it."""

import io
import tempfile
import zipfile
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from published import add_example, published

from curation.api import BuildRequest, list_datasets, read_dataset, routes, start_build
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from foundation.runs import execute


@pytest.fixture
def client(session) -> TestClient:
    app = FastAPI()
    app.include_router(routes)
    return TestClient(app)


@pytest.fixture
def versions(session):
    add_example(session, "a", "b")
    session.flush()
    old, _ = published(session)
    add_example(session, "c", "d")
    session.flush()
    new, _ = published(session)
    session.commit()
    return old, new


def test_a_build_is_queued_runs_and_is_listed(session, log):
    log.call("Say one", "one", passed=True)
    log.call("Say two", "two", passed=False)
    run = start_build(BuildRequest(role="coder", recipe={"seed": 3}))
    assert (run["kind"], run["status"], run["role"]) == ("curation.build", "queued", "coder")
    done = execute(UUID(run["id"]))
    assert done is not None
    assert done.status == "done", done.error
    (row,) = list_datasets(role="coder", limit=10)
    assert row["id"] == done.result["dataset_id"]
    assert row["run_id"] == run["id"]
    assert "card" not in row
    assert list_datasets(role="tester", limit=10) == []
    dataset = read_dataset(UUID(row["id"]))
    assert dataset["card"]["recipe"]["seed"] == 3
    assert dataset["card"]["dropped_by_reason"] == {"failed_outcome": 1}


def test_bad_requests_queue_nothing(session):
    with pytest.raises(BadInput, match="curation recipe"):
        start_build(BuildRequest(role="coder", recipe={"colour": 1}))
    with pytest.raises(NotFound, match="role"):
        start_build(BuildRequest(role="cook"))
    with pytest.raises(NotFound, match="dataset"):
        read_dataset(new_id())


def test_a_card_is_a_page_that_may_run_nothing(client, versions):
    answer = client.get(f"/v1/datasets/{versions[1].id}/card")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "coder sft v2" in answer.text


def test_two_versions_are_compared(client, versions):
    old, new = versions
    found = client.get(f"/v1/datasets/{new.id}/diff", params={"with_id": str(old.id)}).json()
    assert (found["added"], found["removed"]) == (1, 0)
    assert found["new"]["number"] == 2


def test_a_version_is_downloaded_as_a_zip_and_nothing_is_left(
    client, versions, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer = client.get(f"/v1/datasets/{versions[1].id}/download", params={"format": "chat"})
    assert 'filename="coder-sft-v2-chat.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "train.jsonl" in archive.namelist()
        assert archive.read("train.jsonl").count(b"\n") == 2
    with pytest.raises(BadInput, match="format"):
        client.get(f"/v1/datasets/{versions[1].id}/download", params={"format": "dpo"})
    assert list(tmp_path.glob("flywheel-download-*")) == []
