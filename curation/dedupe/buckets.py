"""Which indexed texts share a bucket: keys looked up one by one, hot buckets capped and named.

A lookup is a nested loop over a hash index, which costs the same however large the table is. Left
alone, the planner soon prefers to read all of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import text
from sqlmodel import Session

from curation.dedupe.compare import PROMPT, Fingerprint
from curation.dedupe.minhash import I64
from curation.recipe import CurationRecipe

_HOT_NAMED_AT_MOST: Final = 5
_SAMPLE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Signed:
    """Texts of one kind, ready to be compared, and the keys that each is looked up by."""

    kind: str
    prints: dict[int, Fingerprint]
    keys: dict[int, list[int]]


@dataclass(frozen=True, slots=True)
class Shared:
    """The pairs that meet in a bucket, and the buckets that hold too many to compare."""

    pairs: set[tuple[int, int]]
    hot: list[dict[str, Any]]


def shared_buckets(session: Session, signed: Signed, recipe: CurationRecipe) -> Shared:
    """Return the pairs of indexed texts that share a bucket, one of them signed here.

    In a bucket over `recipe.hot_bucket_cap`, texts meet those of the least ids only.
    """
    if not signed.keys:
        return Shared(set(), [])
    cap = recipe.hot_bucket_cap
    owners = np.repeat(
        np.fromiter(signed.keys, np.int64, len(signed.keys)),
        [len(keys) for keys in signed.keys.values()],
    )
    keys = np.fromiter((k for own in signed.keys.values() for k in own), np.int64, len(owners))
    distinct, first = np.unique(keys, return_index=True)
    buckets: dict[int, list[int]] = defaultdict(list)
    for key, other in _probe(session, distinct, owners[first], cap):
        buckets[key].append(other)
    here = _owners_by_key(keys, owners, buckets)
    hot = {key: here[key][0] for key, others in buckets.items() if len(others) >= cap}
    for key, others in buckets.items():
        others.append(here[key][0])
    sizes = _least_members(session, hot, cap, buckets)
    pairs = {
        (min(one, other), max(one, other))
        for key, others in buckets.items()
        for one in here[key]
        for other in others
        if one != other
    }
    return Shared(pairs, _named(signed, hot, sizes, cap))


@contextmanager
def by_index(session: Session) -> Iterator[None]:
    """Have the queries of a block look rows up in indexes, whatever the planner thinks of it.

    A block that raises leaves the setting to the rollback that follows.
    """
    session.execute(_BY_INDEX, {"value": "off"})
    yield
    session.execute(_BY_INDEX, {"value": "on"})


def array(values: Iterable[Any]) -> str:
    """Return a PostgreSQL array literal of numbers or ids; None is NULL.

    Ten times as fast as the driver's adaptation of a list.
    """
    return "{" + ",".join(["NULL" if v is None else str(v) for v in values]) + "}"


def _probe(session: Session, keys: I64, owners: I64, cap: int) -> Sequence[Any]:
    """Return (key, text id) of up to `cap` texts of each key's bucket besides the key's owner."""
    given = {"keys": array(keys.tolist()), "owners": array(owners.tolist()), "cap": cap}
    with by_index(session):
        return session.execute(PROBE, given).all()


def _owners_by_key(
    keys: I64, owners: I64, wanted: Mapping[int, Sequence[int]]
) -> dict[int, list[int]]:
    """Return which texts look each of the wanted keys up, in their order."""
    found: dict[int, list[int]] = defaultdict(list)
    is_wanted = np.isin(keys, np.fromiter(wanted, np.int64, len(wanted)))
    for key, owner in zip(keys[is_wanted].tolist(), owners[is_wanted].tolist(), strict=True):
        found[key].append(owner)
    return found


def _least_members(
    session: Session, hot: Iterable[int], cap: int, buckets: dict[int, list[int]]
) -> dict[int, int]:
    """Cut hot buckets down to their texts of the least ids; return how many each really holds."""
    keys = list(hot)
    if not keys:
        return {}
    with by_index(session):
        rows = session.execute(_HOT, {"keys": array(keys), "cap": cap}).all()
    for key, _, least in rows:
        buckets[key] = least
    return {key: n for key, n, _ in rows}


def _named(
    signed: Signed, hot: Mapping[int, int], sizes: Mapping[int, int], cap: int
) -> list[dict[str, Any]]:
    """Return the largest hot buckets with the beginning of a text of each, one per text."""
    named: dict[int, dict[str, Any]] = {}
    for key in sorted((k for k in sizes if sizes[k] > cap), key=lambda k: -sizes[k]):
        if len(named) == _HOT_NAMED_AT_MOST:
            break
        shown = signed.prints[hot[key]]
        sample = shown.prompt.text if signed.kind == PROMPT else shown.answer.text
        named.setdefault(
            hot[key],
            {"kind": signed.kind, "n_texts": sizes[key], "sample": sample[:_SAMPLE_CHARS]},
        )
    return list(named.values())


# Forbidden plans look so dear that compiling the query would seem worth while, too.
_BY_INDEX = text(
    "SELECT set_config(name, :value, true) FROM unnest(ARRAY["
    "'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin', 'jit'"
    "]) AS name"
)

PROBE = text(
    """
    SELECT probed.key, found.text_id
    FROM unnest(CAST(:keys AS bigint[]), CAST(:owners AS bigint[])) AS probed (key, owner)
    CROSS JOIN LATERAL (
        SELECT text_id FROM text_band
        WHERE text_band.key = probed.key AND text_band.text_id <> probed.owner
        LIMIT :cap
    ) AS found
    """
)
"""The limit keeps a bucket of a million texts from being read, and each lookup a nested loop."""

_HOT = text(
    """
    SELECT hot.key, bucket.n, bucket.ids[1:CAST(:cap AS integer)]
    FROM unnest(CAST(:keys AS bigint[])) AS hot (key)
    CROSS JOIN LATERAL (
        SELECT count(*) AS n, array_agg(text_id ORDER BY text_id) AS ids
        FROM text_band WHERE text_band.key = hot.key
    ) AS bucket
    """
)
