"""The demo's home: it starts from an empty log, and never from somebody's real one."""

import shutil
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session, SQLModel

from flywheel.schema import upgrade
from foundation.database import get_engine
from foundation.errors import Conflict
from foundation.settings import get_settings

PROJECT = "demo"


def prepare_home() -> Path:
    """Bring the schema up, clear what an earlier demo left, and return the home.

    Raises:
        Conflict: the database holds records that are not a demo's; nothing is touched.
    """
    settings = get_settings()
    home = settings.home.absolute()
    with Session(get_engine()) as session:
        _require_no_strangers(session, home)
    home.mkdir(parents=True, exist_ok=True)
    upgrade()
    with Session(get_engine()) as session:
        stored = (t for t in SQLModel.metadata.sorted_tables if not t.info.get("is_view"))
        tables = ", ".join(f'"{table.name}"' for table in stored)
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        if session.execute(text("SELECT to_regclass('kombu_message')")).scalar() is not None:
            session.execute(text("DELETE FROM kombu_message"))
        session.commit()
    for left in ("spool", "work"):
        shutil.rmtree(home / left, ignore_errors=True)
    return home


def _require_no_strangers(session: Session, home: Path) -> None:
    """Check before anything is changed that all there is comes from a demo; raises Conflict."""
    if session.execute(text("SELECT to_regclass('interaction')")).scalar() is None:
        return
    strangers = session.execute(_STRANGERS, {"demo": PROJECT}).scalar_one()
    if strangers:
        raise Conflict(
            "demo",
            str(home),
            "an empty home or one of an earlier demo, but its database holds real records",
            "Give the demo a home of its own: FLYWHEEL_HOME=.flywheel-demo flywheel demo",
        )


_STRANGERS = text(
    """
    SELECT EXISTS (SELECT FROM interaction WHERE project <> :demo)
        OR EXISTS (SELECT FROM suite WHERE name NOT LIKE 'demo-%')
    """
)
