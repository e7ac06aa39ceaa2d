"""Judges tests of `job_scheduler`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.job_scheduler import (
    EACH_MISSED,
    POSTPONE,
    Calendar,
    Job,
    Runner,
    Schedule,
)

CHECKS = Checks(
    rules={
        "POSTPONE": {
            True: "A job due on a free day is due on the next working day.",
            False: "A job due on a free day is left out that time.",
        },
        "EACH_MISSED": {
            True: "A job that was due several times since the last call runs as often.",
            False: "A job that was due several times since the last call runs once, in the "
            "place of its first time.",
        },
    },
    faults=[
        Fault(
            "the runner forgets when it was called", "self.called = max(self.called, today)", "pass"
        ),
        Fault(
            "free days are not asked for",
            "self.schedule.due_days(job, today)",
            "range(job.first, today + 1, job.every)",
        ),
        Fault(
            "today is left for the next call",
            "self.schedule.due_days(job, today)",
            "self.schedule.due_days(job, today - 1)",
        ),
        Fault("holidays count from Monday", "day in self.holidays", "day % 7 in self.holidays"),
        Fault(
            "being called again on an earlier day goes back",
            "self.called = max(self.called, today)",
            "self.called = today",
        ),
        Fault(
            "jobs run one after the other, not day after day",
            "due.sort(key=lambda item: item[0])",
            "pass",
        ),
        Fault("the last day is run again", "if day > self.called", "if day >= self.called"),
        Fault(
            "what is done is noted under its due day",
            "(today, name) for _, name in due",
            "(day, name) for day, name in due",
        ),
    ],
)


def runner(*jobs: Job, holidays: tuple[int, ...] = ()) -> Runner:
    """A runner of jobs."""
    made = Runner(Schedule(Calendar(set(holidays))))
    made.jobs += jobs
    return made


def test_called_every_day() -> None:
    """A job of every third day, over two weeks: 0, 3, 6 (Sunday), 9, 12 (Saturday)."""
    made = runner(Job("backup", 0, 3))
    counts = [made.tick(day) for day in range(15)]
    days = [0, 3, 7, 9, 14] if POSTPONE else [0, 3, 9]
    assert made.done == [(day, "backup") for day in days]
    assert [day for day, count in enumerate(counts) if count] == days


def test_holidays_and_weekends_together() -> None:
    """Friday to Tuesday free."""
    made = runner(Job("report", 4, 10), Job("mail", 1, 7), holidays=(4, 7, 8))
    for day in range(11):
        made.tick(day)
    late = [(9, "report"), (9, "mail")] if POSTPONE else []
    assert made.done == [(1, "mail"), *late]
    made.tick(14)
    assert made.done[len(late) + 1 :] == [(14, "report")]


def test_days_without_a_call() -> None:
    """What was missed, in the order of the days."""
    made = runner(Job("a", 1, 1), Job("b", 0, 2))
    assert made.tick(3) == (5 if EACH_MISSED else 2)
    names = "babab" if EACH_MISSED else "ba"
    if EACH_MISSED:
        names = "b" + "a" + "ab" + "a"
    assert [name for _, name in made.done] == list(names)
    assert {day for day, _ in made.done} == {3}
    assert made.tick(3) == 0
    assert [made.tick(1), made.tick(3)] == [0, 0]
    assert made.tick(4) == 2
    assert made.done[-2:] == [(4, "a"), (4, "b")]


def test_a_first_day_in_the_future() -> None:
    """Nothing before it, and it counts itself."""
    made = runner(Job("later", 9, 5))
    assert [made.tick(day) for day in (8, 9, 10, 14)] == [0, 1, 0, 1]


def test_a_weekend_of_a_daily_job() -> None:
    """Seen on Monday."""
    made = runner(Job("daily", 0, 1))
    made.tick(4)
    made.done.clear()
    assert [made.tick(5), made.tick(6)] == [0, 0]
    n_monday = (3 if EACH_MISSED else 1) if POSTPONE else 1
    assert made.tick(7) == n_monday
    assert made.done == [(7, "daily")] * n_monday


def test_the_first_call() -> None:
    """Day 0 is a working day and counts."""
    made = runner(Job("start", 0, 30), Job("second", 0, 30))
    assert made.tick(0) == 2
    assert made.done == [(0, "start"), (0, "second")]
    assert runner(Job("start", 0, 30), holidays=(0,)).tick(0) == 0
