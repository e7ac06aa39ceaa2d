import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from collector.sender import FAILURES_BEFORE_SPLIT, Sender
from collector.spool import Spool
from collector.spool.books import difference
from collector.transport import Failing, HttpTransport, Refused, Unreachable, retry_after_s


class Collector(ThreadingHTTPServer):
    """A collector that answers as it is told: `decide(head, records)` returns a status."""

    def __init__(self, decide, headers=()):
        self.decide, self.answer_headers = decide, dict(headers)
        self.requests, self.stored, self.accounts = [], [], {}
        super().__init__(("127.0.0.1", 0), Answering)


class Answering(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        head, *lines = [json.loads(line) for line in body.split(b"\n") if line]
        records = [line["record"] for line in lines]
        server = self.server
        server.requests.append((self.headers["content-type"], head, records))
        status = server.decide(head, records)
        if status == 200:
            server.stored += [record["id"] for record in records]
            server.accounts[head["account"]["writer"]] = head["account"]
        results = [{"id": record["id"], "status": "stored"} for record in records]
        answer = json.dumps({"results": results}).encode()
        self.send_response(status)
        for name, value in server.answer_headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def collecting(decide, **headers):
    server = Collector(decide, headers.items())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def url_of(server):
    return f"http://127.0.0.1:{server.server_port}"


def sender_of(server, folder, n=0):
    spool = Spool(folder, source="test")
    for number in range(n):
        spool.append({"kind": "interaction", "record": {"id": f"r{number}"}})
    return Sender(spool, HttpTransport(url_of(server)), interval_s=0.01)


def close(sender):
    sender.stop()
    sender.spool.close()


def books_of(sender):
    counts = sender.spool.counts()
    assert difference(counts) == 0
    return {name: counts[name] for name in ("delivered", "waiting", "held", "rejected")}


def test_lines_go_as_they_are_with_the_books(tmp_path):
    with collecting(lambda head, records: 200) as server:
        sender = sender_of(server, tmp_path, 3)
        assert sender.ship_once()
        assert not sender.ship_once()  # nothing but the books, which have changed
        close(sender)
    kind, head, records = server.requests[0]
    assert kind == "application/x-ndjson"
    assert (head["source"], head["account"]["seen"], head["account"]["waiting"]) == ("test", 3, 3)
    assert [record["id"] for record in records] == ["r0", "r1", "r2"]
    (last,) = server.accounts.values()
    assert (last["delivered"], last["waiting"], difference(last)) == (3, 0, 0)
    assert len(server.requests) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 504])
def test_a_collector_that_is_away_or_shut_costs_no_record(tmp_path, status):
    with collecting(lambda head, records: status) as server:
        sender = sender_of(server, tmp_path, 3)
        for _ in range(FAILURES_BEFORE_SPLIT + 3):
            assert not sender.ship_once()
        assert {len(records) for _, _, records in server.requests} == {3}  # never split
        assert books_of(sender) == {"delivered": 0, "waiting": 3, "held": 0, "rejected": 0}
        close(sender)


def test_a_record_that_breaks_the_collector_is_held_and_the_rest_goes_on(tmp_path):
    def decide(head, records):
        return 500 if any(record["id"] == "r13" for record in records) else 200

    with collecting(decide) as server:
        sender = sender_of(server, tmp_path, 40)
        while sender.spool.waiting_bytes():
            sender.ship_once()
        assert sorted(server.stored) == sorted(f"r{n}" for n in range(40) if n != 13)
        assert books_of(sender) == {"delivered": 39, "waiting": 0, "held": 1, "rejected": 0}
        close(sender)


def test_a_collector_that_fails_over_everything_holds_nothing_back(tmp_path):
    with collecting(lambda head, records: 500) as server:
        sender = sender_of(server, tmp_path, 40)
        for _ in range(FAILURES_BEFORE_SPLIT + 3):
            sender.ship_once()
        assert books_of(sender) == {"delivered": 0, "waiting": 40, "held": 0, "rejected": 0}
        server.decide = lambda head, records: 200
        while sender.spool.waiting_bytes():
            sender.ship_once()
        assert len(server.stored) == len(set(server.stored)) == 40
        close(sender)


def test_a_collector_that_fails_over_every_record_is_broken_too(tmp_path):
    with collecting(lambda head, records: 500 if records else 200) as server:
        sender = sender_of(server, tmp_path, 40)
        for _ in range(FAILURES_BEFORE_SPLIT + 3):
            sender.ship_once()
        assert books_of(sender)["waiting"] == 40
        close(sender)


def test_what_was_held_goes_when_the_collector_is_mended(tmp_path):
    def decide(head, records):
        return 413 if any(record["id"] == "r1" for record in records) else 200

    with collecting(decide) as server:
        sender = sender_of(server, tmp_path, 3)
        sender.ship_once()
        assert books_of(sender)["held"] == 1
        assert sender.retry_held() == 1
        server.decide = lambda head, records: 200
        assert sender.retry_held() == 0
        assert sorted(server.stored) == ["r0", "r1", "r2"]
        assert books_of(sender) == {"delivered": 3, "waiting": 0, "held": 0, "rejected": 0}
        close(sender)


def test_retry_after_is_honoured(tmp_path):
    with collecting(lambda head, records: 429, **{"Retry-After": "3"}) as server:
        sender = sender_of(server, tmp_path, 1)
        sender.ship_once()
        assert sender.pause_s >= 3
        assert sender.flush(0.5) is False
        assert len(server.requests) == 1
        close(sender)


def test_pauses_grow_with_jitter_to_a_bound(tmp_path):
    with collecting(lambda head, records: 503) as server:
        sender = sender_of(server, tmp_path, 1)
        pauses = []
        for _ in range(30):
            sender.ship_once()
            pauses.append(sender.pause_s)
        close(sender)
    assert pauses[5] > pauses[0]
    assert max(pauses) <= 30
    assert len(set(pauses)) > 20


def test_a_server_without_ndjson_gets_json(tmp_path):
    with collecting(lambda head, records: 200) as server:
        plain = server.RequestHandlerClass.do_POST

        def do_post(handler):
            if handler.headers["content-type"] != "application/json":
                handler.rfile.read(int(handler.headers["content-length"]))
                handler.send_response(422)
                handler.send_header("content-length", "0")
                handler.end_headers()
                return
            batch = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
            server.stored += [record["id"] for record in batch["interactions"]]
            answer = b'{"results": []}'
            handler.send_response(200)
            handler.send_header("content-length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)

        server.RequestHandlerClass = type("Old", (Answering,), {"do_POST": do_post})
        assert plain is Answering.do_POST
        sender = sender_of(server, tmp_path, 3)
        sender.ship_once()
        assert server.stored == ["r0", "r1", "r2"]
        assert books_of(sender)["delivered"] == 3
        close(sender)


@pytest.mark.parametrize(
    ("status", "expected"), [(400, Refused), (500, Failing), (503, Unreachable), (401, Unreachable)]
)
def test_statuses_mean_what_they_should(status, expected):
    with collecting(lambda head, records: status) as server:
        transport = HttpTransport(url_of(server))
        with pytest.raises(expected) as caught:
            transport._post(b"{}", "application/x-ndjson")
        assert type(caught.value) is expected
        transport.close()


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_s(None) is None
    assert retry_after_s("7") == 7
    assert retry_after_s("soon") is None
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_a_thread_outlives_whatever_it_meets(tmp_path, caplog):
    with collecting(lambda head, records: 200) as server:
        sender = sender_of(server, tmp_path)
        faults = iter([RuntimeError("never seen before")])
        send = sender.transport.send_lines

        def faulty(head, lines):
            for fault in faults:
                raise fault
            return send(head, lines)

        sender.transport.send_lines = faulty
        sender.spool.append({"kind": "interaction", "record": {"id": "r1"}})
        sender.ensure_running()
        until = time.monotonic() + 20
        while not server.stored and time.monotonic() < until:
            time.sleep(0.02)
        assert server.stored == ["r1"]
        close(sender)
    assert "never seen before" in caplog.text
