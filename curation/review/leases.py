"""Who looks at what now: the next item for a reviewer, leases that expire, drafts.

An item is leased to one reviewer at a time. A lease that ran out is worth nothing: the item goes to
the next who asks, and what the late one says is taken only if nobody else holds it by then.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import Uuid
from sqlmodel import Session, col

from curation.review.words import reviewer_name, scrubbed
from curation.score.outcome import CONTAMINATED, EXACT_DUPLICATE, NEAR_DUPLICATE
from curation.tables import Example, PreferencePair, ReviewDraft, ReviewItem, ReviewLabel
from foundation.errors import Conflict, NotFound
from foundation.settings import get_settings
from foundation.tables import now

LEASE_S: Final = 900.0
OPEN, DONE, WITHDRAWN = "open", "done", "withdrawn"


def next_item(
    session: Session,
    reviewer: str,
    role: str | None = None,
    *,
    kind: str | None = None,
    besides: Sequence[UUID] = (),
    lease_s: float = LEASE_S,
) -> ReviewItem | None:
    """Lease the most important open item that this reviewer has not labelled yet, or None.

    Two reviewers never get the same one. Who asks again without labelling gets the same item.

    Args:
        session: the lease holds from its commit on.
        reviewer: who asks.
        role: of the items; None: of whichever role has the most important one.
        kind: `example`, `pair`, `likeness` or `sample`; None: any.
        besides: items that are not wanted now, such as the one on the screen.
        lease_s: seconds until somebody else may get it.
    """
    asked = {
        "reviewer": reviewer_name(reviewer),
        "kind": kind,
        "besides": list(besides),
        "lease_s": lease_s,
        "gone": _GONE,
    }
    for candidate in _roles(session) if role is None else [role]:
        while (taken := session.execute(_TAKE, asked | {"role": candidate}).scalar()) is not None:
            item = session.get_one(ReviewItem, taken, populate_existing=True)
            if is_there(session, item):
                return item
            item.status = WITHDRAWN
            session.flush()
    return None


def is_there(session: Session, item: ReviewItem) -> bool:
    """Return whether what the item is about still exists: it may have been erased."""
    if item.kind == "sample":
        return True  # it carries its texts
    if item.kind == "pair":
        return session.get(PreferencePair, item.subject_id) is not None
    ids = (item.subject_id,) if item.kind == "example" else likeness_sides(item)
    found = session.execute(select(col(Example.id)).where(col(Example.id).in_(ids))).all()
    return len(found) == len(ids)


def likeness_sides(item: ReviewItem) -> tuple[UUID, UUID]:
    """Return the two examples of a likeness."""
    return UUID(item.detail["first"]), UUID(str(item.other_id))


def get_item(session: Session, item_id: UUID, *, lock: bool = False) -> ReviewItem:
    """Return an item by id, locked against other reviewers if asked; raises NotFound."""
    item = session.get(
        ReviewItem, item_id, populate_existing=True, with_for_update=True if lock else None
    )
    if item is None:
        raise NotFound(
            "review item", str(item_id), "the id of an item", "Ask for one: flywheel review next"
        )
    return item


def require_free(item: ReviewItem, reviewer: str) -> None:
    """Check that `reviewer` may say something about a locked item.

    Raises:
        Conflict: it is settled, or somebody else's.
    """
    if item.status != OPEN:
        raise Conflict("review item", item.status, "an open one", "Go on with the next.")
    if item.assigned_to not in (None, reviewer):
        raise Conflict("review item", "assigned to somebody else", "yours", "Go on with the next.")
    if not _is_free_for(item, reviewer):
        raise Conflict(
            *("review item", "leased to somebody else", "one that you hold"),
            "Your lease ran out. Go on with the next.",
        )


def require_first_word(session: Session, item: ReviewItem, reviewer: str) -> None:
    """Check that `reviewer` has no label in force on a locked item; raises Conflict."""
    said = select(col(ReviewLabel.id)).where(
        col(ReviewLabel.item_id) == item.id,
        col(ReviewLabel.reviewer) == reviewer,
        col(ReviewLabel.undone_at).is_(None),
    )
    if session.execute(said.limit(1)).first() is not None:
        raise Conflict(
            *("review item", "labelled by you already", "one that you have not labelled"),
            "Undo your label first: flywheel review undo",
        )


def release(session: Session, item_id: UUID, reviewer: str) -> None:
    """Give an item back that this reviewer holds, without a word on it."""
    item = get_item(session, item_id, lock=True)
    if item.leased_by == reviewer_name(reviewer):
        item.leased_by = item.leased_until = None
        session.flush()


def hold(session: Session, item: ReviewItem, reviewer: str, lease_s: float = LEASE_S) -> None:
    """Lease a locked item to this reviewer, unless it is settled or somebody else's by now."""
    if item.status == OPEN and _is_free_for(item, reviewer):
        session.execute(_RENEW, {"id": item.id, "reviewer": reviewer, "lease_s": lease_s})
        session.refresh(item)


def save_draft(
    session: Session,
    item_id: UUID,
    reviewer: str,
    content: dict[str, Any],
    *,
    lease_s: float = LEASE_S,
) -> ReviewDraft:
    """Keep what a reviewer has typed so far, scrubbed; who types keeps the lease.

    Raises:
        NotFound: there is no such item.
        Conflict: it is settled, somebody else holds it, or this reviewer has labelled it: a draft
            that comes behind its label would keep the second opinion waiting.
    """
    name = reviewer_name(reviewer)
    item = get_item(session, item_id, lock=True)
    require_free(item, name)
    require_first_word(session, item, name)
    hold(session, item, name, lease_s)
    values = {
        "item_id": item_id,
        "reviewer": name,
        "content": scrubbed(content),
        "saved_at": now(),
    }
    changed = {column: values[column] for column in ("content", "saved_at")}
    session.execute(
        insert(ReviewDraft)
        .values(values)
        .on_conflict_do_update(index_elements=["item_id", "reviewer"], set_=changed)
    )
    return session.get_one(ReviewDraft, (item_id, name), populate_existing=True)


def draft_of(session: Session, item_id: UUID, reviewer: str) -> dict[str, Any] | None:
    """Return what this reviewer had typed when they left the item, or None."""
    draft = session.get(ReviewDraft, (item_id, reviewer_name(reviewer)))
    return None if draft is None else draft.content


def held_since(item: ReviewItem, reviewer: str) -> datetime | None:
    """Return when this reviewer took the item that they hold, or None."""
    since = item.detail.get("leased_at")
    return datetime.fromisoformat(since) if since and item.leased_by == reviewer else None


def _is_free_for(item: ReviewItem, reviewer: str) -> bool:
    is_running = item.leased_until is not None and item.leased_until > now()
    return item.leased_by in (None, reviewer) or not is_running


def _roles(session: Session) -> list[str]:
    found = session.execute(_ROLES, {"roles": get_settings().roles})
    return [row.role for row in found]


_LEASED: Final = """
        leased_by = CAST(:reviewer AS varchar),
        leased_until = clock_timestamp() + make_interval(secs => :lease_s),
        detail = CASE
            WHEN leased_by = :reviewer AND leased_until > clock_timestamp() THEN detail
            ELSE detail || jsonb_build_object('leased_at', clock_timestamp())
        END
"""
"""Who holds a lease still holds it since they first did."""

_GONE: Final = [CONTAMINATED, EXACT_DUPLICATE, NEAR_DUPLICATE]
"""Drops since it was queued that leave nothing to judge, but for who asked for it by hand. The item
stays, and is offered again when its example is back."""

# The labels are looked for by the item, for one item after another until one is free: a join, or
# the index by reviewer, would read all labels of a busy reviewer first.
_TAKE = text(
    f"""
    WITH chosen AS (
        SELECT id FROM review_item AS item
        WHERE role = :role AND status = 'open'
          AND (leased_until IS NULL OR leased_until <= clock_timestamp() OR leased_by = :reviewer)
          AND (assigned_to IS NULL OR assigned_to = :reviewer)
          AND (CAST(:kind AS text) IS NULL OR kind = :kind)
          AND id <> ALL(:besides)
          AND NOT EXISTS (
              SELECT 1 FROM review_label
              WHERE item_id = item.id AND reviewer || '' = :reviewer AND undone_at IS NULL
              OFFSET 0
          )
          AND (kind <> 'example' OR reason = 'filter' OR NOT EXISTS (
              SELECT 1 FROM example
              WHERE id = item.subject_id AND drop_reason = ANY(:gone)
              OFFSET 0
          ))
        ORDER BY priority DESC
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE review_item SET {_LEASED}
    FROM chosen WHERE review_item.id = chosen.id
    RETURNING review_item.id
    """
).bindparams(bindparam("besides", type_=ARRAY(Uuid)))

_RENEW = text(f"UPDATE review_item SET {_LEASED} WHERE id = :id")

_ROLES = text(
    """
    SELECT role, top.priority FROM unnest(CAST(:roles AS text[])) AS role
    CROSS JOIN LATERAL (
        SELECT priority FROM review_item AS item
        WHERE item.role = role.role AND status = 'open' ORDER BY priority DESC LIMIT 1
    ) AS top
    ORDER BY top.priority DESC
    """
)
