import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from evaluator.answers import AnswersByRequest, ChatServer, ModelServerUnavailable
from evaluator.replies import Reply, Said
from foundation.chat import completion, message
from foundation.errors import BadInput

SAID = '"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]'
ODD = {
    "odd choices": '{"choices": 5}',
    "odd message": '{"choices": [{"message": "yes"}]}',
    "odd number": f'{{{SAID}, "created": {"9" * 5_000}}}',
    "usage no object": f'{{{SAID}, "usage": "none"}}',
    "usage a text": f'{{{SAID}, "usage": {{"completion_tokens": "12"}}}}',
    "usage not a number": f'{{{SAID}, "usage": {{"completion_tokens": NaN}}}}',
    "usage infinite": f'{{{SAID}, "usage": {{"completion_tokens": Infinity}}}}',
    "usage negative": f'{{{SAID}, "usage": {{"completion_tokens": -5}}}}',
    "usage enormous": f'{{{SAID}, "usage": {{"completion_tokens": {"9" * 400}}}}}',
}
"""Replies of status 200 that are odd, by the prompt that brings them."""


class Model(BaseHTTPRequestHandler):
    """An OpenAI-shaped server that echoes; some words make it misbehave."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    seen: Counter[str] = Counter()
    requests: list[dict] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][-1]["content"]
        with self.lock:
            self.seen[text] += 1
            self.requests.append({**body, "authorization": self.headers.get("authorization")})
        if body["model"] == "unknown":
            self._send(404, {"error": {"message": "no such model"}})
        elif "broken" in text or ("once" in text and self.seen[text] == 1):
            self._send(500, {"error": {"message": "oops"}})
        elif "garbage" in text:
            self._send(200, "not json at all")
        elif text in ODD:
            self._send(200, ODD[text])
        elif "endless refusal" in text:
            self._send_endlessly(400, b"x" * 65_536, pause_s=0)
        elif "trickle" in text:
            self._send_endlessly(200, b" ", pause_s=0.05)
        elif "compressed twice" in text:
            self._send(200, "{}", {"content-encoding": "gzip, gzip"})
        elif "nothing" in text:
            self._send(200, {"choices": []})
        else:
            said = completion("x", body["model"], f"echo {text}", "stop", 3, 4, 0)
            if body["model"] == "many":
                said["choices"] = [
                    {"index": i, "message": message("assistant", f"echo {text} {i}")}
                    for i in range(body.get("n", 1))
                ]
            self._send(200, said)

    def _send_endlessly(self, status, chunk, pause_s):
        self.send_response(status)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                time.sleep(pause_s)
        except OSError:
            return

    def _send(self, status, body, headers=()):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Model.seen, Model.requests = Counter(), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def prompts(*texts):
    return [[message("user", text)] for text in texts]


def test_answers_come_in_order_with_tokens_and_their_own_seeds(url):
    texts = [f"question {i}" for i in range(20)]
    with ChatServer(url, temperature=0.5, max_tokens=9, concurrency=8, api_key="k") as server:
        subject = server.subject("coder-v1")
        answers = list(subject.generate(prompts(*texts), list(range(100, 120))))
    assert [a.text for a in answers] == [f"echo {t}" for t in texts]
    assert {a.output_tokens for a in answers} == {4}
    assert all(a.seconds is not None for a in answers)
    sent = {r["messages"][-1]["content"]: r for r in Model.requests}
    assert [sent[t]["seed"] for t in texts] == list(range(100, 120))
    assert {(r["model"], r["temperature"], r["max_tokens"]) for r in Model.requests} == {
        ("coder-v1", 0.5, 9)
    }
    assert {r["authorization"] for r in Model.requests} == {"Bearer k"}
    assert subject.settings["base_url"] == url


def test_a_failed_request_is_tried_once_more_and_then_lost(url):
    with ChatServer(url) as server:
        texts = ["fine", "once", "broken", "garbage", "nothing"]
        fine, once, *lost = server.answer("m", prompts(*texts), [0] * 5)
    assert (fine.text, once.text) == ("echo fine", "echo once")
    assert [answer.text for answer in lost] == [None] * 3
    assert "500" in lost[0].detail
    assert "JSONDecodeError" in lost[1].detail
    assert "no choices" in lost[2].detail
    assert Model.seen["broken"] == 2


def test_an_unknown_model_is_refused_with_the_servers_words(url):
    with ChatServer(url) as server, pytest.raises(BadInput, match="no such model"):
        list(server.answer("unknown", prompts("hi"), [0]))


def test_a_server_that_is_not_there_is_named():
    server = ChatServer("http://127.0.0.1:9/v1", timeout_s=2)
    with (
        server,
        pytest.raises(ModelServerUnavailable, match=r"127\.0\.0\.1:9.*FLYWHEEL_ENGINE_URL"),
    ):
        list(server.answer("m", prompts("hi", "ho"), [0, 1]))


def test_a_run_of_equal_prompts_is_one_request(url):
    with ChatServer(url) as server:
        answers = list(server.answer("many", prompts("a", "a", "a", "b"), [5, 6, 7, 8]))
    assert [answer.text for answer in answers] == ["echo a 0", "echo a 1", "echo a 2", "echo b 0"]
    assert sorted((r["seed"], r.get("n")) for r in Model.requests) == [(5, 3), (8, None)]
    assert [answer.output_tokens for answer in answers] == [4 / 3, 4 / 3, 4 / 3, 4]


def test_a_server_that_ignores_n_is_asked_for_the_rest(url):
    with ChatServer(url) as server:
        answers = list(server.answer("m", prompts("a", "a", "a"), [5, 6, 7]))
    assert [answer.text for answer in answers] == ["echo a"] * 3
    assert [(r["seed"], r.get("n")) for r in Model.requests] == [(5, 3), (6, 2), (7, None)]


@pytest.mark.parametrize("prompt", [name for name in ODD if name.startswith("odd")])
def test_a_reply_of_another_shape_is_a_lost_answer_and_the_others_stand(url, prompt):
    with ChatServer(url) as server:
        first, second = server.answer("m", prompts(prompt, "hi"), [0, 1])
    assert (first.text, second.text) == (None, "echo hi")
    assert first.detail


@pytest.mark.parametrize("prompt", [name for name in ODD if name.startswith("usage")])
def test_a_count_of_tokens_that_is_none_is_unknown(url, prompt):
    with ChatServer(url) as server:
        [answer] = server.answer("m", prompts(prompt), [0])
    assert (answer.text, answer.output_tokens) == ("yes", None)


def test_a_reply_that_never_ends_is_lost_when_its_time_is_over(url):
    with ChatServer(url, timeout_s=1.0) as server:
        first, second = server.answer("m", prompts("trickle", "hi"), [0, 1])
    assert (first.text, second.text) == (None, "echo hi")
    assert "did not end in time" in first.detail


def test_of_a_refusal_without_end_only_the_beginning_is_read(url):
    with ChatServer(url) as server, pytest.raises(BadInput, match="it said 400 x{300}"):
        list(server.answer("m", prompts("endless refusal"), [0]))


def test_a_reply_that_is_compressed_twice_is_not_unpacked(url):
    with ChatServer(url) as server:
        first, _ = server.answer("m", prompts("compressed twice", "hi"), [0, 1])
    assert "compressed as gzip, gzip" in first.detail


def test_a_server_that_ignores_n_may_be_asked_for_very_many():
    class OneAtATime(AnswersByRequest):
        def send(self, request):
            return Reply([Said(str(request["seed"]))])

    with OneAtATime("here", 1.0, 16, 1) as model:
        answers = list(model.answer("m", prompts(*["a"] * 3_000), list(range(3_000))))
    assert [answer.text for answer in answers] == [str(seed) for seed in range(3_000)]
