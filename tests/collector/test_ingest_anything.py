"""Whatever is sent, the API answers for each record and stores the good ones exactly once."""

import json
from collections import Counter

import orjson
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from sqlmodel import Session, select

from collector.record import interaction_record
from collector.tables import Interaction, InteractionPayload
from flywheel.app import create_app
from foundation.ids import new_id

QUIET = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NDJSON = {"content-type": "application/x-ndjson"}

names = st.sampled_from(
    "id role request response attributes started_at latency_ms scrub source status kind value text "
    "gen_ai_usage_input_tokens episode_id completed unknown".split()
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["coder", "2026-01-01T00:00:00Z", "\x00", "sk-ant-api03-" + "a1B2" * 8]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
records = st.dictionaries(names, values, max_size=6) | values


def good():
    request = {"model": "m", "messages": [{"role": "user", "content": "write f"}]}
    return interaction_record(new_id(), "coder", request, None)


@pytest.fixture
def client(session: Session) -> TestClient:
    # An error of ours is raised, and fails the test.
    return TestClient(create_app(), "http://127.0.0.1")


@QUIET
@given(bad=st.lists(records, max_size=4), as_lines=st.booleans(), broken=st.binary(max_size=30))
def test_each_record_is_answered_and_the_good_ones_are_stored_once(
    client: TestClient, session: Session, bad, as_lines, broken
):
    kept = [good(), good()]
    batch = [kept[0], *bad, kept[1], kept[0]]
    if as_lines:
        written = [json.dumps({"kind": "interaction", "record": record}) for record in batch]
        extra = broken.replace(b"\n", b"") or b"x"
        body = b"\n".join([b'{"source": "t"}', *(text.encode() for text in written), extra])
        answer = client.post("/v1/ingest", content=body, headers=NDJSON)
        expected = len(batch) + (not extra.isspace())
    else:
        body = json.dumps({"source": "t", "interactions": batch}).encode()
        answer = client.post("/v1/ingest", content=body)
        expected = len(batch)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == expected
    assert {result["status"] for result in results} <= {"stored", "duplicate", "rejected"}
    assert (results[0]["status"], results[len(batch) - 1]["status"]) == ("stored", "duplicate")
    session.rollback()
    ids = Counter(str(one) for one in session.exec(select(Interaction.id)))
    payloads = Counter(str(one) for one in session.exec(select(InteractionPayload.id)))
    assert ids == payloads
    assert [ids[record["id"]] for record in kept] == [1, 1]


@QUIET
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from(["application/json", *NDJSON.values()]),
)
def test_no_bytes_are_an_error_of_ours(client: TestClient, body, content_type):
    answer = client.post("/v1/ingest", content=body, headers={"content-type": content_type})
    assert answer.status_code in (200, 400, 413)
    assert orjson.loads(answer.content)


ROUTES = (
    "/v1/ingest",
    "/v1/ingest/counts",
    "/v1/ingest/reconciliation",
    "/v1/feedback",
    "/v1/dead-letters",
    "/v1/dead-letters/{letter_id}/replay",
    "/v1/media/{content_hash}",
    "/metrics",
)


HERE = {"host": "127.0.0.1"}
APP = create_app()
DESCRIBED = schemathesis.openapi.from_dict(APP.openapi()).include(path=list(ROUTES))
DESCRIBED.app = APP
OPERATIONS = [found.ok() for found in DESCRIBED.get_all_operations()]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
@settings(QUIET, max_examples=20)
@given(data=st.data())
def test_what_the_description_allows_is_no_error_of_ours(database: str, operation, data):
    case = data.draw(operation.as_strategy())
    case.call_and_validate(checks=[not_a_server_error], headers=HERE)
