"""Quotations: what a text is known again by, where it stands, and what is left when it goes."""

import json

from sqlalchemy import text as sql
from sqlmodel import select

from foundation.quotes import ERASED, Sought, blank, blanked, find, fragments
from foundation.tables import Decision, Run

LETTERS = "the old heron nests"
TEXT = 'He said: "the old heron nests in drawer 17 of the desk"\nand left; 100% sure_of it.'


def test_fragments_need_no_escaping_and_short_texts_give_none():
    found = fragments([TEXT, "short", "{[" * 40, ""])
    assert found == ["the old heron nests in drawer 17 of the desk"]
    assert all(json.dumps(one) == f'"{one}"' for one in found)
    assert all(len(one) <= 80 for one in fragments(["word " * 500]))


def test_a_name_is_found_as_a_word_and_a_short_one_only_alone():
    sought = Sought(names=("person-1", "joe"))
    assert sought.is_in("asked by person-1.")
    assert not sought.is_in("asked by person-12, super-person-1x")
    assert sought.is_in("joe")
    assert not sought.is_in("joe asked")


def test_strings_give_way_and_the_rest_stays():
    sought = Sought(("the old heron nests",), ("person-1",))
    value = {"n": 3, "why": [TEXT, "fine"], "person-1": None, "deep": {"unit": "person-1"}}
    assert blanked(value, sought) == {
        "n": 3,
        "why": [ERASED, "fine"],
        ERASED: None,
        "deep": {"unit": ERASED},
    }


def test_every_table_is_searched_and_only_what_may_is_blanked(session):
    letters = "drawer number 50% of \u00e4ltere_Reiher"
    session.add_all(
        [
            Decision(kind="k", inputs={"said": f"x {letters} y", "n": 1}, outcome="kept"),
            Run(kind="k", params={"said": letters}, error=f"could not read {letters}"),
            Run(kind="k", error="drawer number 500 of altere-Reiher"),
        ]
    )
    session.flush()
    sought = Sought((letters,))
    assert find(session, sought) == {"decision": 1, "run": 1}
    assert find(session, sought, without=("run",)) == {"decision": 1}
    assert find(session, Sought()) == {}
    changed = blank(session, sought, lambda column: column.name != "params")
    assert changed == {"decision": 1, "run": 1}
    assert find(session, sought) == {"run": 1}
    session.expire_all()
    errors = {run.error for run in session.exec(select(Run))}
    assert errors == {ERASED, "drawer number 500 of altere-Reiher"}


def test_a_row_is_blanked_where_it_lies_and_no_row_of_another_partition(session):
    session.execute(
        sql(
            "CREATE TABLE said (n int, words text) PARTITION BY RANGE (n);"
            "CREATE TABLE said_low PARTITION OF said FOR VALUES FROM (0) TO (10);"
            "CREATE TABLE said_high PARTITION OF said FOR VALUES FROM (10) TO (20);"
            f"INSERT INTO said VALUES (1, 'the first drawer of them'), (11, '{LETTERS}')"
        )
    )
    assert blank(session, Sought((LETTERS,)), lambda column: column.table == "said") == {"said": 1}
    rows = session.execute(sql("SELECT n, words FROM said ORDER BY n")).all()
    assert [tuple(row) for row in rows] == [(1, "the first drawer of them"), (11, ERASED)]
