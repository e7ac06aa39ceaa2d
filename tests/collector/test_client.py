import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from by_hand import wait_until
from fastapi import FastAPI
from sqlmodel import Session, select

from collector import api
from collector.client import Flywheel
from collector.direct import DirectTransport
from collector.ingest import ingest_counts
from collector.spool.inspection import inspect, total
from collector.streams import assemble
from collector.tables import Feedback, Interaction, InteractionPayload, SpoolAccount
from collector.transport import Refused, Unreachable
from foundation.errors import BadInput
from foundation.ids import keyed_episode_id, new_id

ROOT = Path(__file__).resolve().parents[2]
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "write f, jo@x.org"}]}
RESPONSE = {
    "id": "r1",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def spooled(client):
    """The records that wait, scrubbed; they stay."""
    batch = client.spool.take(1000)
    return list(batch.records) if batch else []


def inside(folder):
    """Every byte of the files in a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def client(tmp_path):
    flywheel = Flywheel(spool=tmp_path / "spool", role="coder")
    yield flywheel
    flywheel.close()


@contextmanager
def serving(app, port=0):
    """A real uvicorn on loopback; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def ingest_app():
    app = FastAPI()
    app.include_router(api.routes)
    return app


# The client alone


def test_import_is_light():
    source = """
    import sys
    before = set(sys.modules)
    import collector.client
    heavy = "torch sqlmodel celery litellm fastapi sqlalchemy pydantic pydantic_settings httpx"
    print([name for name in heavy.split() if name in sys.modules])
    print(len(set(sys.modules) - before))
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy, n_modules = output.stdout.splitlines()
    assert heavy == "[]"
    assert int(n_modules) < 300  # it loads 167; each costs an agent's start


def test_record_needs_a_role_and_feedback_a_subject(tmp_path):
    flywheel = Flywheel(spool=tmp_path)
    with pytest.raises(BadInput, match="role of a record"):
        flywheel.record(request=REQUEST)
    with pytest.raises(BadInput, match="subject of feedback"):
        flywheel.outcome(True)
    with pytest.raises(BadInput, match="kind of feedback"):
        flywheel.feedback("applause", interaction_id=new_id())
    with pytest.raises(BadInput, match="rating"):
        flywheel.rate(6, new_id())
    assert flywheel.counts()["seen"] == 0
    flywheel.close()


def test_without_a_url_records_wait_scrubbed_in_the_spool(client, tmp_path):
    identifier = client.record(request=REQUEST, response=RESPONSE, latency_ms=5)
    (line,) = spooled(client)
    record = line["record"]
    assert record["id"] == str(identifier)
    assert record["role"] == "coder"
    assert record["gen_ai_usage_input_tokens"] == 3
    assert record["scrub"] == {"email": 1}
    assert b"jo@x.org" not in inside(tmp_path / "spool")
    assert client.flush(0.1) is False
    assert client.counts()["spooled"] == 1


def test_episode_and_roles_nest(client):
    with client.episode(task="add f", task_type="feature", unit="team-1", role="coordinator") as e:
        first = client.record(request=REQUEST)
        with client.as_role("tester", parent_id=first) as inner:
            client.record(request=REQUEST, task_type="unit-test")
            assert inner.id == e.id
        with client.episode(task="other") as other:
            client.record(request=REQUEST)
        client.outcome(False)
    client.record(request=REQUEST)
    records = [line["record"] for line in spooled(client)]
    assert [r.get("episode_id") for r in records] == [
        str(e.id), str(e.id), str(other.id), str(e.id), None,
    ]  # fmt: skip
    assert [r.get("role") for r in records] == [
        "coordinator", "tester", "coordinator", None, "coder",
    ]  # fmt: skip
    assert records[1]["parent_id"] == str(first)
    assert records[1]["task_type"] == "unit-test"
    assert records[0]["unit_id"] == "team-1"
    assert records[0]["attributes"] == {"task": "add f"}


def test_asyncio_tasks_keep_their_own_episode(client):
    @client.observe("reviewer")
    async def review(n):
        await asyncio.sleep(0)
        client.record(request=REQUEST, attributes={"n": n})

    async def agent(n):
        with client.episode(task=str(n)):
            await asyncio.gather(review(n), review(n))

    async def all_agents():
        await asyncio.gather(*(agent(n) for n in range(5)))

    asyncio.run(all_agents())
    episodes: dict = {}
    for line in spooled(client):
        record = line["record"]
        assert record["role"] == "reviewer"
        assert record["attributes"]["task"] == str(record["attributes"]["n"])
        episodes.setdefault(record["attributes"]["n"], set()).add(record["episode_id"])
    assert len({next(iter(ids)) for ids in episodes.values()}) == 5
    assert all(len(ids) == 1 for ids in episodes.values())


def test_observe_opens_an_episode_of_its_own(client):
    @client.observe("tester", task_type="unit-test")
    def work():
        return client.record(request=REQUEST)

    work()
    work()
    first, second = (line["record"] for line in spooled(client))
    assert first["role"] == "tester"
    assert first["task_type"] == "unit-test"
    assert first["episode_id"] != second["episode_id"]


def test_same_value_same_placeholder_within_an_episode(client):
    def ask(text):
        client.record(request={"messages": [{"role": "user", "content": text}]})

    with client.episode():
        ask("a@x.org")
        ask("b@x.org and a@x.org")
    texts = [line["record"]["request"]["messages"][0]["content"] for line in spooled(client)]
    assert texts == ["<EMAIL_1>", "<EMAIL_2> and <EMAIL_1>"]


def test_our_own_faults_are_counted_and_not_raised(client):
    class Broken:
        def model_dump(self):
            raise RuntimeError("broken")

    client.record(request=REQUEST, response=Broken())
    deep: object = "x"
    for _ in range(5000):
        deep = [deep]
    client.record(request={"messages": deep})
    assert client.counts()["dropped"] == {"client_error": 2}
    client.record(request={"x": "\x00\ud800", "n": float("nan"), "o": object}, response=RESPONSE)
    (line,) = spooled(client)
    assert line["record"]["request"]["x"] == "\ufffd\ufffd"
    assert line["record"]["request"]["n"] == "nan"


# With a service


def test_records_and_feedback_reach_the_database(session: Session, tmp_path):
    with serving(ingest_app()) as url:
        flywheel = Flywheel(url, spool=tmp_path, role="coder", project="p")
        with flywheel.episode(task_type="feature"):
            good = flywheel.record(request=REQUEST, response=RESPONSE)
            flywheel.outcome(True, good)
            flywheel.correct("better", good)
        bad = flywheel.record(request=REQUEST, role="wizard")
        assert flywheel.flush(20)
        counts = flywheel.counts()
        assert (counts["seen"], counts["delivered"], counts["rejected"]) == (4, 4, 1)
        served = httpx.get(f"{url}/v1/ingest/counts").json()
        flywheel.close()
    (aside,) = (tmp_path / "rejected").iterdir()
    refused = json.loads(json.loads(aside.read_text())["record"])
    assert refused["record"]["id"] == str(bad)
    assert inspect(tmp_path) == []
    assert served[0]["counts"] == {"stored": 3, "rejected:unknown_role": 1}
    (row,) = session.exec(select(Interaction)).all()
    assert (row.id, row.project, row.task_type) == (good, "p", "feature")
    assert "<EMAIL_1>" in session.get(InteractionPayload, good).request["messages"][0]["content"]
    assert {f.kind for f in session.exec(select(Feedback))} == {"success", "correction"}


def test_an_absent_server_costs_nothing_but_time(session: Session, tmp_path):
    with serving(ingest_app()) as url:
        pass  # the port is free again, and nobody listens
    flywheel = Flywheel(url, spool=tmp_path, role="coder")
    for _ in range(20):
        flywheel.record(request=REQUEST, response=RESPONSE)
    assert flywheel.flush(0.5) is False
    assert total(inspect(tmp_path)).waiting == 20
    with serving(ingest_app(), port=int(url.rpartition(":")[2])):
        assert flywheel.flush(60)
    flywheel.close()
    assert len(session.exec(select(Interaction)).all()) == 20


def test_a_batch_refused_whole_is_split_until_the_faulty_record_stands_alone(
    session: Session, tmp_path
):
    class Picky(DirectTransport):
        """Refuses batches that hold a record of a certain size, as a proxy's limit does."""

        def send_lines(self, head, lines):
            if sum(map(len, lines)) > 20_000:
                raise Refused("413: too large")
            return super().send_lines(head, lines)

    flywheel = Flywheel(spool=tmp_path, role="coder", transport=Picky())
    for size in (10, 10, 30_000, 10, 10):
        flywheel.record(request={"x": "a" * size})
    assert flywheel.flush(20)
    counts = flywheel.counts()
    assert (counts["seen"], counts["delivered"], counts["held"]) == (5, 4, 1)
    flywheel.close()
    (left,) = inspect(tmp_path)
    assert (left.books["held"], left.difference) == (1, 0)
    assert len(session.exec(select(Interaction)).all()) == 4


def test_a_lost_answer_of_the_server_doubles_nothing(session: Session, tmp_path):
    class Forgetful(DirectTransport):
        """Stores the first batch and then fails to say so."""

        first = True

        def send_lines(self, head, lines):
            results = super().send_lines(head, lines)
            if self.first and lines:
                self.first = False
                raise Unreachable("connection reset")
            return results

    flywheel = Flywheel(spool=tmp_path, role="coder", transport=Forgetful())
    for _ in range(5):
        flywheel.record(request=REQUEST)
    assert flywheel.flush(20)
    flywheel.close()
    assert len(session.exec(select(Interaction)).all()) == 5
    assert ingest_counts(session)[0].counts["duplicate"] >= 1


def test_killed_client_loses_nothing(session: Session, tmp_path):
    source = """
    import sys
    from collector.client import Flywheel
    flywheel = Flywheel(spool=sys.argv[1], role="coder")
    request = {"messages": [{"role": "user", "content": "x" * 500}]}
    while True:
        print(flywheel.record(request=request), flush=True)
    """
    agent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    returned = [agent.stdout.readline().strip() for _ in range(300)]
    agent.send_signal(signal.SIGKILL)
    returned += agent.stdout.read().split("\n")[:-1]
    agent.stdout.close()
    agent.wait()
    with serving(ingest_app()) as url:
        successor = Flywheel(url, spool=tmp_path, role="coder")
        successor.record(request=REQUEST)
        assert successor.flush(30)
        while total(inspect(tmp_path)).waiting:
            successor.sender.ship_once()
        successor.close()
    stored = {str(row) for row in session.exec(select(Interaction.id)).all()}
    assert {r for r in returned if len(r) == 36} <= stored
    assert len(stored) <= len(returned) + 2


def test_end_of_the_process_ships_what_waits(session: Session, tmp_path):
    source = """
    import sys
    from collector.client import Flywheel
    flywheel = Flywheel(sys.argv[1], spool=sys.argv[2], role="coder")
    for _ in range(10):
        flywheel.record(request={"messages": []})
    """
    with serving(ingest_app()) as url:
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), url, str(tmp_path)],
            cwd=ROOT, check=True,
        )  # fmt: skip
    assert len(session.exec(select(Interaction)).all()) == 10
    assert os.listdir(tmp_path) == []


# Calls


def provider(gateway_id=None, cut=False):
    """A small OpenAI-shaped server; returns its app and the requests it saw."""

    class Provider(BaseHTTPRequestHandler):
        seen: list = []

        def log_message(self, *args):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.seen.append((dict(self.headers), body))
            if body["messages"][0]["content"] == "fail":
                self.send_response(500)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                return
            self.send_response(200)
            if gateway_id:
                self.send_header("x-flywheel-interaction-id", str(gateway_id))
            if not body.get("stream"):
                data = json.dumps(RESPONSE).encode()
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                return
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for index, word in enumerate(("one ", "two ", "three")):
                finish = "stop" if index == 2 else None
                part = {"index": 0, "delta": {"content": word}, "finish_reason": finish}
                chunk = {"id": "s1", "model": "m", "choices": [part]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                if cut and index == 1:
                    return
            self.wfile.write(b"data: [DONE]\n\n")

    return Provider


@contextmanager
def listening(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(client, url, content="hello", **rest):
    messages = [{"role": "user", "content": content}]
    return client.completion(messages=messages, base_url=url, **rest)


def test_completion_through_an_ordinary_server_is_logged(client):
    with listening(provider()) as url:
        answer = ask(client, url, model="m", temperature=0.5)
        with pytest.raises(httpx.HTTPStatusError):
            ask(client, url, "fail", model="m")
    assert answer.text == "ok"
    good, failed = (line["record"] for line in spooled(client))
    assert good["id"] == str(answer.interaction_id)
    assert good["gen_ai_request_temperature"] == 0.5
    assert good["latency_ms"] > 0
    assert (failed["status"], failed["completed"]) == ("error", False)
    assert failed["error_type"] == "HTTPStatusError"


def test_completion_through_our_gateway_is_not_logged_twice(client):
    identifier, handler = new_id(), None
    handler = provider(gateway_id=identifier)
    with listening(handler) as url, client.episode(task_type="fix", unit="u1") as episode:
        answer = ask(client, url)
        with ask(client, url, stream=True) as stream:
            assert len(list(stream)) == 3
    assert answer.interaction_id == stream.interaction_id == identifier
    assert spooled(client) == []
    headers, body = handler.seen[0]
    assert body["model"] == "role:coder"
    given = {name.lower(): value for name, value in headers.items()}
    assert given["x-flywheel-role"] == "coder"
    assert given["x-flywheel-episode"] == str(episode.id)
    assert given["x-flywheel-task-type"] == "fix"
    assert given["x-flywheel-unit"] == "u1"


def test_streams_are_logged_however_they_end(client):
    with listening(provider()) as url:
        whole = ask(client, url, model="m", stream=True)
        assert [c["choices"][0]["delta"]["content"] for c in whole] == ["one ", "two ", "three"]
        with ask(client, url, model="m", stream=True) as left:
            next(left)
        dropped = ask(client, url, model="m", stream=True)
        next(dropped)
        del dropped
    with listening(provider(cut=True)) as url, pytest.raises(httpx.RemoteProtocolError):
        list(ask(client, url, model="m", stream=True))
    records = [line["record"] for line in spooled(client)]
    texts = [r["response"]["choices"][0]["message"]["content"] for r in records]
    assert texts == ["one two three", "one ", "one ", "one two "]
    assert [r["status"] for r in records] == ["success", "cut", "cut", "cut"]
    assert [r.get("completed") for r in records] == [True, False, False, False]
    assert records[0]["gen_ai_response_finish_reasons"] == ["stop"]
    assert all(r["ttft_ms"] > 0 for r in records)


def test_assemble_joins_tool_calls():
    def part(**delta):
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    chunks = [
        part(role="assistant", content="\n\n"),
        part(
            tool_calls=[{"index": 0, "id": "c1", "function": {"name": "run", "arguments": '{"a"'}}]
        ),
        part(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "see", "arguments": "{}"}}]),
        part(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    ]
    answer = assemble(chunks)
    message = answer["choices"][0]["message"]
    assert [c["function"]["arguments"] for c in message["tool_calls"]] == ['{"a": 1}', "{}"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["usage"]["completion_tokens"] == 2
    assert assemble([]) is None


# Context


def test_generators_act_in_their_role_and_their_callers_do_not(client):
    @client.observe("tester")
    def steps():
        client.record(request=REQUEST)
        got = yield 1
        assert got == "sent"
        with client.as_role("reviewer"):
            yield 2
            client.record(request=REQUEST)
        client.record(request=REQUEST)
        return "done"

    with client.episode(role="coder") as episode:
        walk = steps()
        assert next(walk) == 1
        client.record(request=REQUEST)
        assert walk.send("sent") == 2
        client.record(request=REQUEST)
        with pytest.raises(StopIteration, match="done"):
            next(walk)
    records = [line["record"] for line in spooled(client)]
    assert [r["role"] for r in records] == ["tester", "coder", "coder", "reviewer", "tester"]
    assert {r["episode_id"] for r in records} == {str(episode.id)}


def test_async_generators_act_in_their_role_and_may_be_left_early(client):
    ended = []

    @client.observe("tester", task_type="unit-test")
    async def steps():
        try:
            for n in range(3):
                client.record(request=REQUEST, attributes={"n": n})
                yield n
        finally:
            client.record(request=REQUEST, attributes={"n": "end"})
            ended.append(True)

    async def agent():
        async for n in (walk := steps()):
            client.record(request=REQUEST)
            if n == 1:
                break
        await walk.aclose()

    asyncio.run(agent())
    records = [line["record"] for line in spooled(client)]
    assert [r["role"] for r in records] == ["tester", "coder", "tester", "coder", "tester"]
    assert ended == [True]
    assert len({r["episode_id"] for r in records if r["role"] == "tester"}) == 1
    assert all(r.get("episode_id") is None for r in records if r["role"] == "coder")


def test_errors_thrown_into_a_generator_reach_it(client):
    @client.observe("tester")
    def steps():
        try:
            yield 1
        except ValueError:
            client.record(request=REQUEST)
            yield 2

    walk = steps()
    assert next(walk) == 1
    assert walk.throw(ValueError()) == 2
    walk.close()
    (line,) = spooled(client)
    assert line["record"]["role"] == "tester"


def test_bound_functions_keep_the_episode_in_other_threads(client):
    def work(n):
        client.record(request=REQUEST, attributes={"n": n})

    with ThreadPoolExecutor(4) as pool:
        with client.episode(task="threads", role="tester") as episode:
            list(pool.map(client.bound(work), range(20)))
            pool.submit(work, 20).result()
    records = [line["record"] for line in spooled(client)]
    inside_it = [r for r in records if r.get("episode_id") == str(episode.id)]
    assert sorted(r["attributes"]["n"] for r in inside_it) == list(range(20))
    assert {r["role"] for r in inside_it} == {"tester"}
    (alone,) = [r for r in records if r not in inside_it]
    assert (alone["role"], alone.get("episode_id")) == ("coder", None)


def test_a_key_names_the_same_episode_everywhere(client):
    with client.episode(key="pull/7") as here:
        client.record(request=REQUEST, key="call-1")
    client.feedback("success", episode_key="pull/7", value=1, source="test")
    client.feedback("rating", interaction_key="call-1", value=4)
    client.feedback("rating", response_id="chatcmpl-1", value=4)
    with client.episode(key="pull/7") as again:
        assert again.id == here.id == keyed_episode_id("default", "pull/7")
    record, success, rating, other = (line["record"] for line in spooled(client))
    assert record["key"] == "call-1"
    assert record["episode_id"] == success["episode_id"] == str(here.id)
    assert rating["interaction_key"] == "call-1"
    assert other["response_id"] == "chatcmpl-1"
    assert "episode_id" not in rating


# Snapshots


def test_a_record_is_what_it_was_when_it_was_logged(client):
    messages = [{"role": "user", "content": "before"}]
    client.record(request={"model": "m", "messages": messages})
    messages[0]["content"] = "after"
    messages.append({"role": "user", "content": "later"})
    (line,) = spooled(client)
    assert line["record"]["request"]["messages"] == [{"role": "user", "content": "before"}]


def test_strange_values_are_kept_as_json_can(client):
    class Answer:
        def model_dump(self):
            return {"id": "r1", "created": datetime(2026, 1, 1, tzinfo=UTC), "score": float("inf")}

    moment = datetime(2026, 2, 3, tzinfo=UTC)
    client.record(
        request={"model": "m", 7: {"seven"}, ("a", "b"): b"bytes", "big": 10**30},
        response=Answer(),
        started_at=moment,
        parent_id=new_id(),
    )
    (line,) = spooled(client)
    record = line["record"]
    assert record["request"]["7"] == ["seven"]
    assert record["request"]["('a', 'b')"] == "bytes"
    assert record["response"]["created"] == "2026-01-01T00:00:00+00:00"
    assert record["response"]["score"] == "inf"
    assert record["started_at"] == moment.isoformat()


def test_nothing_is_seen_as_raw_once_the_client_is_closed(tmp_path):
    flywheel = Flywheel(spool=tmp_path, role="coder")
    flywheel.record(request=REQUEST)
    flywheel.close()
    flywheel.record(request=REQUEST)  # late, and kept all the same
    assert b"jo@x.org" not in inside(tmp_path)
    assert total(inspect(tmp_path)).waiting == 2


def test_environment_sets_the_policies(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_FSYNC", "always")
    monkeypatch.setenv("FLYWHEEL_SPOOL_MAX_BYTES", "5000")
    monkeypatch.setenv("FLYWHEEL_SPOOL_DROP", "oldest")
    spool = Flywheel(spool=tmp_path).spool
    assert (spool.fsync, spool.max_bytes, spool.drop_policy) == ("always", 5000, "oldest")
    monkeypatch.setenv("FLYWHEEL_SPOOL_MAX_BYTES", "much")
    with pytest.raises(BadInput, match="FLYWHEEL_SPOOL_MAX_BYTES"):
        Flywheel(spool=tmp_path)
    monkeypatch.delenv("FLYWHEEL_SPOOL_MAX_BYTES")
    monkeypatch.setenv("FLYWHEEL_FSYNC", "now and then")
    with pytest.raises(BadInput, match="fsync policy"):
        Flywheel(spool=tmp_path)


def test_a_forked_child_logs_beside_its_parent(session: Session, tmp_path):
    source = """
    import os, sys
    from collector.client import Flywheel
    flywheel = Flywheel(sys.argv[1], spool=sys.argv[2], role="coder")
    flywheel.record(request={"messages": [], "n": "parent"})
    pid = os.fork()
    flywheel.record(request={"messages": [], "n": "child" if pid == 0 else "parent"})
    assert flywheel.flush(20)
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    with serving(ingest_app()) as url:
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source), url, str(tmp_path)],
            cwd=ROOT, check=True,
        )  # fmt: skip
        successor = Flywheel(url, spool=tmp_path, role="coder")
        successor.sender.ship_once()  # tells the books of the child, which did not say goodbye
        successor.close()
    rows = session.exec(select(InteractionPayload)).all()
    assert sorted(row.request["n"] for row in rows) == ["child", "parent", "parent"]
    accounts = session.exec(select(SpoolAccount)).all()
    assert sorted(account.seen for account in accounts) == [1, 2]
    assert all(account.delivered == account.seen for account in accounts)
    assert inspect(tmp_path) == []


# Async calls


async def gather_stream(client, url, leave_after=None, content="hello"):
    messages = [{"role": "user", "content": content}]
    async with await client.acompletion(
        messages=messages, base_url=url, model="m", stream=True
    ) as stream:
        async for _ in stream:
            if leave_after is not None:
                leave_after -= 1
                if not leave_after:
                    break
    return stream


def test_async_completions_are_logged_however_they_end(client):
    async def agent(url):
        answer = await client.acompletion(
            messages=[{"role": "user", "content": "hello"}], base_url=url, model="m"
        )
        assert answer.text == "ok"
        with pytest.raises(httpx.HTTPStatusError):
            await client.acompletion(
                messages=[{"role": "user", "content": "fail"}], base_url=url, model="m"
            )
        whole = await gather_stream(client, url)
        left = await gather_stream(client, url, leave_after=1)
        return answer.interaction_id, whole.interaction_id, left.interaction_id

    with listening(provider()) as url:
        ids = asyncio.run(agent(url))
    records = [line["record"] for line in spooled(client)]
    assert [r["status"] for r in records] == ["success", "error", "success", "cut"]
    assert [r["id"] for r in records if r["status"] != "error"] == [str(each) for each in ids]
    texts = [r["response"]["choices"][0]["message"]["content"] for r in records[2:]]
    assert texts == ["one two three", "one "]
    assert [r["completed"] for r in records] == [True, False, True, False]


def test_a_cancelled_call_is_logged_as_cut(client):
    asked, left = threading.Event(), threading.Event()

    class Slow(provider()):
        def do_POST(self):
            asked.set()
            left.wait(60)
            with suppress(ConnectionError):  # its caller has left
                super().do_POST()

    async def agent(url):
        with client.episode(task="cancelled") as episode:
            call = asyncio.create_task(
                client.acompletion(
                    messages=[{"role": "user", "content": "hello"}], base_url=url, model="m"
                )
            )
            await asyncio.to_thread(asked.wait, 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        left.set()
        return episode.id

    with listening(Slow) as url:
        episode = asyncio.run(agent(url))
    (line,) = spooled(client)
    assert line["record"]["status"] == "cut"
    assert line["record"]["episode_id"] == str(episode)


def test_a_stream_finished_outside_its_block_keeps_its_episode_and_task(client):
    with listening(provider()) as url:
        with client.episode(task="stream", task_type="t", unit="u") as episode:
            stream = ask(client, url, model="m", stream=True)
        assert len(list(stream)) == 3
    (line,) = spooled(client)
    record = line["record"]
    assert record["episode_id"] == str(episode.id)
    assert (record["task_type"], record["unit_id"]) == ("t", "u")
    assert record["attributes"] == {"task": "stream"}


# litellm


@pytest.mark.slow
def test_litellm_events_become_one_record_each(client):
    from collector.wrappers.litellm import litellm_callback
    from foundation.llm import _litellm

    litellm, callback = _litellm(), litellm_callback(client)
    connection = {"api_key": "none", "max_retries": 0}
    asked = [{"role": "user", "content": "hello"}]

    async def call_async(url):
        await litellm.acompletion(
            model="openai/m", messages=asked, api_base=url, **connection,
            metadata={"agent_role": "tester", "task_type": "t"},
        )  # fmt: skip
        stream = await litellm.acompletion(
            model="openai/m", messages=asked, api_base=url, stream=True, **connection
        )
        async for _ in stream:
            pass
        deadline = time.monotonic() + 60
        while client.counts()["spooled"] < 5 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)  # litellm tells of async calls in tasks of the loop
        await asyncio.sleep(0.5)  # for one too many

    litellm.callbacks = [callback]
    try:
        with listening(provider()) as url:
            with client.episode(task_type="fix", role="reviewer") as episode:
                litellm.completion(
                    model="openai/m", messages=asked, api_base=url, temperature=0.3, **connection
                )
                for _ in litellm.completion(
                    model="openai/m", messages=asked, api_base=url, stream=True, **connection
                ):
                    pass
                with pytest.raises(openai.OpenAIError):
                    litellm.completion(
                        model="openai/m",
                        messages=[{"role": "user", "content": "fail"}],
                        api_base=url,
                        **connection,
                    )
            asyncio.run(call_async(url))
    finally:
        litellm.logging_callback_manager._reset_all_callbacks()  # it copies them to other lists
    records = [line["record"] for line in spooled(client)]
    by_role: dict = {}
    for record in records:
        by_role.setdefault(record["role"], []).append(record)
    assert {role: len({r["id"] for r in rs}) for role, rs in by_role.items()} == {
        "reviewer": 3, "tester": 1, "coder": 1,
    }  # fmt: skip
    assert client.counts()["dropped"] == {}
    by_id = {r["id"]: r for r in by_role["reviewer"]}
    assert all(r["episode_id"] == str(episode.id) for r in by_id.values())
    assert sorted(r["status"] for r in by_id.values()) == ["error", "success", "success"]
    streamed = [r for r in records if r.get("usage_estimated")]
    assert {r["response"]["choices"][0]["message"]["content"] for r in streamed} == {
        "one two three"
    }
    assert len({r["id"] for r in streamed}) == 2
    assert by_role["tester"][0]["task_type"] == "t"
    assert by_role["tester"][0]["gen_ai_usage_input_tokens"] == 3


@pytest.mark.slow
def test_completion_through_litellm_is_logged_once(client):
    from collector.wrappers.litellm import litellm_callback
    from foundation.llm import _litellm

    litellm = _litellm()
    litellm.callbacks = [litellm_callback(client)]
    try:
        with listening(provider()) as url:
            os.environ["OPENAI_API_BASE"] = url
            answer = client.completion(
                messages=[{"role": "user", "content": "hello"}], model="openai/m", api_key="none"
            )
            wait_until(lambda: client.counts()["spooled"], "the record")
            time.sleep(0.5)  # for one too many
    finally:
        litellm.logging_callback_manager._reset_all_callbacks()
        del os.environ["OPENAI_API_BASE"]
    (line,) = spooled(client)
    assert line["record"]["id"] == str(answer.interaction_id)
    assert answer.text == "ok"
