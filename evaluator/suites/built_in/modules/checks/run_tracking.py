"""Judges tests of `run_tracking`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.run_tracking import LOWER, TIES, Log, Run, resume

CHECKS = Checks(
    rules={
        "LOWER": {True: "Lower figures are better.", False: "Higher figures are better."},
        "TIES": {
            True: "A figure equal to the best one counts as better.",
            False: "A figure equal to the best one does not count as better.",
        },
    },
    faults=[
        Fault(
            "patience runs on after a gain",
            "self.patience.saw(self.best.offer(epoch, figure, state))",
            "self.patience.saw(self.best.offer(epoch, figure, state) and epoch == 1)",
        ),
        Fault(
            "patience sees the opposite",
            "self.patience.saw(self.best.offer(epoch, figure, state))",
            "self.patience.saw(not self.best.offer(epoch, figure, state))",
        ),
        Fault(
            "the keeper is told the wait instead of the epoch",
            "self.best.offer(epoch, figure, state)",
            "self.best.offer(self.patience.waited + 1, figure, state)",
        ),
        Fault("figures are not logged", "self.log.add(figure)", "len(self.log.figures) + 1"),
        Fault(
            "a run that is done goes on logging",
            "        if self.patience.is_over:\n            return False\n        epoch",
            "        epoch",
        ),
        Fault(
            "resuming forgets the wait",
            "    return run\n",
            "    run.patience.waited = 0\n    return run\n",
        ),
        Fault(
            "a resumed run logs nothing before",
            "    return run\n",
            "    run.log = Log()\n    return run\n",
        ),
        Fault("resuming ignores the patience", "run = Run(patience)", "run = Run(99)"),
    ],
)

SIGN = 1.0 if LOWER else -1.0


def run_over(patience: int, *figures: float) -> tuple[Run, list[bool]]:
    """A run, and what it answered; figures as if lower ones were better."""
    run = Run(patience)
    return run, [run.report(SIGN * figure, f"s{at}") for at, figure in enumerate(figures, 1)]


def test_the_best_state_is_kept() -> None:
    """With its epoch, whatever comes after."""
    run, went_on = run_over(3, 5.0, 3.0, 4.0, 2.0, 6.0)
    assert went_on == [True] * 5
    assert (run.best.figure, run.best.epoch, run.best.state) == (SIGN * 2.0, 4, "s4")
    assert run.log.figures == [SIGN * one for one in (5.0, 3.0, 4.0, 2.0, 6.0)]
    assert run.patience.waited == 1


def test_a_run_ends_when_patience_is_over() -> None:
    """And takes nothing more, however good."""
    run, went_on = run_over(2, 5.0, 6.0, 4.0, 4.5, 5.0, 1.0)
    assert went_on == [True, True, True, True, False, False]
    assert run.best.state == "s3"
    assert len(run.log.figures) == 5
    assert run.patience.is_over


def test_equal_figures() -> None:
    """They keep a run alive, or they do not."""
    run, went_on = run_over(2, 5.0, 5.0, 5.0)
    assert went_on == [True, True, TIES]
    assert run.best.epoch == (3 if TIES else 1)
    assert run.best.state == ("s3" if TIES else "s1")
    assert len(run.log.figures) == 3


def test_a_resumed_run_goes_on_where_it_was() -> None:
    """Best figure, epoch and wait."""
    before, _ = run_over(3, 5.0, 3.0, 4.0)
    run = resume(before.log, 3)
    assert (run.best.figure, run.best.epoch, run.best.state) == (SIGN * 3.0, 2, "")
    assert run.patience.waited == 1
    assert run.report(SIGN * 9.0, "late")
    assert not run.report(SIGN * 9.0, "later")
    other = resume(before.log, 3)
    assert other.report(SIGN * 1.0, "better")
    assert (other.best.epoch, other.best.state, other.patience.waited) == (4, "better", 0)
    assert len(other.log.figures) == 4
    assert before.log.figures == [SIGN * one for one in (5.0, 3.0, 4.0)]


def test_nothing_was_logged_yet() -> None:
    """The first figure is the best."""
    run = resume(Log(), 1)
    assert (run.best.epoch, run.patience.waited) == (0, 0)
    assert run.report(SIGN * 7.0, "first")
    assert not run.report(SIGN * 8.0, "worse")
    assert run.best.state == "first"
