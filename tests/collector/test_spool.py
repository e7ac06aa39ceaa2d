import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from collector.spool import Spool, frame, inspect, unframe

ROOT = Path(__file__).resolve().parents[2]


def drain(spool):
    records = []
    while batch := spool.take(7):
        records += batch.records
        spool.acknowledge(batch)
    return records


def run_python(source, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_frame_detects_damage():
    line = frame(b'{"a":1}')
    assert unframe(line) == b'{"a":1}'
    assert unframe(line[:-1]) is None
    assert unframe(line.replace(b"1}", b"2}")) is None
    assert unframe(b"") is None
    assert unframe(b"\n") is None


def test_records_come_back_in_order_and_once(tmp_path):
    spool = Spool(tmp_path, segment_bytes=200)
    records = [{"n": n, "text": "line\nbreak ä"} for n in range(50)]
    assert all(spool.append(record) for record in records)
    assert drain(spool) == records
    assert spool.counts.sent == spool.counts.spooled == spool.counts.seen == 50
    assert spool.take() is None
    spool.close()
    assert list(tmp_path.glob("*.*")) == []


def test_unacknowledged_records_are_adopted_after_close(tmp_path):
    first = Spool(tmp_path)
    for n in range(10):
        first.append({"n": n})
    batch = first.take(4)
    first.acknowledge(batch)
    second = Spool(tmp_path)
    assert second.adopt() == 0  # its owner lives
    first.close()
    assert second.adopt() == 1
    assert [r["n"] for r in drain(second)] == [4, 5, 6, 7, 8, 9]
    second.close()
    assert inspect(tmp_path).segments == 0


def test_kill_in_the_middle_of_logging_loses_nothing(tmp_path):
    writer = run_python(
        """
        import sys
        from collector.spool import Spool
        spool = Spool(sys.argv[1], segment_bytes=20_000)
        n = 0
        while True:
            assert spool.append({"n": n, "text": "x" * 200})
            n += 1
            print(n, flush=True)
        """,
        tmp_path,
    )
    returned = 0
    for line in writer.stdout:
        returned = int(line)
        if returned >= 500:
            break
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    returned = max([returned, *map(int, (x for x in rest if x.isdigit()))])
    spool = Spool(tmp_path)
    assert spool.adopt() > 1
    numbers = [record["n"] for record in drain(spool)]
    assert set(range(returned)) <= set(numbers)
    assert len(numbers) == len(set(numbers))
    spool.close()


def test_torn_tail_and_damaged_middle_are_skipped_and_counted(tmp_path):
    dead = Spool(tmp_path)
    for n in range(5):
        dead.append({"n": n})
    dead.close()
    (segment,) = tmp_path.glob("*.seg")
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"n":1', b'"n":9')
    segment.write_bytes(b"".join(lines) + frame(b'{"n":5}')[:-4])
    assert inspect(tmp_path).damaged == 2
    spool = Spool(tmp_path)
    spool.adopt()
    assert [record["n"] for record in drain(spool)] == [0, 2, 3, 4]
    assert spool.counts.damaged == 2
    assert inspect(tmp_path).segments == 0
    spool.close()


def test_two_adopters_share_without_doubling(tmp_path):
    for _ in range(4):
        dead = Spool(tmp_path)
        for n in range(3):
            dead.append({"n": n})
        dead.close()
    one, two = Spool(tmp_path), Spool(tmp_path)
    assert one.adopt() + two.adopt() == 4
    assert len(drain(one)) + len(drain(two)) == 12
    one.close()
    two.close()


def test_full_disk_is_counted_and_does_not_raise(tmp_path):
    child = run_python(
        """
        import json, resource, sys
        from collector.spool import Spool
        spool = Spool(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        kept = [spool.append({"n": n, "text": "x" * 100}) for n in range(30)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        kept.append(spool.append({"n": 30}))
        print(json.dumps([kept, spool.counts.as_dict()]))
        """,
        tmp_path,
    )
    output, _ = child.communicate()
    kept, counts = json.loads(output)
    # Each segment takes 2,000 bytes, so a write fails now and then and the next segment goes on.
    assert kept[0]
    assert kept[30]
    assert counts["dropped"]["disk_full"] == kept.count(False) > 0
    assert counts["seen"] == counts["spooled"] + counts["dropped"]["disk_full"] == 31
    spool = Spool(tmp_path)
    spool.adopt()
    survivors = sorted(record["n"] for record in drain(spool))
    assert survivors == [n for n, ok in enumerate(kept) if ok]
    spool.close()


def test_bound_drops_new_records_with_a_reason(tmp_path, caplog):
    spool = Spool(tmp_path, max_bytes=1000)
    kept = sum(spool.append({"n": n, "text": "x" * 100}) for n in range(30))
    assert 0 < kept < 30
    assert spool.counts.dropped == {"spool_full": 30 - kept}
    assert sum("spool_full" in message for message in caplog.messages) == 1
    assert len(drain(spool)) == kept
    assert spool.append({"n": 30})
    spool.close()


def test_what_json_cannot_hold_is_counted(tmp_path):
    spool = Spool(tmp_path)
    circular: list = []
    circular.append(circular)
    for record in ({"x": float("nan")}, {"x": object()}, {"x": circular}):
        assert not spool.append(record)
    assert spool.counts.dropped == {"not_json": 3}
    assert spool.append({"x": "\ud800"})
    spool.close()


def test_rejected_records_are_kept_aside(tmp_path):
    spool = Spool(tmp_path)
    spool.reject({"id": 1}, "unknown_role: x")
    (aside,) = (tmp_path / "rejected").iterdir()
    assert json.loads(aside.read_text()) == {"reason": "unknown_role: x", "record": {"id": 1}}
    assert inspect(tmp_path).rejected == 1
    spool.close()


def test_forked_child_writes_segments_of_its_own(tmp_path):
    child = run_python(
        """
        import os, sys
        from collector.spool import Spool
        spool = Spool(sys.argv[1])
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


@pytest.mark.parametrize("durable", [False, True])
def test_durable_or_not_the_records_are_in_the_file_at_once(tmp_path, durable):
    spool = Spool(tmp_path, durable=durable)
    spool.append({"n": 1})
    assert inspect(tmp_path).records == 1
    spool.sync()
    spool.close()
    assert os.listdir(tmp_path)
