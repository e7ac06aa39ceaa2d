"""Ordering an evaluation over HTTP, doing it against a live model server, reading the verdict."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import uvicorn
from sqlmodel import select

from evaluator.suites import Task, add_suite
from evaluator.tables import Evaluation, Sample
from evaluator.tasks import EvaluationPlan, evaluation_ids, start_evaluation
from flywheel.app import create_app
from foundation import artifacts
from foundation.chat import completion
from foundation.database import session_scope
from foundation.errors import BadInput, NotFound
from foundation.queue import declare_queues
from foundation.runs import execute
from foundation.tables import DONE, FAILED, Run
from trainer.registry import ensure_base_version
from trainer.tables import ModelVersion

TASKS = [
    Task(
        f"t{i}",
        [{"role": "user", "content": f"What is {i} + 1?"}],
        "exact",
        {"answer": str(i + 1)},
        {"difficulty": "easy"},
    )
    for i in range(12)
]


class Sums(BaseHTTPRequestHandler):
    """Knows every sum as `clever` (or as the base `tiny-base`), half of them as any other model."""

    loaded: dict[str, str] = {}

    def do_GET(self):
        self._send({"data": [{"id": name, "root": root} for name, root in self.loaded.items()]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/load_lora_adapter"):
            self.loaded[body["lora_name"]] = body["lora_path"]
            self._send({})
            return
        number = int(body["messages"][-1]["content"].split()[2])
        if body["model"] == "gone":
            self.send_error(503)
            return
        knows = body["model"] in ("clever", "tiny-base") or number % 2 == 0
        text = str(number + 1 if knows else 0)
        self._send(completion("x", body["model"], text, "stop", 5, 2, 0))

    def _send(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Sums.loaded = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Sums) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(database):
    declare_queues()
    with session_scope() as session:
        add_suite(session, "sums", "coder", TASKS)
    service = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="warning"))
    thread = threading.Thread(target=service.run)
    thread.start()
    while not service.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    port = service.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as opened:
        yield opened
    service.should_exit = True
    thread.join()


def test_from_the_order_to_the_verdict(client, url):
    order = {
        "suite": "sums",
        "subjects": ["dull", "clever"],
        "samples_per_task": 2,
        "base_url": url,
    }
    ordered = client.post("/v1/evaluations", json=order)
    assert ordered.status_code == 202
    assert ordered.json()["params"]["suite"] == "sums@1"
    run = execute(ordered.json()["id"])
    assert run is not None
    assert run.status == DONE, run.error
    ids = {name: str(found) for name, found in evaluation_ids(run).items()}
    assert run.progress["unit"] == "answers graded"
    evaluation = client.get(f"/v1/evaluations/{ids['dull']}").json()
    assert (evaluation["success_rate"], evaluation["n_samples"]) == (0.5, 24)
    assert evaluation["run_id"] == ordered.json()["id"]
    assert evaluation["settings"]["temperature"] == 1.0
    assert len(client.get("/v1/evaluations").json()) == 2
    pair = {"baseline_evaluation_id": ids["dull"], "candidate_evaluation_id": ids["clever"]}
    report = client.post("/v1/verdicts", json=pair)
    assert report.status_code == 201
    verdict = report.json()["verdict"]
    assert (verdict["outcome"], verdict["improvement_points"]) == ("deploy", 50)
    assert client.get("/v1/verdicts", params={"role": "coder"}).json() == [verdict]
    assert client.get(f"/v1/verdicts/{verdict['id']}").json() == report.json()
    assert client.get(f"/v1/verdicts/{verdict['id']}/report.json").json() == report.json()
    page = client.get(f"/v1/verdicts/{verdict['id']}/report.html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "clever against dull: deploy" in page.text
    page = client.get(f"/v1/verdicts/{verdict['id']}/report.md")
    assert page.headers["content-type"].startswith("text/plain")
    assert "# clever against dull: **deploy**" in page.text


def test_a_run_started_again_returns_what_it_stored(client, url):
    with session_scope() as session:
        run = start_evaluation(session, "sums", ["dull"], EvaluationPlan(1, base_url=url))
    first = execute(run.id)
    with session_scope() as session:
        again = session.get_one(Run, run.id)
        again.status = "queued"
    second = execute(run.id)
    assert first is not None
    assert second is not None
    assert first.result == second.result
    with session_scope() as session:
        assert len(session.exec(select(Evaluation)).all()) == 1


def test_a_base_version_is_asked_for_by_its_models_name(client, url):
    with session_scope() as session:
        version = ensure_base_version(session, "coder", "tiny-base")
        run = start_evaluation(session, "sums@1", [version.name], EvaluationPlan(1, base_url=url))
    done = execute(run.id)
    assert done is not None
    assert done.status == DONE, done.error
    with session_scope() as session:
        [evaluation] = session.exec(select(Evaluation)).all()
        assert (evaluation.subject, evaluation.success_rate) == ("coder-base", 1)
        assert evaluation.model_version_id == version.id


def test_an_adapter_is_loaded_before_it_is_asked(client, url, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    stored = artifacts.put(tmp_path / "adapter")
    with session_scope() as session:
        version = ModelVersion(
            role="coder",
            number=1,
            name="coder-v1",
            kind="adapter",
            base_model="tiny-base",
            artifact_uri=stored.uri,
            content_hash=stored.content_hash,
        )
        session.add(version)
        run = start_evaluation(session, "sums", ["coder-v1"], EvaluationPlan(1, base_url=url))
    done = execute(run.id)
    assert done is not None
    assert done.status == DONE, done.error
    assert (Path(Sums.loaded["coder-v1"]) / "adapter_config.json").is_file()
    with session_scope() as session:
        [evaluation] = session.exec(select(Evaluation)).all()
        assert evaluation.settings["model_hash"] == stored.content_hash


def test_a_model_that_cannot_answer_fails_the_run_and_stores_nothing(client, url):
    with session_scope() as session:
        run = start_evaluation(session, "sums", ["dull", "gone"], EvaluationPlan(1, base_url=url))
    failed = execute(run.id)
    assert failed is not None
    assert failed.status == FAILED
    assert "no answer to any request" in failed.error
    assert "Traceback" not in failed.error
    with session_scope() as session:
        assert session.exec(select(Evaluation)).all() == []
        assert session.exec(select(Sample)).all() == []


def test_bad_orders_are_refused_and_nothing_is_queued(client):
    for order, status in (
        ({"suite": "nothing", "subjects": ["a"]}, 404),
        ({"suite": "sums", "subjects": ["a", "a"]}, 400),
        ({"suite": "sums", "subjects": ["a"], "samples_per_task": 0}, 400),
        ({"suite": "sums", "subjects": []}, 422),
    ):
        assert client.post("/v1/evaluations", json=order).status_code == status
    with session_scope() as session:
        assert session.exec(select(Run)).all() == []
    with pytest.raises(BadInput, match="temperature"):
        EvaluationPlan(temperature=float("nan"))


def test_reading_what_is_not_there(client):
    nobody = "01890000-0000-7000-8000-000000000001"
    for path in (f"/v1/evaluations/{nobody}", f"/v1/verdicts/{nobody}", "/v1/suites/none"):
        answer = client.get(path)
        assert answer.status_code == NotFound.http_status
        assert answer.json()["error"]["type"] == "NotFound"
    assert [suite["name"] for suite in client.get("/v1/suites").json()] == ["sums"]
    assert len(client.get("/v1/suites/sums@1").json()["tasks"]) == 12
