"""Judges tests of `worker_retries`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.worker_retries import (
    DOUBLING,
    FRESH,
    Job,
    Policy,
    Queue,
    Worker,
)

CHECKS = Checks(
    rules={
        "DOUBLING": {
            True: "Each delay is twice the one before.",
            False: "Each delay is longer than the one before by the first one.",
        },
        "FRESH": {
            True: "A dead job is revived as if it had never failed.",
            False: "A dead job is revived for one more try.",
        },
    },
    faults=[
        Fault(
            "failures are not counted on",
            "self.fail(replace(job, failures=job.failures + 1), now)",
            "self.fail(replace(job, failures=1), now)",
        ),
        Fault(
            "the policy is asked before the failure counts",
            "self.fail(replace(job, failures=job.failures + 1), now)",
            "self.fail(job, now)",
            only={"DOUBLING": True},
        ),
        Fault(
            "the delay counts from 0",
            "self.queue.put(job, now + delay)",
            "self.queue.put(job, delay)",
        ),
        Fault(
            "a failed job is ready at once",
            "self.queue.put(job, now + delay)",
            "self.queue.put(job, now + 1)",
        ),
        Fault(
            "a failed job is put again without its failures",
            "self.queue.put(job, now + delay)",
            "self.queue.put(Job(job.name), now + delay)",
        ),
        Fault("failed jobs vanish", "self.queue.put(job, now + delay)", "pass"),
        Fault(
            "revived jobs keep their failures",
            "self.queue.put(again, now)",
            "self.queue.put(job, now)",
        ),
        Fault("revived jobs stay among the dead", "self.dead.clear()", "pass"),
        Fault(
            "a failed job is done too",
            "            if self.handler(job.name):\n                self.done.append(job.name)",
            "            self.done.append(job.name)\n            if self.handler(job.name):\n"
            "                pass",
        ),
    ],
)


def worker(most: int = 3, delay: int = 10, *, bad: tuple[str, ...] = ()) -> tuple[Worker, set[str]]:
    """A worker, and the names of the jobs that fail."""
    failing = set(bad)
    return Worker(Queue(), Policy(most, delay), lambda name: name not in failing), failing


def test_jobs_run_when_they_are_ready() -> None:
    """The earliest first, and of equal times the first put."""
    made, _ = worker()
    for name, ready in (("late", 20), ("b", 10), ("a", 10), ("early", 5)):
        made.queue.put(Job(name), ready)
    assert made.run(4) == 0
    assert made.run(10) == 3
    assert made.done == ["early", "b", "a"]
    assert made.run(19) == 0
    assert made.run(20) == 1
    assert made.done[-1] == "late"
    assert made.queue.items == []


def test_retries_with_their_delays() -> None:
    """Until the job is given up."""
    made, _ = worker(4, 10, bad=("x",))
    made.queue.put(Job("x"), 100)
    last = 40 if DOUBLING else 30
    runs = [now for now in range(100, 200) if made.run(now)]
    assert runs == [100, 110, 130, 130 + last]
    assert made.dead == [Job("x", 4)]
    assert made.queue.items == []
    assert made.done == []


def test_a_job_that_works_in_the_end() -> None:
    """Is done once, and others do not wait for it."""
    made, failing = worker(bad=("x",))
    made.queue.put(Job("x"), 0)
    made.queue.put(Job("y"), 0)
    assert made.run(0) == 2
    assert made.queue.items == [(10, Job("x", 1))]
    made.queue.put(Job("z"), 5)
    assert made.run(9) == 1
    failing.clear()
    assert made.run(10) == 1
    assert made.done == ["y", "z", "x"]
    assert made.dead == []


def test_a_late_run_delays_from_then() -> None:
    """Not from when the job was ready."""
    made, _ = worker(bad=("x",))
    made.queue.put(Job("x"), 0)
    made.run(50)
    assert made.queue.items == [(60, Job("x", 1))]
    made.run(75)
    assert made.queue.items == [(95, Job("x", 2))]


def test_dead_jobs() -> None:
    """They begin anew when revived, or have one more try."""
    made, failing = worker(2, bad=("x", "y"))
    made.queue.put(Job("x"), 0)
    made.queue.put(Job("y"), 0)
    assert [made.run(0), made.run(10)] == [2, 2]
    assert made.dead == [Job("x", 2), Job("y", 2)]
    failing.discard("y")
    made.revive(17)
    assert (made.run(16), made.dead) == (0, [])
    assert made.run(17) == 2
    assert made.done == ["y"]
    assert made.dead == ([] if FRESH else [Job("x", 2)])
    assert made.queue.items == ([(27, Job("x", 1))] if FRESH else [])
