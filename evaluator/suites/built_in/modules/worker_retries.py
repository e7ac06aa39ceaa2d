"""A queue of jobs, a policy for retries, and the worker that runs what is ready.

A job is ready at a time; of those that are ready, the one of the earliest time comes first, and of
equal times the one that was put first. A job that fails is put again with a delay, until it failed
as often as the policy allows; then it is dead.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

DOUBLING = True
FRESH = True


@dataclass(frozen=True)
class Job:
    """Something to do, and how often it failed."""

    name: str
    failures: int = 0


class Queue:
    """Jobs with the times at which they are ready."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Job]] = []

    def put(self, job: Job, ready: int) -> None:
        """Adds a job."""
        self.items.append((ready, job))

    def take(self, now: int) -> Job | None:
        """Takes the next job that is ready."""
        ready = [item for item in self.items if item[0] <= now]
        if not ready:
            return None
        item = min(ready, key=lambda one: one[0])
        self.items.remove(item)
        return item[1]


@dataclass(frozen=True)
class Policy:
    """How often to try, and the first delay."""

    most: int
    delay: int

    def delay_after(self, failures: int) -> int | None:
        """How long to wait after that many failures; None to give up."""
        if failures >= self.most:
            return None
        return self.delay * (2 ** (failures - 1) if DOUBLING else failures)


class Worker:
    """Runs jobs by a handler that returns whether it worked."""

    def __init__(self, queue: Queue, policy: Policy, handler: Callable[[str], bool]) -> None:
        self.queue = queue
        self.policy = policy
        self.handler = handler
        self.done: list[str] = []
        self.dead: list[Job] = []

    def run(self, now: int) -> int:
        """Runs all jobs that are ready now; returns how many."""
        n_run = 0
        while (job := self.queue.take(now)) is not None:
            n_run += 1
            if self.handler(job.name):
                self.done.append(job.name)
            else:
                self.fail(replace(job, failures=job.failures + 1), now)
        return n_run

    def fail(self, job: Job, now: int) -> None:
        """Puts a failed job again, or gives it up."""
        delay = self.policy.delay_after(job.failures)
        if delay is not None:
            self.queue.put(job, now + delay)
        else:
            self.dead.append(job)

    def revive(self, now: int) -> None:
        """Puts all dead jobs again."""
        for job in self.dead:
            again = Job(job.name) if FRESH else replace(job, failures=job.failures - 1)
            self.queue.put(again, now)
        self.dead.clear()
