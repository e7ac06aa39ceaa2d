"""Which examples stand and which repeat one that does: verdicts from examples and evidence alone.

Go through the texts by falling rank, the rank of a text being that of its best open example. A text
is kept if no kept text is its direct neighbour by a verified edge; else all its examples repeat the
best such neighbour (a star, never a chain). Inside a kept text the best example stands and the
others are its exact duplicates. That is the greedy independent set by rank, so the verdicts do not
depend on the order of arrival, on chunks or on the number of passes.

A pass looks only at what can have changed. Whether a text is kept hangs on its better neighbours
alone, so from the texts with news it goes on to the worse neighbours of those whose standing
changed, and ends at the very verdicts that looking at everything would give.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from curation.dedupe.buckets import array, by_index
from curation.dedupe.index import comparison_version
from curation.recipe import CurationRecipe
from curation.score.outcome import EXACT_DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA

OPEN: Final = (
    "(example.drop_reason IS NULL OR example.drop_reason IN "
    f"('{EXACT_DUPLICATE}', '{NEAR_DUPLICATE}', '{OVER_QUOTA}'))"
)
"""SQL: neither its form nor its outcome nor a benchmark ruled the example out."""
_WITHOUT_NEWS: Final = (
    f"{OPEN} AND NOT EXISTS (SELECT 1 FROM unsettled WHERE unsettled.id = example.id)"
)
_TEXTS_AT_ONCE: Final = 5000

Rank = tuple[float, ...]
"""Greater is better; see `Example.scores["rank"]`."""


@dataclass(slots=True)
class Settled:
    """What one pass decided, counted in examples."""

    n_unsettled: int = 0
    """Examples whose duplicates were open."""
    n_texts: int = 0
    """Texts that were looked at."""
    n_kept: int = 0
    n_exact: int = 0
    n_near: int = 0
    """Examples whose verdict was written, kept or dropped for which reason."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a text stands: what its examples repeat, and how closely; equal ones need no write."""

    kept_id: UUID
    """The kept example: of the text itself, or of the neighbour that it repeats."""
    similarity: float | None
    """To that neighbour; None: it is kept itself."""


@dataclass(slots=True)
class Node:
    """A text as a pass knows it."""

    rank: Rank
    best_id: UUID | None
    """Its best open example; None: it has none, so it takes no part."""
    stored: Standing | None
    """As the database has it, from before the news; None: not known."""
    kept_id: UUID | None
    """Its kept example as of now; None: it is not kept."""

    @property
    def order(self) -> tuple[bool, Rank, int]:
        """Greater is better: by rank, then the older example."""
        if self.best_id is None:
            return (False, (), 0)
        return (True, self.rank, -self.best_id.int)


@dataclass(slots=True)
class Graph:
    """The part of the texts and of their verified edges that a pass has read."""

    nodes: dict[int, Node] = field(default_factory=dict)
    edges: dict[int, dict[int, float]] = field(default_factory=dict)


def settle(session: Session, role: str, recipe: CurationRecipe) -> Settled:
    """Give every example whose duplicates are open its verdict, and every other that hangs on it.

    Kept examples stay marked `needs_settling` until `assign_groups`, called in the same
    transaction, has given them their split. Reads one row per text that it looks at, however many
    examples have that text.
    """
    lock_verdicts(session, role, recipe.variant)
    done = Settled(n_unsettled=_list_unsettled(session, role, recipe.variant))
    with by_index(session):
        seeds = session.execute(_SEEDS).scalars().all()
        for start in range(0, len(seeds), _TEXTS_AT_ONCE):
            graph = Graph()
            standings = _decide(session, recipe, graph, seeds[start : start + _TEXTS_AT_ONCE])
            done.n_texts += len(standings)
            _write(session, graph, standings, done)
        session.execute(_CLOSE)
    session.execute(text("DROP TABLE unsettled"))
    return done


def lock_verdicts(session: Session, role: str, variant: str) -> None:
    """Let nobody else settle this role and variant, or mark what to settle, until commit."""
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"settle:{role}:{variant}"},
    )


def decide(graph: Graph, dirty: Iterable[int]) -> tuple[dict[int, Standing | None], set[int]]:
    """Return the standing of the given texts and of all that hang on them, as far as is known.

    Pure. Also returns the texts to go on with once their edges have been read.
    """
    standings: dict[int, Standing | None] = {}
    unread: set[int] = set()
    queue = [_Place(graph.nodes[i].order, i) for i in set(dirty)]
    heapq.heapify(queue)
    queued = {place.text_id for place in queue}
    while queue:
        text_id = heapq.heappop(queue).text_id
        node = graph.nodes[text_id]
        standing = standings[text_id] = _standing(graph, text_id)
        kept_id = standing.kept_id if standing and standing.similarity is None else None
        if kept_id == node.kept_id:
            continue
        node.kept_id = kept_id
        for other in graph.edges[text_id]:
            if graph.nodes[other].order > node.order:
                continue
            if other not in graph.edges:
                unread.add(other)
            elif other not in queued:
                queued.add(other)
                heapq.heappush(queue, _Place(graph.nodes[other].order, other))
    return standings, unread


@dataclass(frozen=True, slots=True)
class _Place:
    """A text in the queue: better ones come first."""

    order: tuple[bool, Rank, int]
    text_id: int

    def __lt__(self, other: "_Place") -> bool:
        return self.order > other.order


def _standing(graph: Graph, text_id: int) -> Standing | None:
    """Return where a text stands among its better neighbours; None without an open example."""
    node = graph.nodes[text_id]
    if node.best_id is None:
        return None
    kept = [
        (other.order, other.kept_id, similarity)
        for other, similarity in (
            (graph.nodes[i], similarity) for i, similarity in graph.edges[text_id].items()
        )
        if other.kept_id is not None and other.order > node.order
    ]
    if not kept:
        return Standing(node.best_id, None)
    _, kept_id, similarity = max(kept)
    assert kept_id is not None
    return Standing(kept_id, similarity)


def _decide(
    session: Session, recipe: CurationRecipe, graph: Graph, seeds: Sequence[int]
) -> dict[int, Standing | None]:
    """Decide on some texts and all that hang on them, reading on as far as verdicts change."""
    standings: dict[int, Standing | None] = {}
    dirty = set(seeds)
    while dirty:
        _read(session, recipe, graph, dirty)
        decided, dirty = decide(graph, dirty)
        standings |= decided
    return standings


def _read(session: Session, recipe: CurationRecipe, graph: Graph, texts: set[int]) -> None:
    """Read the edges of some texts, and how their neighbours and they stand."""
    fresh = sorted(texts - graph.edges.keys())
    graph.edges |= {i: {} for i in fresh}
    given = {"ids": array(fresh), "version": comparison_version(recipe)}
    for row in session.execute(_EDGES, given):
        graph.edges[row.text_id][row.other] = row.similarity
    wanted = {*fresh, *(other for i in fresh for other in graph.edges[i])} - graph.nodes.keys()
    for row in session.execute(_NODES, {"ids": array(sorted(wanted))}):
        graph.nodes[row.text_id] = _node(row)


def _node(row: Any) -> Node:
    stored, kept_id = None, None
    if row.kept_id is not None:
        is_kept = row.kept_text_id == row.text_id
        kept_id = row.kept_id if is_kept else None
        stored = Standing(row.kept_id, None if is_kept else row.similarity)
    return Node(tuple(row.rank or ()), row.best_id, stored, kept_id)


def _write(
    session: Session, graph: Graph, standings: dict[int, Standing | None], done: Settled
) -> None:
    """Write verdicts: to all open examples of a text that stands elsewhere now, or to new ones."""
    rows: dict[bool, list[tuple[int, Standing]]] = defaultdict(list)
    for text_id, standing in standings.items():
        if standing is not None:
            rows[graph.nodes[text_id].stored == standing].append((text_id, standing))
    for is_as_stored, some in rows.items():
        given = {
            "texts": array(text_id for text_id, _ in some),
            "kept": array(standing.kept_id for _, standing in some),
            "similarities": array(standing.similarity for _, standing in some),
        }
        for reason, n in session.execute(_VERDICTS[is_as_stored], given):
            done.n_kept += n if reason is None else 0
            done.n_exact += n if reason == EXACT_DUPLICATE else 0
            done.n_near += n if reason == NEAR_DUPLICATE else 0
    session.execute(_HAVE_NO_NEWS, {"ids": array(standings)})


def _list_unsettled(session: Session, role: str, variant: str) -> int:
    """List the examples with open duplicates in a table of this transaction; return how many."""
    for statement in _LIST_UNSETTLED:
        session.execute(statement, {"role": role, "variant": variant})
    return int(session.execute(text("SELECT count(*) FROM unsettled")).scalar_one())


_LIST_UNSETTLED: Final = tuple(
    text(statement)
    for statement in (
        """
        CREATE TEMPORARY TABLE unsettled (
            id uuid, text_id bigint, rank jsonb, is_open boolean NOT NULL
        )
        """,
        f"""
        INSERT INTO unsettled
        SELECT id, text_id, scores->'rank', {OPEN}
        FROM example WHERE role = :role AND variant = :variant AND needs_settling
        """,
        "CREATE INDEX ON unsettled (id)",
        "CREATE INDEX ON unsettled (text_id)",
        "ANALYZE unsettled",
    )
)

# Repeats of an example are in its cluster, whatever has become of the example itself.
_SEEDS = text(
    """
    SELECT text_id FROM unsettled WHERE text_id IS NOT NULL
    UNION
    SELECT member.text_id FROM unsettled JOIN example AS member ON member.cluster_id = unsettled.id
    WHERE member.text_id IS NOT NULL
    ORDER BY text_id
    """
)

_EDGES = text(
    """
    SELECT given.id AS text_id, edge.other, edge.similarity
    FROM unnest(CAST(:ids AS bigint[])) AS given (id)
    CROSS JOIN LATERAL (
        SELECT high AS other, similarity, kind, rule_version, disposed
        FROM text_edge WHERE low = given.id
        UNION ALL
        SELECT low, similarity, kind, rule_version, disposed FROM text_edge WHERE high = given.id
    ) AS edge
    WHERE (edge.kind = 'near' AND edge.rule_version = :version
           AND edge.disposed IS DISTINCT FROM 'distinct')
       OR (edge.kind = 'semantic' AND edge.disposed = 'duplicate')
    """
)

# Of a kept text whose kept example has no news, the best example is that one or one with news; so
# the many that repeat it are not read. Of other texts the best one is looked for.
_NODES = text(
    f"""
    SELECT given.id AS text_id, best.id AS best_id, best.rank,
           kept.id AS kept_id, kept.text_id AS kept_text_id, known.similarity
    FROM unnest(CAST(:ids AS bigint[])) AS given (id)
    LEFT JOIN LATERAL (
        SELECT cluster_id, similarity FROM example
        WHERE text_id = given.id AND {_WITHOUT_NEWS}
        LIMIT 1
    ) AS known ON true
    LEFT JOIN LATERAL (
        SELECT id, text_id, scores->'rank' AS rank FROM example
        WHERE example.id = known.cluster_id AND {_WITHOUT_NEWS}
    ) AS kept ON true
    LEFT JOIN LATERAL (
        SELECT id, rank FROM (
            SELECT kept.id, kept.rank WHERE kept.text_id = given.id
            UNION ALL
            SELECT id, rank FROM unsettled WHERE unsettled.text_id = given.id AND is_open
            UNION ALL
            SELECT id, scores->'rank' FROM example
            WHERE example.text_id = given.id AND {OPEN}
              AND kept.text_id IS DISTINCT FROM given.id
        ) AS open_one
        ORDER BY rank DESC NULLS LAST, id
        LIMIT 1
    ) AS best ON true
    """
)

_VERDICTS: Final = {
    is_as_stored: text(
        f"""
        WITH written AS (
            UPDATE example SET
                status = CASE WHEN example.id = given.kept_id THEN 'kept' ELSE 'dropped' END,
                drop_reason = CASE
                    WHEN example.id = given.kept_id THEN NULL
                    WHEN given.similarity IS NULL THEN '{EXACT_DUPLICATE}'
                    ELSE '{NEAR_DUPLICATE}' END,
                duplicate_of = nullif(given.kept_id, example.id),
                similarity = CASE
                    WHEN example.id = given.kept_id THEN NULL
                    ELSE coalesce(given.similarity, 1.0) END,
                cluster_id = given.kept_id,
                needs_settling = example.id = given.kept_id
                    AND (needs_settling OR split_key = '' OR status <> 'kept')
            FROM unnest(
                CAST(:texts AS bigint[]), CAST(:kept AS uuid[]), CAST(:similarities AS float8[])
            ) AS given (text_id, kept_id, similarity)
            {joined}
            AND {OPEN}
            RETURNING example.drop_reason
        )
        SELECT drop_reason, count(*) FROM written GROUP BY drop_reason
        """
    )
    for is_as_stored, joined in (
        (False, "WHERE example.text_id = given.text_id"),
        (
            True,
            "JOIN unsettled ON unsettled.text_id = given.text_id WHERE example.id = unsettled.id",
        ),
    )
}

_HAVE_NO_NEWS = text(
    "DELETE FROM unsettled WHERE is_open AND text_id = ANY(CAST(:ids AS bigint[]))"
)

_CLOSE = text(
    """
    UPDATE example SET needs_settling = false, duplicate_of = NULL, similarity = NULL,
                       cluster_id = NULL
    FROM unsettled
    WHERE example.id = unsettled.id
    """
)
