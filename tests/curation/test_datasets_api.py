"""The doors: the datasets API and the job behind it."""

from uuid import UUID

import pytest

from curation.api import BuildRequest, list_datasets, read_dataset, start_build
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from foundation.runs import execute


def test_a_build_is_queued_runs_and_is_listed(session, log):
    log.call("Say one", "one", passed=True)
    log.call("Say two", "two", passed=False)
    session.commit()
    run = start_build(BuildRequest(role="coder", recipe={"seed": 3}))
    assert (run["kind"], run["status"], run["role"]) == ("curation.build", "queued", "coder")
    done = execute(UUID(run["id"]))
    assert done is not None
    assert done.status == "done", done.error
    assert done.progress == {"done": 2, "total": 2, "unit": "interactions"}
    (row,) = list_datasets(role="coder", limit=10)
    assert row["id"] == done.result["dataset_id"]
    assert row["run_id"] == run["id"]
    assert "card" not in row
    assert list_datasets(role="tester", limit=10) == []
    dataset = read_dataset(UUID(row["id"]))
    assert dataset["card"]["recipe"]["seed"] == 3
    assert dataset["card"]["dropped_by_reason"] == {"failed_outcome": 1}


def test_bad_requests_queue_nothing(session, log):
    with pytest.raises(BadInput, match="curation recipe"):
        start_build(BuildRequest(role="coder", recipe={"colour": 1}))
    with pytest.raises(NotFound, match="role"):
        start_build(BuildRequest(role="cook"))
    with pytest.raises(NotFound, match="dataset"):
        read_dataset(new_id())
