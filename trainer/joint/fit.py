"""Train several lessons at once over one frozen base; each ends as if it had been trained alone.

What a lesson's rows go through is `trainer.joint.mixed`; what is its own is a `Learner`. Each step
adds up the mean losses of all learners and goes backward once: their weights are apart, so the
gradient of each is that of its own loss. A learner that has ended has no more rows in the batch.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from foundation.errors import BadInput
from trainer.arguments import device, precision_of, recomputes
from trainer.callbacks import Clock, Pace, peak_memory_mb
from trainer.checkpoints import latest
from trainer.fit import (
    give_memory_back,
    named_if_full,
    quiet_libraries,
    torch_threads,
    weights_sha256,
)
from trainer.guards import OutOfMemory, is_out_of_memory, smaller
from trainer.joint.checkpoint import go_on, keep, save
from trainer.joint.learner import Learner
from trainer.joint.mixed import mixing
from trainer.joint.training import PLAIN_AGAIN, Training
from trainer.lesson import Lesson, Prepared, Report, Trained
from trainer.methods import sft
from trainer.recipe import BFD, FP16, NO_PACKING, PLAIN, SFT_LORA


def fit_joint(
    lessons: Sequence[Lesson],
    folder: Path,
    report: Report,
    *,
    names: Sequence[str] = (),
    recompute: str | None = None,
) -> list[Trained]:
    """Train, or go on training, in `folder`; again after the end it trains nothing.

    Args:
        lessons: one for each adapter, of sft-lora over the same base.
        folder: of this training alone; those of the lessons are not used.
        report: told after each step, with every learner's losses.
        names: of the learners, in reports and folders; roles as a rule.
        recompute: how activations are recomputed: reentrant or plain; None: as the recipes say.

    Raises:
        BadInput: lessons that cannot be trained together, or not like this.
        Diverged: the loss of one of them ran away.
        OutOfMemory: not even one row of each fits.
        DiskFull: there is no room for a checkpoint; the one before is whole.
    """
    names = list(names) or [f"lesson{i}" for i in range(len(lessons))]
    require_joint(lessons)
    recipe, clock = lessons[0].recipe, Clock()
    again = recompute or (PLAIN_AGAIN if recomputes(recipe) else None)
    with ExitStack() as stack:
        threads = stack.enter_context(torch_threads(recipe.threads))
        stack.enter_context(quiet_libraries())
        stack.enter_context(named_if_full(folder))
        folder.mkdir(parents=True, exist_ok=True)
        data = [sft.prepare(lesson) for lesson in lessons]
        training = _within_memory(lessons, names, data, folder, clock, report, again)
        return [_trained(one, training, folder, threads) for one in training.learners]


def require_joint(lessons: Sequence[Lesson]) -> None:
    """Check that lessons can be trained together.

    Raises:
        BadInput: naming the knob, and what a joint training takes.
    """
    if not lessons:
        raise BadInput("joint training", 0, "at least one lesson", "Name roles.")
    first = lessons[0]
    for lesson in lessons:
        recipe = lesson.recipe
        alone = "Train that role alone."
        for knob, value, expected in (
            ("method", recipe.method, SFT_LORA),
            ("quantization", recipe.held_as, "none"),
            ("dora", recipe.dora, False),
            ("packing", recipe.packing if recipe.packing == BFD else NO_PACKING, NO_PACKING),
            ("neftune", recipe.neftune, 0),
            ("report_to", recipe.report_to, ()),
            ("continual.method", recipe.continual.method, PLAIN),
            ("precision", precision_of(recipe), precision_of(first.recipe)),
        ):
            if value != expected or value == FP16:
                shown = f"{expected} in a joint training"
                raise BadInput(f"recipe.{knob}", value, shown, alone)
        if "lm_head" in recipe.target_modules:
            raise BadInput("recipe.target_modules", "lm_head", "layers below the head", alone)
        if lesson.base_model != first.base_model:
            raise BadInput("base model", lesson.base_model, first.base_model, alone)
        if lesson.earlier is not None:
            raise BadInput("version to go on from", lesson.earlier.name, "none", alone)


def _within_memory(
    lessons: Sequence[Lesson],
    names: Sequence[str],
    data: Sequence[Prepared],
    folder: Path,
    clock: Clock,
    report: Report,
    again: str | None,
) -> Training:
    """Train to the end, with smaller forward passes wherever memory does not suffice."""
    start = latest(folder)
    while start is not None and _longest_pass(lessons) > start.micro_batch:
        lessons = _in_smaller_passes(lessons)  # as a start before this one came to need
    while True:
        try:
            training = Training(lessons, names, data, again)
            _to_the_end(training, folder, clock, report)
            return training
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            refused = str(error).split("\n")[0][:200]
        training = None  # type: ignore[assignment]  # else the next one is built beside it
        give_memory_back()
        lessons = _in_smaller_passes(lessons, refused)
        shown = ", ".join(str(lesson.recipe.batch_size) for lesson in lessons)
        lessons[0].say("WARNING", f"out of memory ({refused}): {shown} rows a pass, as many a step")


def _longest_pass(lessons: Sequence[Lesson]) -> int:
    return max(lesson.recipe.batch_size for lesson in lessons)


def _in_smaller_passes(lessons: Sequence[Lesson], refused: str = "") -> list[Lesson]:
    """Return the lessons with their longest passes cut, and the same rows per step."""
    most = _longest_pass(lessons)
    cut_down = []
    for lesson in lessons:
        recipe = smaller(lesson.recipe) if lesson.recipe.batch_size == most else lesson.recipe
        if recipe is None:
            raise OutOfMemory(len(lessons), refused)
        cut_down.append(replace(lesson, recipe=recipe))
    return cut_down


def _to_the_end(training: Training, folder: Path, clock: Clock, report: Report) -> None:
    go_on(training, folder, clock)
    pace, check = Pace(), training.learners[0].lesson.check
    every = min(learner.lesson.recipe.eval_steps for learner in training.learners)
    with mixing(training.model, end_to_end=training.end_to_end) as mix:
        while not training.is_done:
            clock.started()
            pace.begin_step()
            training.learn(mix)
            pace.end_step()
            check()
            told = training.measures() | pace.read(
                training.step, training.n_steps, float(training.n_tokens)
            )
            report(training.step, training.n_steps, "steps", **told, memory_mb=peak_memory_mb())
            if training.step % every == 0 or training.is_done:
                save(training, folder, clock)


def _trained(learner: Learner, training: Training, folder: Path, threads: int) -> Trained:
    kept = keep(learner, training.model, folder / "trained" / learner.name)
    now, recipe = learner.progress, learner.lesson.recipe
    losses = [line["loss"] for line in now.history if "loss" in line]
    return Trained(
        folder=kept,
        weights_sha256=weights_sha256(kept),
        metrics={
            "steps": now.step,
            "planned_steps": learner.n_steps,
            "stopped_early": now.step < learner.n_steps,
            "best_step": now.best_step,
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "best_validation_loss": now.best_loss,
            "micro_batch": recipe.batch_size,
            "trained_with": [one.name for one in training.learners if one is not learner],
            **learner.data.metrics,
        },
        history=now.history,
        environment={**device(recipe), "threads": threads, **training.read_clock},
    )
