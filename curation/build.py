"""Front desk: a role's log becomes an immutable dataset version.

`build_dataset` reads as its list of steps. Each step is one transaction, or one for each chunk, and
finds what was done before it: killed at any place, a build is taken up where it was; any number of
workers may help with its chunks. The version, its number and the watermark are written by the last
transaction alone, so what fails before leaves the last version standing and no number used.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlmodel import Session

from curation import builds, chunks
from curation.candidates import has_interactions, mark, move_watermark, unseen
from curation.choice.choose import choose
from curation.chunks import COMPARE, JUDGE, Check, Counts, Progress
from curation.decontaminate import decontaminate
from curation.dedupe.index import compare_texts
from curation.dedupe.settle import settle
from curation.export import latest_dataset
from curation.groups import assign_groups
from curation.intake import OPEN_REASONS, ask_judge, take_in
from curation.preferences.mine import mine_pairs
from curation.publish.publish import publish
from curation.recipe import DEFAULT, CurationRecipe
from curation.review.queue import fill_queue
from curation.score.calibrate import refit_if_due
from curation.score.outcome import SOURCE_CAP
from curation.semantic import propose_repeats
from curation.tables import EVAL, PREFERENCE, SFT, CurationBuild, Dataset
from curation.templates import Templates, find_templates, load_templates
from foundation.database import session_scope
from foundation.errors import BadInput, NotFound
from foundation.settings import get_settings

__all__ = ["build_dataset", "help_build", "latest_dataset", "require_kind", "require_logged_role"]

KINDS: Final = (SFT, PREFERENCE, EVAL)
CallHelpers = Callable[[UUID, str], None]
"""Called with a build and a step whose chunks wait to be worked off."""


@dataclass(frozen=True, slots=True)
class Task:
    """A build in hand: what its steps go by."""

    build_id: UUID
    role: str
    recipe: CurationRecipe
    templates: Templates
    everything: bool
    """Whether also what has not changed is judged."""
    seen_at: datetime
    """When the log was looked at."""
    progress: Progress | None = None
    check: Check = lambda: None
    call_helpers: CallHelpers = lambda build_id, step: None


def build_dataset(
    role: str,
    recipe: CurationRecipe | None = None,
    *,
    kind: str = SFT,
    run_id: UUID | None = None,
    progress: Progress | None = None,
    check: Check = lambda: None,
    call_helpers: CallHelpers = lambda build_id, step: None,
) -> Dataset:
    """Return the dataset of `role` as its log now stands: a new version, or the last one.

    A version is new only if its rows or the recipe differ from the last one's. It may have no rows
    (nobody gave feedback yet); its card then says why. While another worker builds the same, this
    one helps with its chunks, and then looks at what came since.

    Args:
        role: an agent role of the settings.
        recipe: how to choose; None is the default recipe.
        kind: `sft`, `preference` or `eval`.
        run_id: the run that this is part of.
        progress: called as `progress(done, total, unit, step=, rows_per_s=, eta_s=)`.
        check: called between chunks; what it raises stops the build, to be taken up later.
        call_helpers: called when there are chunks that others may help with.

    Raises:
        BadInput: there is no such kind.
        NotFound: the role is unknown, or nothing was logged for it.
        DatabaseUnavailable: the database was lost on the way; what was done stays done.
    """
    recipe = recipe or CurationRecipe()
    require_kind(kind)
    with (
        builds.database_watched(),
        builds.alone(role, recipe.variant, lambda: help_role(role, recipe.variant, check)),
    ):
        task = begin(role, recipe, kind, progress, check, call_helpers)
        ask_a_judge(task)
        judge(task)
        compare(task)
        settle_repeats(task)
        calibrate(task)
        pair(task, kind)
        choose_rows(task)
        dataset = finish(task, run_id)
        fill_review_queue(task)
        return dataset


def begin(
    role: str,
    recipe: CurationRecipe,
    kind: str,
    progress: Progress | None,
    check: Check,
    call_helpers: CallHelpers,
) -> Task:
    """Open a build, or take up the one that was left, and cut into chunks what there is to judge.

    What came since a build was left is judged with it.
    """
    with session_scope() as session:
        require_logged_role(session, role)
        find_templates(session, role, recipe)
    with session_scope() as session:
        templates, present = load_templates(session, role), mark(session)
        build = builds.take_up(session, role, recipe, templates, present)
        if build is None:
            build = builds.open_new(session, role, recipe, templates, present)
            since, everything = build.from_xid, build.everything
        else:
            since, everything = build.until_xid, False
        build.kind, build.recipe, build.until_xid = kind, recipe.as_json(), present.xid
        build.step = "ask"
        chunks.cut(
            *(session, build.id, JUDGE, unseen(session, role, since, everything=everything)),
            {"role": role, "variant": recipe.variant, "from_xid": since},
            recipe.batch_size,
        )
    return Task(
        *(build.id, role, recipe, templates, build.everything, present.at),
        *(progress, check, call_helpers),
    )


def ask_a_judge(task: Task) -> None:
    """Have an LLM judge what nobody else has decided on, where the recipe names one.

    Answers are stored as they come, apart from the verdicts that will rest on them.
    """
    if task.recipe.judge_model is None:
        return
    with builds.step(task.build_id, "ask") as (_, build):
        since = build.started_at
    for ids in chunks.open_ids(task.build_id, JUDGE):
        task.check()
        with session_scope() as session:
            interactions = [UUID(identifier) for identifier in ids]
            ask_judge(
                *(session, task.recipe, interactions), everything=task.everything, since=since
            )


def judge(task: Task) -> None:
    """Turn what is new in the log into examples, each let through or dropped with its reason."""
    _work_off(task, JUDGE)


def compare(task: Task) -> None:
    """Find what new texts are like; each is looked up after all of them are in the index."""
    with builds.step(task.build_id, "cut") as (session, build):
        chunks.cut(
            *(session, build.id, COMPARE, _UNCOMPARED),
            {"role": task.role, "variant": task.recipe.variant, "open": list(OPEN_REASONS)},
            task.recipe.batch_size,
        )
    _work_off(task, COMPARE)


_UNCOMPARED = """
    SELECT text_id AS id FROM example
    WHERE role = :role AND variant = :variant AND needs_settling AND text_id IS NOT NULL
      AND (drop_reason IS NULL OR drop_reason = ANY(:open))
    EXCEPT
    SELECT CAST(jsonb_array_elements_text(ids) AS bigint) FROM curation_chunk
    WHERE build_id = :build_id AND step = :step
"""


def settle_repeats(task: Task) -> None:
    """Say which examples stand and which repeat them, and tie the groups that stay in one split.

    A kept example that turns out to teach a benchmark goes, and one that says the same in other
    words as an exact rule can tell; what leant on it is settled again.
    """
    role, recipe, templates = task.role, task.recipe, task.templates
    n_changed = 1
    while n_changed:
        task.check()
        with builds.step(task.build_id, "settle") as (session, build):
            builds.count(build, "settle", settle(session, role, recipe))
            assign_groups(session, role, recipe, templates)
        with builds.step(task.build_id, "decontaminate") as (session, build):
            blocked = decontaminate(session, role, recipe, templates)
            builds.count(build, "decontaminate", blocked)
            proposed = propose_repeats(session, role, recipe, templates)
            builds.count(build, "semantic", proposed)
            n_changed = blocked.n_blocked + proposed.n_disposed


def calibrate(task: Task) -> None:
    """Map scores to the chance of a good outcome anew, where enough more outcomes are known."""
    with builds.step(task.build_id, "settle") as (session, _):
        refit_if_due(session, task.role, task.recipe)


def pair(task: Task, kind: str) -> None:
    """Form the pairs of better and worse answers that a preference dataset is made of."""
    if kind == PREFERENCE:
        with builds.step(task.build_id, "pair") as (session, build):
            builds.count(build, "pairs", mine_pairs(session, task.role, task.recipe))


def choose_rows(task: Task) -> None:
    """Drop what the recipe's quotas leave out, and take back what an earlier choice left out."""
    with builds.step(task.build_id, "publish") as (session, build):
        found = choose(session, task.role, task.recipe)
        # Set, not added: the card counts by it, also of a build that was taken up again.
        build.counts = {**build.counts, SOURCE_CAP: found.pop("source_capped", 0)}
        builds.count(build, "choose", found)


def finish(task: Task, run_id: UUID | None) -> Dataset:
    """Write the version and close the build: all in one transaction, or nothing of it."""
    task.check()
    with builds.step(task.build_id, "publish") as (session, build):
        build.counts = {**chunks.counts_of(session, build.id), **build.counts}
        dataset, is_new = publish(session, build, task.recipe, task.templates, task.progress)
        if is_new:
            dataset.run_id = run_id
        move_watermark(session, task.role, task.recipe.variant, build.until_xid, task.seen_at)
        builds.close(session, build, builds.PUBLISHED if is_new else builds.UNCHANGED)
    return dataset


def fill_review_queue(task: Task) -> None:
    """Ask reviewers for what the newest version leaves open."""
    if task.recipe.variant == DEFAULT:
        with session_scope() as session:
            fill_queue(session, task.role)


def require_kind(kind: str) -> None:
    """Check that there is such a kind of dataset; raises BadInput."""
    if kind not in KINDS:
        raise BadInput("dataset kind", kind, f"one of {', '.join(KINDS)}", "Correct the kind.")


def require_logged_role(session: Session, role: str) -> None:
    """Check that there is something to curate.

    Raises:
        NotFound: the role is unknown, or nothing was logged for it.
    """
    roles = get_settings().roles
    if role not in roles:
        raise NotFound(
            "role", role, f"one of {', '.join(roles)}", "Add it to FLYWHEEL_ROLES, or correct it."
        )
    if not has_interactions(session, role):
        raise NotFound(
            "interactions of role",
            role,
            "at least one logged interaction",
            "Log some with collector.client or the gateway, or run: flywheel import",
        )


def help_build(build_id: UUID, step: str, *, check: Check = lambda: None) -> int:
    """Work off chunks of a step of somebody's build while there are any; return how many.

    A build that is not at that step, or whose templates are other ones by now, needs no help.
    """
    with builds.database_watched():
        with session_scope() as session:
            build = session.get(CurationBuild, build_id)
            if build is None or build.step != step:
                return 0
            recipe = CurationRecipe.from_json(build.recipe)
            templates = load_templates(session, build.role)
        if builds.fingerprint_of(recipe, templates) != build.recipe_fingerprint:
            return 0
        task = Task(build_id, build.role, recipe, templates, build.everything, build.started_at)
        return chunks.help_with(build_id, step, _work(task)[step], check=check)


def help_role(role: str, variant: str, check: Check) -> bool:
    """Help with the build of a role that another worker is at; return whether there was work."""
    check()
    with session_scope() as session:
        build = builds.open_build(session, role, variant)
    if build is None:
        return False
    return any([help_build(build.id, step, check=check) for step in (JUDGE, COMPARE)])


def _work_off(task: Task, step: str) -> None:
    with builds.step(task.build_id, step) as (session, _):
        n_chunks = chunks.n_open(session, task.build_id, step)
    if n_chunks > 1:
        task.call_helpers(task.build_id, step)
    chunks.work_off(
        *(task.build_id, step, _work(task)[step]), check=task.check, progress=task.progress
    )
    builds.analyze_if_grown(n_chunks * task.recipe.batch_size)


def _work(task: Task) -> dict[str, chunks.Work]:
    """Return what a chunk of each step asks for."""

    def judge_some(session: Session, ids: Sequence[str]) -> Counts:
        interactions = [UUID(identifier) for identifier in ids]
        return take_in(
            *(session, task.role, task.recipe, task.templates, interactions),
            everything=task.everything,
        )

    def compare_some(session: Session, ids: Sequence[str]) -> Counts:
        texts = [int(identifier) for identifier in ids]
        return asdict(compare_texts(session, task.role, task.recipe, task.templates, texts))

    return {JUDGE: judge_some, COMPARE: compare_some}
