"""Who a statement comes from, as far as that can be known, and whose word is heard.

`source` and `actor` of a statement are what its sender says of himself: one key can claim to be a
hundred actors. What cannot be claimed is the key by which it came. So the source of a statement is

- `key:<id>`, where it came by a key of the gateway, whatever it calls itself;
- `user:<actor>`, where an application that has the master key passes on what a named end user said;
- nobody in particular, where it came by the master key, or on a machine that asks for none. Who has
  that may promote by hand, so to guard against his feedback would protect nothing.

A person may trust a source (one continuous integration that judges everything), or distrust it:
then what it said counts for nothing, neither as an outcome nor as credit nor in curation.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.tables import SourceTrust
from foundation.errors import BadInput, NotFound
from foundation.tables import now

TRUSTED, DISTRUSTED = "trusted", "distrusted"
KEY, USER = "key:", "user:"
"""How the name of a source begins."""
MACHINE: Final = ""
"""Source of what came by the master key, or where no key is asked for."""


def source_of(alias: str) -> str:
    """Return SQL of the source of a row of `feedback`; `MACHINE` for nobody in particular.

    What a rule of credit made of a statement comes from whom the statement came from.
    """
    return (
        f"CASE WHEN {alias}.derived_from IS NULL THEN {_own_source(alias)} ELSE COALESCE("
        f"(SELECT {_own_source('original')} FROM feedback original "
        f"WHERE original.id = {alias}.derived_from), {_own_source(alias)}) END"
    )


def _own_source(alias: str) -> str:
    return (
        f"CASE WHEN {alias}.key_id IS NOT NULL THEN '{KEY}' || {alias}.key_id::text "
        f"WHEN {alias}.source = 'user' AND {alias}.actor IS NOT NULL "
        f"THEN '{USER}' || {alias}.actor ELSE '{MACHINE}' END"
    )


def is_heard(alias: str) -> str:
    """Return SQL that holds for a row of `feedback` whose source is not distrusted."""
    return (
        "NOT EXISTS (SELECT 1 FROM source_trust trusts "
        f"WHERE trusts.trust = '{DISTRUSTED}' AND trusts.source = {source_of(alias)} "
        f"AND (trusts.since IS NULL OR {alias}.ingested_at >= trusts.since))"
    )


def trusted(session: Session) -> set[str]:
    """Return the sources whose word alone may decide."""
    rows = session.exec(select(SourceTrust.source).where(SourceTrust.trust == TRUSTED))
    return set(rows.all())


def list_trust(session: Session) -> Sequence[SourceTrust]:
    """Return what people said of sources, by source."""
    return session.exec(select(SourceTrust).order_by(col(SourceTrust.source))).all()


def set_trust(
    session: Session,
    source: str,
    trust: str | None,
    *,
    reason: str,
    actor: str,
    since: datetime | None = None,
) -> int:
    """Say whether a source is trusted, distrusted or (None) like any other; return what it said.

    Where distrust comes or goes, every statement of it counts as newly written, so that curation
    judges again what it spoke of; where trust does, its preferences do, whose votes are counted so.
    Call it through `router.trust`, which also settles anew the experiments that run.

    Args:
        session: the transaction.
        source: `key:<id>` or `user:<actor>`.
        trust: `trusted`, `distrusted` or None.
        reason: why, in words.
        actor: who decided.
        since: of distrust: what came from then on; None: all that it ever said.

    Raises:
        BadInput: no such kind of source, or an empty reason.
        NotFound: nothing was said of a source whose row is to go.
    """
    if not source.startswith((KEY, USER)) or source in (KEY, USER):
        raise BadInput("source of feedback", source, "key:NAME or user:ACTOR", _LIST)
    if not reason.strip():
        raise BadInput("reason", reason, "why, in a few words", "Say it.")
    row = session.get(SourceTrust, source, with_for_update=True)
    weighs = DISTRUSTED in (trust, row.trust if row else None)
    if trust is None:
        if row is None:
            raise NotFound("source", source, "one that was trusted or distrusted", _LIST)
        session.delete(row)
    else:
        row = row or SourceTrust(source=source, trust=trust, reason=reason)
        row.trust, row.since, row.reason = trust, since, reason
        row.actor, row.updated_at = actor, now()
        session.add(row)
    session.flush()
    session.execute(_TOUCH, {"source": source, "all": weighs})
    return int(session.execute(_COUNT, {"source": source}).scalar_one())


_LIST: Final = "List them with: flywheel feedback sources"

_TOUCH = text(
    f"""
    UPDATE feedback SET written_xid = DEFAULT
    WHERE {source_of("feedback")} = :source AND (:all OR kind = 'preference')
    """
)
"""Curation sees by the writing transaction what is new to it."""

_COUNT = text(f"SELECT count(*) FROM feedback WHERE {source_of('feedback')} = :source")
