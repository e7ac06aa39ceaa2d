import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from collector.spool import Spool
from collector.spool.books import Account, difference, read_book
from collector.spool.inspection import inspect, total
from collector.spool.reader import Settlement
from collector.spool.segments import frame, unframe
from foundation.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def as_it_is(payload):
    """Prepare nothing: these tests are about lines, not about what is in them."""
    return payload


def spool_in(folder, **options):
    return Spool(folder, prepare=options.pop("prepare", as_it_is), **options)


def drain(spool):
    records = []
    while batch := spool.take(7):
        records += batch.records
        spool.settle(batch)
    return records


def run_python(source, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def files(folder, pattern):
    return sorted(folder.rglob(pattern))


# Lines


def test_frame_detects_damage():
    line = frame(b'{"a":1}', 7)[:-1]
    assert unframe(line) == (7, b'{"a":1}')
    assert unframe(line[:-1]) is None
    assert unframe(line.replace(b"1}", b"2}")) is None
    assert unframe(line.replace(b"007 ", b"008 ")) is None
    assert unframe(b"") is None


def test_records_come_back_in_order_and_once(tmp_path):
    spool = spool_in(tmp_path, segment_bytes=200)
    records = [{"n": n, "text": "line\nbreak \r ä"} for n in range(50)]
    assert all(spool.append(record) for record in records)
    assert drain(spool) == records
    assert spool.take() is None
    counts = spool.counts()
    assert counts["seen"] == counts["delivered"] == counts["spooled"] == 50
    assert counts["waiting_bytes"] == 0
    spool.close()
    assert os.listdir(tmp_path) == []


def test_a_record_larger_than_a_reading_comes_back(tmp_path):
    spool = spool_in(tmp_path)
    big = {"text": "x" * 3_000_000}
    spool.append({"n": 1})
    spool.append(big)
    spool.append({"n": 2})
    taken = drain(spool)
    assert taken == [{"n": 1}, big, {"n": 2}]
    spool.close()


def test_files_are_for_their_owner_only(tmp_path):
    spool = spool_in(tmp_path / "spool")
    spool.append({"n": 1})
    spool.prepare()
    spool.set_aside(spool.name, b"{}", "unknown_role: x")
    paths = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(paths) >= 5
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    spool.close()


# Raw and scrubbed


def test_raw_lines_are_gone_once_they_are_prepared(tmp_path):
    spool = spool_in(tmp_path, prepare=lambda payload: payload.replace(b"secret", b"<X>"))
    spool.append({"text": "secret"})
    assert b"secret" in files(tmp_path, "raw-*")[0].read_bytes()
    assert spool.raw_records() == 1
    assert spool.prepare_all()
    assert not any(path.stat().st_size for path in files(tmp_path, "raw-*"))
    assert [record["text"] for record in drain(spool)] == ["<X>"]
    spool.close()


def test_what_cannot_be_scrubbed_is_held_and_never_handed_out(tmp_path, caplog):
    faulty = True

    def scrub(payload):
        if faulty and b"odd" in payload:
            raise ValueError(f"no rule survives {payload}")
        return payload

    spool = spool_in(tmp_path, prepare=scrub)
    for text in ("even", "odd", "even"):
        spool.append({"text": text})
    assert [record["text"] for record in drain(spool)] == ["even", "even"]
    counts = spool.counts()
    assert (counts["seen"], counts["delivered"], counts["held"]) == (3, 2, 1)
    spool.close()
    assert "1 records cannot be scrubbed" in caplog.text
    assert "ValueError" in caplog.text
    assert "odd" not in caplog.text

    later = spool_in(tmp_path, prepare=scrub)
    assert later.adopt() == 1
    later.retry_held()
    assert drain(later) == []  # it fails still
    faulty = False
    later.retry_held()
    assert [record["text"] for record in drain(later)] == ["odd"]
    assert os.listdir(tmp_path) == []
    later.close()


def test_the_default_scrubs_and_numbers_alike_within_an_episode(tmp_path):
    spool = Spool(tmp_path)
    for text in ("a@x.org", "b@x.org a@x.org"):
        record = {"id": "1", "text": text}
        spool.append({"kind": "feedback", "record": record, "episode": "e"})
    spool.append({"kind": "feedback", "record": {"text": "b@x.org"}})
    texts = [line["record"]["text"] for line in drain(spool)]
    assert texts == ["<EMAIL_1>", "<EMAIL_2> <EMAIL_1>", "<EMAIL_1>"]
    spool.close()


# Adoption and damage


def test_unsettled_records_are_adopted_after_close(tmp_path):
    first = spool_in(tmp_path)
    for n in range(10):
        first.append({"n": n})
    batch = first.take(4)
    first.settle(batch)
    second = spool_in(tmp_path)
    assert second.adopt() == 0  # its owner lives
    first.close()
    assert second.adopt() == 1
    assert [r["n"] for r in drain(second)] == [4, 5, 6, 7, 8, 9]
    second.close()
    assert inspect(tmp_path) == []


def test_a_damaged_line_is_skipped_and_counted(tmp_path):
    dead = spool_in(tmp_path)
    for n in range(5):
        dead.append({"n": n})
    dead.prepare_all()
    dead.close()
    (segment,) = files(tmp_path, "ready-*")
    segment.write_bytes(segment.read_bytes().replace(b'"n":1', b'"n":9'))
    assert total(inspect(tmp_path)).waiting == 5
    assert sum(status.on_disk for status in inspect(tmp_path)) == 4
    spool = spool_in(tmp_path)
    spool.adopt()
    (name,) = spool.names()
    assert [record["n"] for record in spool.take(9).records] == [0, 2, 3, 4]
    spool.settle(spool.take(9))
    books = spool.account(name)
    assert (books["delivered"], books["damaged"]) == (4, 1)
    assert difference(books) == 0
    spool.close()


@pytest.mark.parametrize("cut", [1, 20, 45])
def test_a_torn_raw_tail_is_counted_as_damaged(tmp_path, cut):
    folder = raw_left_by_a_killed_process(tmp_path, 5)
    (raw,) = files(folder, "raw-*")
    lines = raw.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"n":1', b'"n":9')
    raw.write_bytes(b"".join(lines) + frame(b'{"n":5,"text":"abcdef"}', 6)[:cut])
    spool = spool_in(tmp_path)
    spool.adopt()
    (name,) = spool.names()
    spool.prepare_all()
    books = spool.account(name)
    assert (books["seen"], books["waiting"], books["damaged"]) == (6, 4, 2)
    assert difference(books) == 0
    assert [record["n"] for record in drain(spool)] == [0, 2, 3, 4]
    spool.close()


def raw_left_by_a_killed_process(folder, n):
    child = run_python(
        """
        import os, signal, sys
        from collector.spool import Spool
        spool = Spool(sys.argv[1], prepare=bytes)
        for n in range(int(sys.argv[2])):
            spool.append({"n": n})
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        folder, n,
    )  # fmt: skip
    child.communicate()
    return folder


def test_a_lost_segment_is_counted_as_damaged(tmp_path):
    spool = spool_in(tmp_path, segment_bytes=100)
    for n in range(9):
        spool.append({"n": n})
        spool.prepare()
    files(tmp_path, "ready-*")[1].unlink()
    survivors = [record["n"] for record in drain(spool)]
    counts = spool.counts()
    assert 0 < len(survivors) < 9
    assert counts["damaged"] == 9 - len(survivors)
    assert (counts["waiting"], difference(counts)) == (0, 0)
    spool.close()


def test_two_adopters_share_without_doubling(tmp_path):
    for _ in range(4):
        dead = spool_in(tmp_path)
        for n in range(3):
            dead.append({"n": n})
        dead.close()
    one, two = spool_in(tmp_path), spool_in(tmp_path)
    assert one.adopt() + two.adopt() == 4
    assert len(drain(one)) + len(drain(two)) == 12
    one.close()
    two.close()


def test_a_book_survives_half_a_write(tmp_path):
    spool = spool_in(tmp_path)
    spool.append({"n": 1})
    spool.drop("bad", "for the test")
    spool.prepare_all()
    spool.close()
    (book,) = files(tmp_path, "writer.book")
    before = read_book(book)
    assert before["dropped"] == {"bad": 1}
    data = bytearray(book.read_bytes())
    newest = 0 if int(data[18:26], 16) > int(data[4096 + 18 : 4096 + 26], 16) else 4096
    data[newest + 60] ^= 1
    book.write_bytes(data)
    older = read_book(book)
    assert older["dropped"] == {"bad": 1}
    assert older != before


# Bounds, full disks, policies


def test_full_disk_is_counted_and_does_not_raise(tmp_path):
    child = run_python(
        """
        import json, resource, sys
        from collector.spool import Spool
        spool = Spool(sys.argv[1], prepare=bytes)
        spool.append({"n": -1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        kept = [spool.append({"n": n, "text": "x" * 500}) for n in range(30)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        kept.append(spool.append({"n": 30}))
        print(json.dumps([kept, spool.counts()]))
        """,
        tmp_path,
    )
    output, _ = child.communicate()
    kept, counts = json.loads(output)
    assert kept[0]
    assert kept[30]
    assert counts["dropped"]["disk_full"] == kept.count(False) > 0
    assert counts["seen"] == counts["spooled"] + counts["dropped"]["disk_full"] == 32
    spool = spool_in(tmp_path)
    spool.adopt()
    (name,) = spool.names()
    assert spool.account(name)["dropped"] == counts["dropped"]  # the books outlive their process
    survivors = sorted(record["n"] for record in drain(spool))
    assert survivors == [-1, *(n for n, ok in enumerate(kept) if ok)]
    spool.close()


def test_bound_refuses_new_records_with_a_reason(tmp_path, caplog):
    spool = spool_in(tmp_path, max_bytes=1000)
    kept = sum(spool.append({"n": n, "text": "x" * 100}) for n in range(30))
    assert 0 < kept < 30
    assert spool.counts()["dropped"] == {"spool_full": 30 - kept}
    assert sum("spool_full" in message for message in caplog.messages) == 1
    assert len(drain(spool)) == kept
    assert spool.append({"n": 30})
    spool.close()


def test_bound_drops_the_oldest_segments_if_that_is_the_policy(tmp_path):
    spool = spool_in(tmp_path, max_bytes=4000, drop="oldest")
    for n in range(100):
        assert spool.append({"n": n, "text": "x" * 100})
        spool.prepare()
    left = [record["n"] for record in drain(spool)]
    counts = spool.counts()
    assert left == list(range(100 - len(left), 100))
    assert counts["dropped"] == {"spool_full": 100 - len(left)}
    assert len(left) > 10
    assert difference(counts) == 0
    spool.close()


def test_records_on_their_way_are_not_dropped(tmp_path):
    spool = spool_in(tmp_path, max_bytes=2000, drop="oldest")
    for n in range(10):
        spool.append({"n": n, "text": "x" * 100})
        spool.prepare()
    batch = spool.take(2)
    refused = [spool.append({"n": n, "text": "x" * 100}) for n in range(10)].count(False)
    assert refused > 0
    spool.settle(batch)
    counts = spool.counts()
    assert counts["delivered"] == 2
    assert difference(counts) == 0
    spool.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fsync": "sometimes"}, "fsync policy"),
        ({"drop": "all"}, "drop policy"),
        ({"max_bytes": 0}, "bound of the spool"),
    ],
)
def test_policies_are_checked(tmp_path, options, match):
    with pytest.raises(BadInput, match=match):
        Spool(tmp_path, **options)


def test_what_json_cannot_hold_is_counted(tmp_path):
    spool = spool_in(tmp_path)
    circular: list = []
    circular.append(circular)
    for record in ({"x": float("nan")}, {"x": object()}, {"x": circular}):
        assert not spool.append(record)
    assert spool.counts()["dropped"] == {"not_json": 3}
    assert spool.append({"x": "\ud800"})
    spool.close()


def test_many_reasons_do_not_burst_the_books(tmp_path):
    spool = spool_in(tmp_path)
    for n in range(100):
        spool.drop(f"reason-{n}-" + "x" * 500, "many")
    counts = spool.counts()
    assert sum(counts["dropped"].values()) == counts["seen"] == 100
    assert len(counts["dropped"]) <= 17
    spool.close()
    (left,) = inspect(tmp_path)
    assert left.books["seen"] == 100


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_whatever_the_fsync_the_records_are_in_the_file_at_once(tmp_path, fsync):
    spool = spool_in(tmp_path, fsync=fsync)
    spool.append({"n": 1})
    assert total(inspect(tmp_path)).waiting == 1
    spool.sync()
    spool.prepare_all()
    assert [status.on_disk for status in inspect(tmp_path)] == [1]
    spool.close()
    assert total(inspect(tmp_path)).waiting == 1


# Processes


def test_forked_child_has_a_writer_of_its_own(tmp_path):
    child = run_python(
        """
        import os, sys
        from collector.spool import Spool
        spool = Spool(sys.argv[1], prepare=bytes)
        spool.append({"who": "parent"})
        pid = os.fork()
        if pid == 0:
            spool.append({"who": "child"})
            os._exit(0)
        os.waitpid(pid, 0)
        spool.append({"who": "parent"})
        print(sorted(r["who"] for r in spool.take().records), spool.adopt())
        """,
        tmp_path,
    )
    output, _ = child.communicate()
    assert output.strip() == "['parent', 'parent'] 1"


def test_another_process_reads_what_a_living_one_writes(tmp_path):
    writer = spool_in(tmp_path, reads=False)
    writer.append({"n": 1})
    writer.prepare()
    sidecar = spool_in(tmp_path)
    assert sidecar.adopt() == 0
    assert sidecar.adopt(live=True) == 1
    assert drain(sidecar) == [{"n": 1}]
    writer.append({"n": 2})
    writer.prepare()
    assert drain(sidecar) == [{"n": 2}]
    writer.append({"n": 3})
    books = writer.account(writer.name)
    assert (books["seen"], books["delivered"], books["waiting"]) == (3, 2, 1)
    writer.close()
    sidecar.adopt(live=True)
    assert drain(sidecar) == [{"n": 3}]
    assert os.listdir(tmp_path) == []
    sidecar.close()


def test_threads_append_while_others_prepare_and_ship(tmp_path):
    spool = spool_in(tmp_path, segment_bytes=5_000)
    finished = threading.Event()
    taken: list = []

    def write(who):
        for n in range(300):
            spool.append({"who": who, "n": n})

    def ship():
        while not finished.is_set():
            taken.extend(drain(spool))

    shipping = threading.Thread(target=ship)
    writers = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in (shipping, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    shipping.join()
    taken += drain(spool)
    for who in range(4):
        assert [r["n"] for r in taken if r["who"] == who] == list(range(300))
    spool.close()
    assert os.listdir(tmp_path) == []


KILLED = """
import json, random, sys, threading, time
from collector.spool import Spool
from collector.spool.reader import Settlement
from collector.sender import Sender

seed = int(sys.argv[2])
draw = random.Random(seed)

def scrub(payload):
    if b'"odd"' in payload:
        raise ValueError("odd")
    return payload

spool = Spool(sys.argv[1], prepare=scrub, segment_bytes=2_000, max_bytes=60_000, drop=sys.argv[3])
shipped = open(sys.argv[4], "a", buffering=1)

def ship():
    while True:
        time.sleep(draw.random() / 500)
        spool.adopt()
        batch = spool.take(draw.randrange(1, 40), prepare=False)
        if batch is not None:
            refused = [("500", batch.payloads[0])] if draw.random() < 0.2 and batch.payloads else []
            for payload in batch.payloads[len(refused):]:
                shipped.write(payload.decode() + "\\n")
            spool.settle(batch, Settlement(len(batch.payloads) - len(refused), 0, refused))

def prepare():
    while True:
        time.sleep(draw.random() / 500)
        spool.prepare(draw.randrange(1, 20))

for work in (ship, prepare):
    threading.Thread(target=work, daemon=True).start()
n = 0
while True:
    n += 1
    kind = draw.choice(["even", "even", "even", "odd", "drop"])
    if kind == "drop":
        spool.drop("told", "by the test")
    else:
        kept = spool.append({"id": f"{seed}-{n}", "kind": kind, "text": "x" * draw.randrange(300)})
        print(f"{seed}-{n}" if kept else "", kind, flush=True)
"""


@pytest.mark.parametrize("policy", ["new", "oldest"])
def test_the_books_close_whenever_the_process_is_killed(tmp_path, policy):
    """Generations of processes on one folder, each killed at a random moment."""
    folder, shipped = tmp_path / "spool", tmp_path / "shipped"
    draw = random.Random(policy)
    returned: dict[str, str] = {}
    highest: dict[str, Account] = {}
    for generation in range(6):
        child = run_python(KILLED, folder, generation, policy, shipped)
        child.stdout.readline()
        time.sleep(draw.uniform(0.05, 0.4))
        child.send_signal(signal.SIGKILL)
        for line in child.stdout.read().split("\n")[:-1]:
            identifier, _, kind = line.partition(" ")
            if identifier:
                returned[identifier] = kind
        child.wait()
        child.stdout.close()
        for status in inspect(folder):
            assert status.difference == 0
            assert status.on_disk == status.books["waiting"]
            before = highest.get(status.name)
            assert before is None or before["seen"] <= status.books["seen"]
            assert before is None or before["delivered"] <= status.books["delivered"]
            highest[status.name] = status.books
    spool = spool_in(folder, prepare=refuse_odd)
    spool.tells = True  # nobody is told: the books stay to be looked at
    spool.adopt()
    stored = [json.loads(line)["id"] for line in shipped.read_text().split("\n")[:-1]]
    stored += [record["id"] for record in drain(spool)]
    books = [spool.account(name) for name in spool.names()]
    assert all(difference(each) == 0 and each["waiting"] == 0 for each in books)
    held = sum(each["held"] for each in books)
    dropped = sum(each["dropped"].get("spool_full", 0) for each in books)
    even = {identifier for identifier, kind in returned.items() if kind == "even"}
    missing = even - set(stored)
    assert len(missing) <= held + dropped
    if policy == "new":
        assert not missing - {json.loads(line["line"])["id"] for line in refused_in(spool)}
    assert any(each["dropped"].get("told") for each in books)
    spool.close()


def refuse_odd(payload):
    if b'"odd"' in payload:
        raise ValueError("odd")
    return payload


def refused_in(spool):
    return [line for reader in spool.retry_held() for line in reader.held()]


def test_a_settlement_counts_what_was_refused_as_held(tmp_path):
    spool = spool_in(tmp_path)
    for n in range(3):
        spool.append({"n": n})
    batch = spool.take()
    spool.settle(batch, Settlement(2, rejected=1, refused=[("500: broken", batch.payloads[1])]))
    counts = spool.counts()
    assert (counts["delivered"], counts["held"], counts["rejected"]) == (2, 1, 1)
    assert difference(counts) == 0
    (reader,) = spool.retry_held()
    (held,) = reader.held()
    assert held["reason"] == "500: broken"
    assert json.loads(held["line"]) == {"n": 1}
    spool.close()
