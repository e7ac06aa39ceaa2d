"""A teacher's answers over real HTTP, from the prompt of a failed call to a dataset's row."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlmodel import col, select
from stored_rows import store_example
from typer.testing import CliRunner

from collector.tables import Feedback, Interaction, InteractionPayload
from curation.build import build_dataset
from curation.tables import Example
from flywheel import teaching
from flywheel.cli import app
from foundation import runs
from foundation.errors import BadInput
from foundation.settings import get_settings
from foundation.tables import DONE

ANSWER = "sorted(numbers)  # ask joe.miller@corp-mail.com"


class Teacher(BaseHTTPRequestHandler):
    """Answers everything with the same line; a prompt about `long` is cut by its length."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked["messages"][-1]["content"]
        self.server.asked.append(prompt)
        body = json.dumps(
            {
                "id": f"chatcmpl-{len(self.server.asked)}",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": f"{ANSWER} for {prompt}"},
                        "finish_reason": "length" if "long" in prompt else "stop",
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def teacher(monkeypatch, settings):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Teacher)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    upstream = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "models": ["sage"]}
    monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"house": upstream}))
    get_settings.cache_clear()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    get_settings.cache_clear()


@pytest.fixture
def prompts(session):
    store_example(session, "Sort these numbers", "sorted(numbers)", outcome=True)
    store_example(session, "Reverse that list", "list[::1]", outcome=False)
    store_example(session, "Reverse that list", "list[::-1]", outcome=True)
    store_example(session, "Held out", "no", outcome=True, split="test")
    store_example(session, "A benchmark's", "no", status="dropped", drop_reason="contaminated")
    session.commit()


def names_the_list(prompt, answer):
    return "list" in prompt[-1]["content"]


def teach(session, n=10, **options):
    order = teaching.start_teaching(session, "coder", "sage", n, **options)
    session.commit()
    done = runs.execute(order.id)
    assert done.status == DONE, done.error
    session.expire_all()
    return done.result


def test_training_prompts_are_answered_once_failed_ones_first(session, teacher, prompts):
    first = teach(session, 1)
    assert teacher.asked == ["Reverse that list"]
    assert first["project"] == "taught-by-sage"
    assert teach(session)["prompts"] == 1
    assert teach(session)["prompts"] == 0
    assert teacher.asked == ["Reverse that list", "Sort these numbers"]


def test_answers_are_scrubbed_and_say_whose_they_are(session, teacher, prompts):
    teach(session)
    stored = session.exec(select(Interaction).order_by(col(Interaction.id))).all()
    assert {(one.source, one.project, one.role) for one in stored} == {
        ("teacher", "taught-by-sage", "coder")
    }
    payload = session.get(InteractionPayload, stored[0].id)
    assert "joe.miller" not in json.dumps(payload.response)
    assert payload.attributes["teacher"] == "sage"
    assert payload.attributes["prompt_of"] == str(stored[0].parent_id)
    assert session.exec(select(Feedback)).all() == [], "nobody spoke for them"


def test_a_check_and_trust_bring_answers_into_a_dataset(session, teacher, prompts):
    store_example(session, "A long story", "…", outcome=False)
    session.commit()
    told = teach(session, check=f"{__name__}:names_the_list", trust=True)
    assert (told["right"], told["wrong"], told["cut"]) == (1, 1, 1)
    said = session.exec(select(Feedback)).all()
    assert sorted((one.kind, one.value, one.source) for one in said) == [
        ("success", 0.0, "test"),
        ("success", 1.0, "test"),
    ]
    build_dataset("coder")
    session.expire_all()
    kept = session.exec(
        select(Example).where(Example.project == "taught-by-sage", Example.status == "kept")
    ).all()
    assert [one.prompt[-1]["content"] for one in kept] == ["Reverse that list"]


def test_trust_is_a_rating_of_whole_answers(session, teacher, prompts):
    store_example(session, "A long story", "…", outcome=False)
    session.commit()
    assert teach(session, trust=True)["cut"] == 1
    said = session.exec(select(Feedback)).all()
    assert [(one.kind, one.value, one.actor) for one in said] == [
        ("rating", 5.0, "trust in sage")
    ] * 2


def test_what_cannot_be_ordered(session):
    with pytest.raises(BadInput, match="plumber"):
        teaching.start_teaching(session, "plumber", "sage", 1)
    with pytest.raises(BadInput, match="prompts"):
        teaching.start_teaching(session, "coder", "sage", 0)
    with pytest.raises(BadInput, match="nowhere:check"):
        teaching.start_teaching(session, "coder", "sage", 1, check="nowhere:check")


def test_the_command(session, teacher, prompts, database):
    args = ["distill", "answers", "--role", "coder", "--teacher", "sage", "--json"]
    said = CliRunner().invoke(app, args)
    assert said.exit_code == 0, said.output
    assert json.loads(said.output)["stored"] == 2
