"""Examples of other roles for free: what an episode's end says of its tester and its reviewer.

Two rules. A tester did well if its suite failed on code that turned out wrong and passed on the
code that was accepted in the end. A reviewer did well if it objected to code that was wrong and
named what was later changed. Both become a `success` of source `role`.

This is the other direction of `collector.feedback.credit`, which passes what a tester or reviewer
found on to the coder. So that nothing counts twice, code is called accepted or wrong only by words
that do not come from the very turn that is being judged.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from itertools import chain
from keyword import iskeyword
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import is_heard
from collector.tables import ERROR, Interaction
from curation.normalize import comparable_lines
from curation.score.outcome import Statement
from foundation.chat import answer_text

CODER, TESTER, REVIEWER = "coder", "tester", "reviewer"
SUITE_HELD, FOUND_BUG = "suite_held", "found_bug"
"""Names of the statements that the two rules make."""
INDEPENDENT: Final = ("test", "human", "user")
"""Sources whose direct word on code needs nobody else's."""
RUNS: Final = ("test", "role")
"""Sources of a tester's or reviewer's outcomes that speak of the code, not of the turn."""
AGAINST: Final = "against"
"""Entry of a statement's details: the coder's turn that a suite was run against."""
_LEAST_WORD: Final = 3
_LEAST_QUOTE: Final = 6

_WORD = re.compile(r"[A-Za-z_]\w*")
_LINE_NUMBER = re.compile(r"\blines? (\d+)(?:\s*(?:-|–|to|and)\s*(\d+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of an episode, with its answer as far as it was read."""

    id: UUID
    role: str
    parent_id: UUID | None
    started_at: datetime
    status: str
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A statement on a turn, or on the whole episode where `turn_id` is None."""

    turn_id: UUID | None
    kind: str
    value: float | None
    source: str
    actor: str | None
    said_at: datetime
    judged: UUID | None = None
    """The turn whose finding a credit rule passed on to this one."""
    against: UUID | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """The turns of one episode in the order in which they started, and all that was said."""

    turns: Sequence[Turn]
    said: Sequence[Said]

    def of_role(self, role: str) -> list[Turn]:
        """Return the turns of a role that answered something."""
        return [turn for turn in self.turns if turn.role == role and turn.status != ERROR]

    def outcome(self, turn: Turn, besides: frozenset[UUID]) -> bool | None:
        """Return whether code was right, by all but what came of the turns `besides`.

        Of each speaker the last word counts, and one word against is enough.
        """
        last = {
            speaker: value
            for speaker, value, _ in sorted(self._words_on(turn, besides), key=lambda one: one[2])
        }
        return all(last.values()) if last else None

    def _words_on(
        self, turn: Turn, besides: frozenset[UUID]
    ) -> Iterator[tuple[object, bool, datetime]]:
        """Yield speaker, word and moment: on the code, on the episode if it is the last, by runs.

        What a credit rule passed on of a tester's run is read from the run itself, since a run may
        be repeated on newer code.
        """
        testers = {one.id: one for one in self.of_role(TESTER)}
        is_last = turn.id == self.of_role(CODER)[-1].id
        for said in self.said:
            if said.kind != "success" or said.value is None:
                continue
            is_about = said.turn_id == turn.id or (is_last and said.turn_id is None)
            is_direct = said.judged is None and said.source in INDEPENDENT
            is_passed_on = said.judged is not None and said.judged not in {*besides, *testers}
            if is_about and (is_direct or is_passed_on):
                yield (said.source, said.actor, said.judged), said.value >= 0.5, said.said_at
        for tester in testers.values():
            if tester.id not in besides:
                for run, target in runs_of(self, tester):
                    if target.id == turn.id:
                        yield tester.id, (run.value or 0) >= 0.5, run.said_at


def statements_of(
    session: Session, interactions: Iterable[Interaction]
) -> dict[UUID, list[Statement]]:
    """Return what the episodes of some testers' and reviewers' turns say of these turns."""
    judging = {
        one.id: one.episode_id
        for one in interactions
        if one.role in _RULES and one.episode_id is not None
    }
    if not judging:
        return {}
    episodes = _load(session, set(judging.values()))
    found = {}
    for turn_id, episode_id in judging.items():
        episode = episodes.get(episode_id)
        statement = None if episode is None else judged(episode, turn_id)
        if statement is not None:
            found[turn_id] = [statement]
    return found


def judged(episode: Episode, turn_id: UUID) -> Statement | None:
    """Return what an episode says of one of its turns, or None; pure."""
    turn = next((one for one in episode.turns if one.id == turn_id), None)
    if turn is None or turn.role not in _RULES or not turn.answer.strip():
        return None
    return _RULES[turn.role](episode, turn)


def merged(statements: Sequence[Statement], derived: Sequence[Statement]) -> list[Statement]:
    """Return all that counts for a turn: once it is judged itself, its runs speak of code alone.

    A suite that failed on wrong code would count as a failed suite otherwise.
    """
    if not derived:
        return list(statements)
    own = [
        said
        for said in statements
        if not (said.direct and said.kind == "success" and said.source in RUNS)
    ]
    return [*own, *derived]


def named_fix(review: str, before: str, after: str) -> str | None:
    """Return what of the change between two versions a review names, or None; pure.

    A changed line, quoted; a word that stands on changed lines alone; or the number of a changed
    line of the first version.
    """
    old, new = before.splitlines(), after.splitlines()
    changed_old, changed_new = _changed(old, new)
    changed = [old[i] for i in sorted(changed_old)] + [new[i] for i in sorted(changed_new)]
    compact = " ".join(review.split())
    for line in changed:
        quote = " ".join(line.split())
        if len(quote) >= _LEAST_QUOTE and quote in compact:
            return quote
    same = chain(
        (line for i, line in enumerate(old) if i not in changed_old),
        (line for i, line in enumerate(new) if i not in changed_new),
    )
    telling = set(_words(changed)) - set(_words(same))
    for word in _words([review]):
        if word in telling:
            return word
    for match in _LINE_NUMBER.finditer(review):
        first, last = int(match[1]), int(match[2] or match[1])
        if any(first <= i + 1 <= last for i in changed_old):
            return match[0]
    return None


def _suite_held(episode: Episode, tester: Turn) -> Statement | None:
    """Judge a tester by the runs of its suite: over its own turn, and over those that repeat it."""
    said = comparable_lines(tester.answer)
    suite = [turn for turn in episode.of_role(TESTER) if comparable_lines(turn.answer) == said]
    besides = frozenset(turn.id for turn in suite)
    accepted = _accepted(episode, besides)
    if accepted is None:
        return None
    runs = [run for turn in suite for run in runs_of(episode, turn)]
    held = [run for run, target in runs if target.id == accepted.id and (run.value or 0) >= 0.5]
    caught = [
        run
        for run, target in runs
        if (run.value or 0) < 0.5
        and _is_other(target, accepted)
        and episode.outcome(target, besides) is not True
    ]
    rejected = any(target.id == accepted.id and (run.value or 0) < 0.5 for run, target in runs)
    if not (held and caught) or (rejected and not _is_last_word(held, runs, accepted)):
        return None
    return _good(SUITE_HELD, max(run.said_at for run in held))


def _found_bug(episode: Episode, reviewer: Turn) -> Statement | None:
    """Judge a reviewer by the code that it objected to: wrong by others' word, and then fixed."""
    besides = frozenset({reviewer.id})
    accepted = _accepted(episode, besides)
    if accepted is None:
        return None
    by_id = {turn.id: turn for turn in episode.of_role(CODER)}
    for said in episode.said:
        target = by_id.get(said.turn_id) if said.turn_id is not None else None
        if target is None or said.judged != reviewer.id or not _objects(said):
            continue
        is_fixed = _is_other(target, accepted) and episode.outcome(target, besides) is False
        if is_fixed and named_fix(reviewer.answer, target.answer, accepted.answer):
            return _good(FOUND_BUG, said.said_at)
    return None


_RULES: Final = {TESTER: _suite_held, REVIEWER: _found_bug}


def _accepted(episode: Episode, besides: frozenset[UUID]) -> Turn | None:
    """Return the last code of an episode if it was found right by others."""
    code = [turn for turn in episode.of_role(CODER) if turn.answer.strip()]
    if not code or code[-1].id != episode.of_role(CODER)[-1].id:
        return None
    return code[-1] if episode.outcome(code[-1], besides) else None


def _is_other(turn: Turn, accepted: Turn) -> bool:
    said = comparable_lines(turn.answer)
    return bool(said) and said != comparable_lines(accepted.answer)


def _objects(said: Said) -> bool:
    if said.value is None:
        return False
    return said.value < 0.5 if said.kind == "success" else said.kind == "rating" and said.value <= 2


def _is_last_word(held: Sequence[Said], runs: Sequence[tuple[Said, Turn]], accepted: Turn) -> bool:
    """Whether the last run on the accepted code is one that passed: an earlier one was re-run."""
    last = max((run for run, target in runs if target.id == accepted.id), key=lambda r: r.said_at)
    return last in held


def runs_of(episode: Episode, tester: Turn) -> Iterator[tuple[Said, Turn]]:
    """Yield what was said of a suite, with the code that it was run against.

    The statement may name it. Else the first run is of the code that the tester was given, and a
    later one of the newest code by then.
    """
    code = episode.of_role(CODER)
    by_id = {turn.id: turn for turn in code}
    said = [
        one
        for one in sorted(episode.said, key=lambda one: one.said_at)
        if one.turn_id == tester.id
        and one.kind == "success"
        and one.value is not None
        and one.judged is None
    ]
    for number, run in enumerate(said):
        moment = tester.started_at if number == 0 else run.said_at
        named = by_id.get(run.against) if run.against is not None else None
        given = _parent(episode, tester) if number == 0 else None
        before = [turn for turn in code if turn.started_at < moment]
        target = named or given or (before[-1] if before else None)
        if target is not None:
            yield run, target


def _parent(episode: Episode, turn: Turn) -> Turn | None:
    """Return the coder's turn in the chain of parents of a turn, if there is one."""
    by_id = {one.id: one for one in episode.turns}
    seen, parent = {turn.id}, turn.parent_id
    while parent is not None and parent in by_id and parent not in seen:
        seen.add(parent)
        found = by_id[parent]
        if found.role == CODER and found.status != ERROR:
            return found
        parent = found.parent_id
    return None


def _good(name: str, moment: datetime) -> Statement:
    return Statement(
        kind="success",
        value=1.0,
        text=None,
        source="role",
        actor=CODER,
        name=name,
        direct=True,
        said_at=moment,
    )


def _changed(old: Sequence[str], new: Sequence[str]) -> tuple[set[int], set[int]]:
    """Return the places of the lines that two texts do not share, white space aside."""
    matcher = SequenceMatcher(
        None, [line.strip() for line in old], [line.strip() for line in new], autojunk=False
    )
    gone, come = set(range(len(old))), set(range(len(new)))
    for block in matcher.get_matching_blocks():
        gone -= set(range(block.a, block.a + block.size))
        come -= set(range(block.b, block.b + block.size))
    return gone, come


def _words(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        for word in _WORD.findall(line):
            if len(word) >= _LEAST_WORD and not iskeyword(word):
                yield word


def _load(session: Session, episode_ids: set[UUID]) -> dict[UUID, Episode]:
    given = {"episodes": sorted(episode_ids)}
    turns: dict[UUID, list[Turn]] = defaultdict(list)
    of_turn: dict[UUID, UUID] = {}
    for row in session.execute(_TURNS, {**given, "roles": [CODER, *_RULES]}):
        turns[row.episode_id].append(
            Turn(
                row.id,
                row.role,
                row.parent_id,
                row.started_at,
                row.status,
                answer_text(row.response) if row.role in (CODER, *_RULES) else "",
            )
        )
        of_turn[row.id] = row.episode_id
    said: dict[UUID, list[Said]] = defaultdict(list)
    for row in session.execute(_SAID, {**given, "turns": list(of_turn)}):
        episode = row.episode_id if row.interaction_id is None else of_turn[row.interaction_id]
        details: Mapping[str, Any] = row.details or {}
        said[episode].append(
            Said(
                row.interaction_id,
                row.kind,
                row.value,
                row.source,
                row.actor,
                row.created_at,
                judged=_id(details.get("judged")) if row.derived_from is not None else None,
                against=_id(details.get(AGAINST)),
            )
        )
    return {i: Episode(turns[i], said[i]) for i in turns}


def _id(value: Any) -> UUID | None:
    try:
        return UUID(str(value)) if value else None
    except ValueError:
        return None


_TURNS = text(
    """
    SELECT i.id, i.role, i.episode_id, i.parent_id, i.started_at, i.status,
           CASE WHEN i.role = ANY(:roles) THEN p.response END AS response
    FROM interaction i LEFT JOIN interaction_payload p ON p.id = i.id
    WHERE i.episode_id = ANY(:episodes)
    ORDER BY i.episode_id, i.started_at, i.id
    """
)

_SAID = text(
    f"""
    SELECT interaction_id, episode_id, kind, value, source, actor, derived_from, details, created_at
    FROM feedback WHERE interaction_id = ANY(:turns) AND kind IN ('success', 'rating')
      AND {is_heard("feedback")}
    UNION ALL
    SELECT interaction_id, episode_id, kind, value, source, actor, derived_from, details, created_at
    FROM feedback
    WHERE episode_id = ANY(:episodes) AND interaction_id IS NULL AND kind IN ('success', 'rating')
      AND {is_heard("feedback")}
    """
)

TOUCHED: Final = """
    SELECT e.interaction_id FROM (
        SELECT i.episode_id FROM feedback f JOIN interaction i ON i.id = f.interaction_id
        WHERE f.written_xid >= :from_xid
        UNION
        SELECT episode_id FROM interaction WHERE written_xid >= :from_xid
    ) AS touched
    JOIN example e ON e.episode_id = touched.episode_id
    WHERE e.role = :role AND e.variant = :variant AND e.role IN ('tester', 'reviewer')
"""
"""SQL of the judging turns whose episode went on: what is said of them may have changed."""
