"""What came to the log's end is noted in the index by transactions, which is read at each look."""

from sqlalchemy import text
from sqlmodel import Session

from collector.partitions import partition_name, summarize, week_start
from collector.tables import Interaction
from foundation.database import get_engine
from foundation.tables import now

_UNREAD = text("SELECT brin_summarize_new_values(CAST(:name AS regclass))")


def test_new_pages_are_summarized_once(session: Session) -> None:
    session.add_all([Interaction(role="coder", key="x" * 2_000) for _ in range(2_000)])
    session.commit()
    index = f"{partition_name('interaction', week_start(now()))}_written_xid_idx"
    with get_engine().connect() as connection:
        summarize(connection)
        summarize(connection)
        assert connection.execute(_UNREAD, {"name": index}).scalar() == 0, "nothing was left"
