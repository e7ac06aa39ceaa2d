"""Suite `coordinator-plans`: turn a goal told in prose into steps for the right agents.

A task names agents with what they can do, pieces of work with their hours, and which waits for
which; also work that is done, dropped or somebody else's. The harder ones add a deadline that only
parallel work meets, agents who stand in for others, limits per agent, and a budget. The references
hold the rules, not one plan: the grader accepts every plan that keeps them.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from evaluator.graders.grades import GradedTask
from evaluator.graders.plan import Work, shortest_time, work_of
from evaluator.suites.built_in.coordinator_projects import (
    CODE,
    PROJECTS,
    RESEARCH,
    REVIEW,
    TEST,
    Piece,
    Project,
)
from evaluator.suites.task import Task
from foundation.chat import message

NAME: Final = "coordinator-plans"
ORIGIN: Final = "built in, generated"
_PER_PROJECT: Final = 4
_NOUNS: Final = {CODE: "programming", TEST: "testing", RESEARCH: "research"}
_ROLE_OF: Final = {CODE: "coder", TEST: "tester", REVIEW: "reviewer", RESEARCH: "researcher"}


@dataclass(frozen=True)
class Level:
    """How hard a plan is.

    Attributes:
        n_pieces: pieces of work.
        n_links: dependencies.
        n_foreign: pieces that are named and not to be planned.
        has_deadline: whether only parallel work is in time.
        twist: who else may do what: "" none, "away" one agent is replaced, "limits" one agent has
            few steps and a helper, "budget" besides that the cheaper agent must be chosen.
    """

    n_pieces: int
    n_links: int
    n_foreign: int
    has_deadline: bool
    twist: str


LEVELS: Final = {
    "easy": (Level(4, 3, 0, False, ""), Level(5, 4, 1, False, "")),
    "medium": (Level(6, 6, 1, True, "away"), Level(6, 5, 1, True, "limits")),
    "hard": (Level(7, 8, 2, True, "budget"), Level(7, 9, 2, True, "budget")),
}


@dataclass(frozen=True)
class Staff:
    """Who may do which kind of work, and the rules about them, also in words."""

    able: Mapping[str, tuple[str, ...]]
    max_steps: Mapping[str, int]
    prices: Mapping[str, int]
    words: tuple[str, ...]


def make_tasks() -> list[Task]:
    """Return the 72 tasks, the same each time."""
    return [
        _task(project, number, variant)
        for number, project in enumerate(PROJECTS)
        for variant in range(_PER_PROJECT)
    ]


def reference_answer(task: Task) -> str:
    """Return one right plan, with nothing waiting for more than it must."""
    work = work_of(GradedTask(task.task_id, task.prompt, task.grader, task.reference))
    roles = cheapest_roles(work)
    if roles is None:
        raise ValueError(f"task {task.task_id} has no solution")
    names = list(task.reference["work"])
    steps = [
        {
            "id": names.index(name) + 1,
            "role": roles[name],
            "task": name,
            "after": [names.index(first) + 1 for first, later in work.before if later == name],
        }
        for name in names
    ]
    return json.dumps({"steps": steps}, indent=1)


def cheapest_roles(work: Work) -> dict[str, str] | None:
    """Return who does what at the least price within the limits, None where nobody can."""
    names = list(work.hours)
    best: tuple[float, dict[str, str]] | None = None
    for roles in product(*(sorted(work.roles[name]) for name in names)):
        counts = Counter(roles)
        if any(counts[role] > most for role, most in (work.max_steps or {}).items()):
            continue
        pairs = zip(names, roles, strict=True)
        price = sum(work.hours[name] * (work.prices or {}).get(role, 0) for name, role in pairs)
        if best is None or price < best[0]:
            best = price, dict(zip(names, roles, strict=True))
    return best[1] if best else None


def _task(project: Project, number: int, variant: int) -> Task:
    difficulty = ("easy", "medium", "hard")[(number + variant) % 3]
    level = LEVELS[difficulty][(number // 3 + variant) % 2]
    dice = random.Random(f"{NAME}/{project.key}/{variant}")
    while True:
        pieces, foreign = _choose(project, level, dice)
        hours = {piece.name: dice.randint(1, 6) for piece in pieces}
        links = _links([piece.name for piece in pieces], level.n_links, dice)
        staff = _staff(level, pieces, dice)
        reference = _reference(pieces, hours, links, staff, level)
        if reference is not None:
            break
    prompt = _prompt(project, pieces, foreign, hours, links, staff, reference, dice)
    return Task(
        f"{NAME}/{project.key}-{variant + 1}",
        [message("user", prompt)],
        "plan",
        reference,
        {
            "task_type": "plan",
            "difficulty": difficulty,
            "domain": project.domain,
            "family": project.key,
            "origin": ORIGIN,
            "licence": "Apache-2.0",
        },
    )


def _choose(project: Project, level: Level, dice: random.Random) -> tuple[list[Piece], list[Piece]]:
    """Return pieces to plan, in a possible order and of three kinds at least, and foreign ones."""
    while True:
        chosen = dice.sample(project.pieces, level.n_pieces + level.n_foreign)
        pieces = sorted(chosen[: level.n_pieces], key=project.pieces.index)
        if len({piece.kind for piece in pieces}) >= 3:
            return pieces, chosen[level.n_pieces :]


def _links(names: Sequence[str], count: int, dice: random.Random) -> list[list[str]]:
    """Return dependencies, each from an earlier to a later name."""
    pairs = [[first, later] for at, later in enumerate(names) for first in names[:at]]
    return sorted(dice.sample(pairs, count))


def _staff(level: Level, pieces: Sequence[Piece], dice: random.Random) -> Staff:
    able: dict[str, tuple[str, ...]] = {kind: (role,) for kind, role in _ROLE_OF.items()}
    if not level.twist:
        return Staff(able, {}, {}, ())
    counts = Counter(piece.kind for piece in pieces)
    kind = dice.choice([kind for kind in (CODE, TEST, RESEARCH) if counts[kind] > 1] or [CODE])
    role = _ROLE_OF[kind]
    helper = dice.choice([one for one in _ROLE_OF.values() if one != role])
    if level.twist == "away":
        words = dice.choice(_AWAY).format(role=role, helper=helper)
        return Staff({**able, kind: (helper,)}, {}, {}, (words,))
    most = max(1, counts[kind] - 1)
    able = {**able, kind: (role, helper)}
    limit = dice.choice(_LIMITS).format(
        role=role, helper=helper, n=_COUNTS[most], work=_NOUNS[kind]
    )
    if level.twist == "limits":
        return Staff(able, {role: most}, {}, (limit,))
    prices = dict(zip(_ROLE_OF.values(), dice.sample(range(40, 101, 10), 4), strict=True))
    listed = ", ".join(f"the {one} {price} EUR" for one, price in sorted(prices.items()))
    return Staff(able, {role: most}, prices, (limit, dice.choice(_PRICES).format(listed=listed)))


def _reference(
    pieces: Sequence[Piece],
    hours: Mapping[str, int],
    links: Sequence[list[str]],
    staff: Staff,
    level: Level,
) -> dict[str, Any] | None:
    """Return the reference, None where the task would be too loose or cannot be done."""
    reference: dict[str, Any] = {
        "work": {
            piece.name: {"hours": hours[piece.name], "roles": list(staff.able[piece.kind])}
            for piece in pieces
        },
        "before": [list(link) for link in links],
    }
    if staff.max_steps:
        reference["max_steps"] = dict(staff.max_steps)
    if level.has_deadline:
        shortest = shortest_time(work_of(GradedTask("", [], "plan", reference)))
        reference["deadline_hours"] = shortest
        if shortest > 0.8 * sum(hours.values()):
            return None
    if staff.prices:
        return _with_budget(reference, staff)
    work = work_of(GradedTask("", [], "plan", reference))
    return None if cheapest_roles(work) is None else reference


def _with_budget(reference: dict[str, Any], staff: Staff) -> dict[str, Any] | None:
    """Add prices and a budget that some, and not all, allowed choices of roles keep."""
    priced = {**reference, "prices": dict(staff.prices)}
    work = work_of(GradedTask("", [], "plan", priced))
    best = cheapest_roles(work)
    if best is None:
        return None
    low = sum(work.hours[name] * staff.prices[role] for name, role in best.items())
    high = sum(
        work.hours[name] * max(staff.prices[role] for role in roles)
        for name, roles in work.roles.items()
    )
    return {**priced, "budget": low + 10} if high >= low + 60 else None


# --- how it is written ---------------------------------------------------------------------------

_COUNTS: Final = {1: "one step", 2: "two steps", 3: "three steps", 4: "four steps"}
_HOURS: Final = ("no", "one hour", *(f"{n} hours" for n in ("two", "three", "four", "five", "six")))
_AWAY: Final = (
    "The {role} is ill this week; the {helper} knows the trade and takes over all of it.",
    "Note that the {role} is on leave. Whatever would be theirs goes to the {helper}.",
    "We lent our {role} to another office, so the {helper} does that work as well as their own.",
)
_LIMITS: Final = (
    "The {role} has time for {n} at most; the {helper} can take over {work} as well.",
    "Give the {role} no more than {n}. If more {work} is left, the {helper} knows how to do it.",
    "More than {n} is too much for the {role}, but the {helper} has done {work} before and may "
    "share it.",
)
_PRICES: Final = (
    "An hour costs: {listed}.",
    "What they charge per hour: {listed}.",
    "Their rates by the hour are: {listed}.",
)
_AGENTS: Final = (
    "Four agents are at hand. The coder writes and changes programs. The tester tries things out, "
    "measures, and writes test cases. The reviewer reads finished work and judges it. The "
    "researcher asks, looks up, collects and compares.",
    "You lead a researcher (finds things out), a coder (builds things), a tester (puts things to "
    "the proof) and a reviewer (reads critically and gives a verdict).",
    "The team: reviewer, who examines what others made; coder, who makes it; researcher, who "
    "gathers knowledge beforehand; tester, who runs trials and checks.",
    "Assign work by trade: building and programming to the coder, trials and checks by running "
    "things to the tester, critical reading to the reviewer, gathering facts to the researcher.",
)
_WORKS: Final = (
    'Somebody has to {phrase}: "{name}", {hours}.',
    '"{name}" means to {phrase}, which takes {hours}.',
    'Then there is "{name}", {hours} of work, in which we {phrase}.',
    'We count {hours} for "{name}": {phrase}.',
    '{Hours} should do for "{name}", that is, to {phrase}.',
    'One more thing is to {phrase}; call it "{name}" and allow {hours}.',
)
_BEFORE: Final = (
    '"{later}" cannot begin before "{first}" is done.',
    '"{later}" builds on "{first}".',
    'Nobody should touch "{later}" until "{first}" is finished.',
    'Once "{first}" is through, "{later}" may go ahead, not earlier.',
    '"{later}" makes no sense without the outcome of "{first}".',
    'What comes out of "{first}" is needed for "{later}".',
    'Hold "{later}" back until "{first}" is over.',
    'Start "{later}" only after "{first}".',
    '"{first}" has to come before "{later}".',
    'Whoever does "{later}" will ask for the result of "{first}".',
)
_FREE: Final = (
    '"{one}" and "{other}" have nothing to do with each other.',
    'It does not matter whether "{one}" or "{other}" comes first.',
    'As far as we can see, "{one}" need not wait for "{other}", nor the other way round.',
)
_FOREIGN: Final = (
    'We had also thought of "{name}" ({phrase}), but that was dropped.',
    '"{name}", to {phrase}, was finished last week, so nothing has to wait for it.',
    'Leave out "{name}": another team will {phrase}.',
    'To {phrase} ("{name}") is for the next quarter and not part of this plan.',
)
_DEADLINES: Final = (
    "All must be done {hours} hours after the start; steps that do not wait for each other run at "
    "the same time, and an agent can run several at once.",
    "There are {hours} hours from start to end. Work side by side wherever you can: each agent may "
    "have several steps open at once.",
    "From the first start to the last end no more than {hours} hours may pass. Agents can work on "
    "several steps in parallel.",
)
_BUDGETS: Final = (
    "The whole plan may cost {budget} EUR.",
    "We can spend {budget} EUR on it and not a cent more.",
    "Stay within {budget} EUR in all.",
)
_REQUESTS: Final = (
    "Write the plan as JSON, one step per piece of work that belongs to it:",
    "Answer with a plan in this JSON form, each piece of work once and nothing added:",
    "Return JSON like this, with exactly one step for each piece of work to be done:",
)
_ROW: Final = '{"steps": [{"id": 1, "role": "…", "task": "…", "after": []}, …]}'
_KEYS: Final = (
    '"task" is the name in quotation marks; "after" holds the ids of the steps that must be '
    "finished before this one starts.",
    'Use the quoted names for "task". In "after", list the ids of the steps to wait for; leave it '
    "empty where a step can start at once.",
    'A step starts as soon as every id in its "after" is finished. "task" must be one of the '
    "quoted names, unchanged.",
)


def _prompt(
    project: Project,
    pieces: Sequence[Piece],
    foreign: Sequence[Piece],
    hours: Mapping[str, int],
    links: Sequence[list[str]],
    staff: Staff,
    reference: Mapping[str, Any],
    dice: random.Random,
) -> str:
    told = [*_told_work(pieces, hours, dice), *_told_foreign(foreign, dice)]
    dice.shuffle(told)
    order = [*_told_links(links, dice), *_told_free(pieces, links, dice)]
    dice.shuffle(order)
    limits = list(staff.words)
    if "deadline_hours" in reference:
        limits.append(dice.choice(_DEADLINES).format(hours=f"{reference['deadline_hours']:g}"))
    if "budget" in reference:
        limits.append(dice.choice(_BUDGETS).format(budget=f"{reference['budget']:g}"))
    agents = dice.choice(_AGENTS)
    asked = f"{dice.choice(_REQUESTS)}\n{_ROW}\n{dice.choice(_KEYS)}"
    middle = [" ".join(told), " ".join(order)]
    if dice.random() < 0.4:
        mixed = [*told, *order]
        dice.shuffle(mixed)
        middle = [" ".join(mixed)]
    parts = [project.goal, agents, *middle, " ".join(limits), asked]
    if dice.random() < 0.5:
        parts = [project.goal, *middle, agents, " ".join(limits), asked]
    return "\n\n".join(part for part in parts if part)


def _told_work(
    pieces: Sequence[Piece], hours: Mapping[str, int], dice: random.Random
) -> Iterator[str]:
    frames = dice.sample(_WORKS, len(_WORKS))
    for at, piece in enumerate(pieces):
        words = _HOURS[hours[piece.name]]
        yield frames[at % len(frames)].format(
            name=piece.name, phrase=piece.phrase, hours=words, Hours=words.capitalize()
        )


def _told_foreign(foreign: Sequence[Piece], dice: random.Random) -> Iterator[str]:
    frames = dice.sample(_FOREIGN, len(foreign))
    for piece, frame in zip(foreign, frames, strict=True):
        yield frame.format(name=piece.name, phrase=piece.phrase)


def _told_links(links: Sequence[list[str]], dice: random.Random) -> Iterator[str]:
    frames = dice.sample(_BEFORE, len(_BEFORE))
    for at, (first, later) in enumerate(links):
        yield frames[at % len(frames)].format(first=first, later=later)


def _told_free(
    pieces: Sequence[Piece], links: Sequence[list[str]], dice: random.Random
) -> Iterator[str]:
    """Say of one pair that neither waits for the other, even by way of a third."""
    names = [piece.name for piece in pieces]
    reached = {name: _reached(name, links) for name in names}
    free = [
        (one, other)
        for at, one in enumerate(names)
        for other in names[at + 1 :]
        if other not in reached[one] and one not in reached[other]
    ]
    if free:
        one, other = dice.choice(free)
        yield dice.choice(_FREE).format(one=one, other=other)


def _reached(name: str, links: Sequence[list[str]]) -> set[str]:
    later = {after for first, after in links if first == name}
    return later.union(*(_reached(one, links) for one in later))
