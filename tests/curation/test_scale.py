"""What new rows cost as the tables grow: counted in pages read, not in seconds."""

import re
from collections.abc import Sequence

import numpy as np
import psycopg
from indexed import Shelf, words
from sqlalchemy import text
from sqlmodel import Session

from curation.dedupe.buckets import PROBE, array, by_index
from foundation.database import get_engine


def fill(session: Session, n_texts: int) -> None:
    """Write the keys of texts that are like nothing else."""
    session.execute(
        text(
            "INSERT INTO text_band (key, text_id) "
            "SELECT hashint8extended(16 * t + b, 0), t "
            "FROM generate_series(1, :n) t, generate_series(0, 15) b"
        ),
        {"n": n_texts},
    )
    session.commit()
    session.execute(text("ANALYZE text_band"))


def some_keys(session: Session, n: int) -> tuple[list[int], list[int]]:
    rows = session.execute(
        text("SELECT key, text_id FROM text_band ORDER BY key LIMIT :n"), {"n": n}
    ).all()
    keys, owners = np.array(rows, dtype=np.int64).T.tolist()
    return keys, owners


def pages_of_a_probe(session: Session, n_keys: int) -> int:
    """Return the pages that looking up some stored keys touches."""
    keys, owners = some_keys(session, n_keys)
    given = {"keys": array(keys), "owners": array(owners), "cap": 200}
    with by_index(session):
        plan = session.execute(
            text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {PROBE.text}"), given
        ).scalar_one()
    top = plan[0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def test_the_plan_looks_keys_up_one_by_one(session):
    fill(session, 20_000)
    keys, owners = some_keys(session, 500)
    given = {"keys": array(keys), "owners": array(owners), "cap": 200}
    with by_index(session):
        plan = "\n".join(
            session.execute(text(f"EXPLAIN (COSTS OFF) {PROBE.text}"), given).scalars()
        )
    assert "Index Scan using ix_text_band_key on text_band" in plan
    assert "Nested Loop" in plan
    assert not re.search(r"Seq Scan on text_band|Hash Join|Merge Join|Bitmap", plan), plan
    again = session.execute(text("SHOW enable_seqscan")).scalar_one()
    assert again == "on", "only the block is planned so"


def test_looking_up_costs_the_same_in_a_table_ten_times_as_large(session):
    fill(session, 2_000)
    small = pages_of_a_probe(session, 500)
    session.execute(text("TRUNCATE text_band"))
    fill(session, 20_000)
    large = pages_of_a_probe(session, 500)
    assert large <= 1.5 * small, "each key: a bucket of the index and a page of the table"


def vacuum(session: Session) -> None:
    """Do what autovacuum would have done by now; on this connection, so that it is counted now."""
    session.commit()
    driver = session.connection().connection.driver_connection
    session.commit()
    assert isinstance(driver, psycopg.Connection)
    driver.autocommit = True
    driver.execute("VACUUM ANALYZE example")
    driver.autocommit = False


def pages_read(session: Session) -> int:
    """Return the pages that this connection has touched so far in the tables of curation."""
    session.commit()
    session.execute(text("SELECT pg_stat_force_next_flush()"))
    session.commit()
    return int(
        session.execute(
            text(
                "SELECT coalesce(sum(heap_blks_read + heap_blks_hit), 0) "
                "FROM pg_statio_user_tables "
                "WHERE relname IN ('example', 'text_band', 'text_edge', 'indexed_text')"
            )
        ).scalar_one()
    )


def test_ten_new_examples_cost_no_more_beside_five_hundred_than_beside_fifty(database):
    with get_engine().connect() as connection, Session(connection) as session:
        costs = costs_of_ten_more(session, (50, 500))
    assert costs[1] <= 1.5 * costs[0], costs


def costs_of_ten_more(session: Session, sizes: Sequence[int]) -> list[int]:
    """Return the pages that ten further examples touch beside so many; on one connection."""
    shelf, costs = Shelf(session), []
    for already in sizes:
        n_stored = len(shelf.examples())
        for number in range(n_stored, already):
            shelf.put(" ".join(words(40, f"p{number}")), " ".join(words(80, f"a{number}")))
        shelf.work()
        vacuum(session)
        for number in range(10):
            name = f"{already}-{number}"
            shelf.put(" ".join(words(40, f"p{name}")), " ".join(words(80, f"a{name}")))
        before = pages_read(session)
        shelf.work()
        costs.append(pages_read(session) - before)
    return costs
