"""Masks hide what changes from run to run and nothing that carries meaning."""

import pytest

from curation.boilerplate import Templates
from curation.normalize import comparable, comparable_lines, normalize, normalize_all
from foundation.chat import message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("at 2026-01-02T03:04:05.123Z it broke", "at 2025-11-12 13:14:15 it broke"),
        ("took until 03:04:05", "took until 13:44:01.250"),
        ("id 0190a5c0-1111-7abc-8def-0123456789ab", "id 0190a5c0-2222-7abc-8def-0123456789ab"),
        ("object at 0x7f8a12bc34d0", "object at 0x7f8a12bc9990"),
        ("listen on localhost:8080", "listen on localhost:9091"),
        ("host 10.0.0.12:5432 down", "host 192.168.1.7:5432 down"),
        ("see /home/ann/project/src/main.py", "see /srv/build/17/main.py"),
        ("commit 3f786850e387550fdab836ed7e6dc881de23001b", "commit 89e6c98d92887913cadf06b2adb9"),
        ("epoch 1732180000123", "epoch 1732180999999"),
        ("Fix   THE\n bug", "fix the bug"),
    ],
)
def test_runs_of_the_same_thing_compare_equal(one, other):
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x + 2", "x + 3"),
        ("mod 1000000007", "mod 998244353"),
        ("mask 0xff", "mask 0x0f"),
        ("edit /srv/app/main.py", "edit /srv/app/test.py"),
        ("total/count/2", "total/count/3"),
        ("a[1:2]", "a[1:3]"),
        ("version 1.2.3", "version 1.2.4"),
        ("x < y", "x > y"),
    ],
)
def test_meaning_stays(one, other):
    assert comparable(one) != comparable(other)
    assert comparable_lines(one) != comparable_lines(other)


def test_the_layout_of_an_answer_stays_but_not_its_width():
    wide = "def f(x):\n    if x:\n        return 1\n\n    return  2\n"
    assert comparable_lines(wide) == "def f(x):\n\tif x:\n\t\treturn 1\n\treturn 2"
    assert comparable_lines(wide.replace("    ", "\t")) == comparable_lines(wide)
    assert comparable_lines(wide.replace("    return  2", "        return 2")) != comparable_lines(
        wide
    )
    assert comparable_lines("") == ""


def test_system_prompts_and_earlier_answers_are_not_compared():
    bare = normalize([message("user", "Do it")], "done")
    full = normalize(
        [message("system", "You are…"), message("user", "do it"), message("assistant", "what?")],
        "Done",
    )
    assert bare == full
    assert bare.norm_hash == full.norm_hash
    assert normalize([message("user", "ab")], "c").norm_hash != (
        normalize([message("user", "a")], "bc").norm_hash
    )


def test_many_at_once_are_as_one_by_one_and_without_templates():
    templates = Templates(prompt=("you are a careful programmer.",), answer=("sure!",))
    calls = [
        ([message("user", f"You are a  careful programmer. Do {n} at 12:00:0{n}")], f"Sure!\n{n}")
        for n in range(5)
    ]
    found = normalize_all(calls, templates)
    assert found == [normalize(prompt, answer, templates) for prompt, answer in calls]
    assert (found[3].prompt, found[3].answer) == ("do 3 at <time>", "3")
    assert normalize_all([]) == []
