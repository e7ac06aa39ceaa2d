"""The quick search for lines to mask finds every line that a mask would change."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.masks import masked, masked_bytes, masked_line

PARTS = [
    *("0190a5c0-1111-7abc-8def-0123456789ab", "2026-01-02T03:04:05.123Z", "03:04:05", "2026-01-02"),
    *("10.0.0.12:5432", "10.0.0.12", "localhost:8080", "api.example.org:443", "0x7f8a12bc34d0"),
    *("/home/ann/project/src/main.py", "~/a/b.py", r"c:\users\ann\x.txt", "c:/a/b", "a//b/c"),
    *("3f786850e387550fdab836ed7e6dc881de23001b", "1732180000123", "1.2.3", "x[1:20]", "12:30"),
    *("https://example.org/a/b", "total/count/2", "</b>", " ", "\n", "\t", "é", "—", "x", "-", "."),
]


@given(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=30))
def test_nothing_that_a_mask_would_change_is_passed_over(parts):
    text = "".join(parts).replace("\0", " ")
    found = masked(text)
    assert found == "\n".join(masked_line(line) for line in plain(text).split("\n"))
    assert masked_bytes(["x 1", text, "y/z"])[1].decode() == found


def plain(text: str) -> str:
    """The text in lower case, signs apart, nothing masked."""
    from curation import masks

    raw = masks._composed(text.encode()).lower()
    return masks.decoded(masks._plain(raw))


@pytest.mark.parametrize("n", [1, 50, 5000])
def test_texts_do_not_touch_each_other(n):
    rng = random.Random(n)
    texts = [" ".join(rng.choices(PARTS, k=rng.randrange(20))) for _ in range(n)]
    together = masked_bytes(texts)
    assert together == [masked_bytes([text])[0] for text in texts]
    assert len(together) == n


def test_what_is_typed_otherwise_is_the_same():
    assert masked("“Naïve” — it’s…") == masked('"NAÏVE" - it\'s...')
    assert masked("cafe\u0301\u00a0x") == masked("café x")
    assert masked("a\0b") == "a b"


def test_scripts_without_spaces_have_words():
    assert len(masked("素早い茶色の狐").split()) == 7
    assert masked("x≤y").split() == ["x", "≤", "y"]


def test_a_lone_surrogate_passes():
    assert masked("\ud800 A") == "\ud800 a" or masked("\ud800 A").split()[-1] == "a"


def test_an_address_and_its_path_keep_the_path():
    assert masked("get http://127.0.0.1:8000/v1/items/3") == "get http://<address>/v1/items/3"
    assert masked("release 1.2.3 of a.b.c") == "release 1.2.3 of a.b.c"


def test_a_line_of_a_million_dots_is_no_trap():
    assert len(masked("1." * 500_000 + ":99")) > 0
    assert len(masked("a/" * 500_000)) == 1_000_000
