"""What a file holds, however it is written: lines, documents, tables, and every way they break."""

import csv
import gzip
import json
import tracemalloc
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collector.importers import source as source_module
from collector.importers.source import Source

DEEP = b"[" * 100_000 + b"]" * 100_000
NO_OBJECT_3 = (3, "not_an_object")


def rows_of(path, skip=0):
    """The rows of a file: (place, object or code of the fault)."""
    return [
        (place, row if isinstance(row, dict) else row.partition(":")[0])
        for place, _, row in Source(path, skip=skip).rows()
    ]


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("bom.jsonl", b'\xef\xbb\xbf{"a": 1}\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})]),
        ("crlf.jsonl", b'{"a": 1}\r\n\r\n{"a": 2}\r\n', [(1, {"a": 1}), (3, {"a": 2})]),
        ("nan.jsonl", b'{"a": NaN}\n', [(1, {"a": None})]),
        ("half.jsonl", b'{"a": 1}\n{"a": "tw', [(1, {"a": 1}), (2, "not_json")]),
        ("bytes.jsonl", b'{"a": "\xff"}\n{"a": 2}', [(1, "invalid_utf8"), (2, {"a": 2})]),
        ("other.jsonl", b'{"a": 1}\n[1]', [(1, {"a": 1}), (2, "not_an_object")]),
        ("deep.jsonl", b'{"a":' + DEEP + b"}\n{}", [(1, "too_deep"), (2, {})]),
        ("list.json", b'[{"a": 1},\n {"a": 2}, 3]', [(1, {"a": 1}), (2, {"a": 2}), NO_OBJECT_3]),
        ("lists.jsonl", b'[{"a": 1}]\n[{"a": 2}]\n{"a": 3}',
         [(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 3})]),
        ("after.json", b'[{"a": 1}] and more', [(1, {"a": 1}), (2, "not_json")]),
        ("list.json.gz", b'[{"a": 1}]', [(1, {"a": 1})]),
        ("cut.json", b'[{"a": 1}, {"a": ', [(1, {"a": 1}), (2, "not_json")]),
        ("bytes.json", b'[{"a": "\xff"}, {"a": 2}]', [(1, "invalid_utf8"), (2, {"a": 2})]),
        ("object.json", b'{\n  "a": 1\n}\n', [(1, {"a": 1})]),
        ("objects.json", b'{\n  "a": 1\n}\n{\n  "a": 2\n}', [(1, {"a": 1}), (2, {"a": 2})]),
        ("line.json", b'{"a": 1}', [(1, {"a": 1})]),
        ("empty.jsonl", b"", []),
        ("empty.json", b"[]", []),
        ("bad_first.jsonl", b'{"a"\n{"a": 2}', [(1, "not_json"), (2, {"a": 2})]),
        ("not.jsonl.gz", b"", []),
    ],
)  # fmt: skip
def test_rows_of_a_file(tmp_path, name, data, expected):
    assert rows_of(written(tmp_path, name, data)) == expected


def test_a_damaged_gzip_ends_with_a_reason(tmp_path):
    whole = gzip.compress(b'{"a": 1}\n' * 50_000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    rows = rows_of(path)
    assert rows[0] == (1, {"a": 1})
    assert rows[-1][1] == "unreadable"


def test_a_line_that_is_too_long_is_left_out_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "MAX_ROW_BYTES", 1000)
    data = b'{"a": "' + b"x" * 5000 + b'"}\n{"a": 2}\n'
    assert rows_of(written(tmp_path, "a.jsonl", data)) == [(1, "too_large"), (2, {"a": 2})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.json.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    rows = [{"number": number, "text": "x" * 1000} for number in range(20_000)]
    lines = "\n".join(map(json.dumps, rows)) if "jsonl" in name else json.dumps(rows)
    path = written(tmp_path, name, lines.encode())
    del rows, lines
    tracemalloc.start()
    numbers = [row["number"] for _, _, row in Source(path).rows()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert numbers == list(range(20_000))
    assert peak < 10e6 < 20_000 * 1000


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_places_that_were_settled_are_left_out(tmp_path, name):
    rows = [{"a": str(number)} for number in range(1, 6)]
    texts = {"a.jsonl": "\n".join(map(json.dumps, rows)), "a.json": json.dumps(rows)}
    text = texts.get(name, "a\n" + "\n".join(row["a"] for row in rows))
    assert rows_of(written(tmp_path, name, text.encode()), skip=3) == [(4, rows[3]), (5, rows[4])]


def test_the_position_goes_to_the_end(tmp_path):
    source = Source(written(tmp_path, "a.jsonl.gz", b'{"a": 1}\n' * 1000))
    assert source.position() == 0
    assert len(list(source.rows())) == 1000
    assert source.position() == source.size() > 0


def test_a_table_is_rows(tmp_path):
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerows(
            [["q", "a"], ["one\nline", 'two "quoted"'], ["", "x"], ["too", "many", "!"]]
        )
    assert rows_of(path) == [
        (1, {"q": "one\nline", "a": 'two "quoted"'}),
        (2, {"q": None, "a": "x"}),
        (3, "not_a_row"),
    ]
    assert rows_of(written(tmp_path, "a.tsv.gz", b"q\ta\n1\t2\n")) == [(1, {"q": "1", "a": "2"})]


def test_parquet_is_rows_and_its_values_become_json(tmp_path):
    when = datetime(2025, 1, 2, tzinfo=UTC)
    table = pa.Table.from_pylist(
        [
            {"said": [{"role": "user"}], "score": float("nan"), "when": when},
            {"said": [], "score": 0.5, "when": None},
        ]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [
        (1, {"said": [{"role": "user"}], "score": None, "when": when.isoformat()}),
        (2, {"said": [], "score": 0.5, "when": None}),
    ]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 is not enough")
    assert rows_of(tmp_path / "b.parquet") == [(1, "unreadable")]
