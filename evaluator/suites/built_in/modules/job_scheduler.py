"""Jobs on a calendar: which days are worked on, when a job is due, and the runner of both.

Days are numbers; day 0 is a Monday, Saturdays and Sundays and holidays are free. A job is due every
few days, counted from its first day. The runner is called on some days and runs what is due since
it was called last; jobs of one day run in the order in which they were added.
"""

from collections.abc import Iterator
from dataclasses import dataclass

POSTPONE = True
EACH_MISSED = True


@dataclass(frozen=True)
class Job:
    """Something to do."""

    name: str
    first: int
    every: int


class Calendar:
    """Knows the free days."""

    def __init__(self, holidays: set[int]) -> None:
        self.holidays = holidays

    def is_free(self, day: int) -> bool:
        """Whether nobody works."""
        return day % 7 in (5, 6) or day in self.holidays

    def next_working(self, day: int) -> int:
        """That day, or the first one after it on which somebody works."""
        while self.is_free(day):
            day += 1
        return day


class Schedule:
    """When jobs are due."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar

    def due_days(self, job: Job, until: int) -> Iterator[int]:
        """All days up to one on which the job is due."""
        for day in range(job.first, until + 1, job.every):
            if POSTPONE:
                moved = self.calendar.next_working(day)
                if moved <= until:
                    yield moved
            elif not self.calendar.is_free(day):
                yield day


class Runner:
    """Runs what is due."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.jobs: list[Job] = []
        self.called = -1
        self.done: list[tuple[int, str]] = []

    def tick(self, today: int) -> int:
        """Runs the jobs of the days since the last call, today included; returns how many."""
        due = [
            (day, job.name)
            for job in self.jobs
            for day in self.schedule.due_days(job, today)
            if day > self.called
        ]
        due.sort(key=lambda item: item[0])
        if not EACH_MISSED:
            due = list({name: (day, name) for day, name in due}.values())
        self.done += [(today, name) for _, name in due]
        self.called = max(self.called, today)
        return len(due)
