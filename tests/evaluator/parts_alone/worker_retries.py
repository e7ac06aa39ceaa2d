"""Each part of `worker_retries` alone, with stand-ins for the others."""

from solution import Job, Policy, Queue, Worker


class Once:
    def __init__(self, *jobs):
        self.jobs = list(jobs)

    def take(self, now):
        return self.jobs.pop(0) if self.jobs else None

    def put(self, job, ready):
        pass


class Again:
    def delay_after(self, failures):
        return 10


class Never:
    def delay_after(self, failures):
        return None


def test_queue():
    queue = Queue()
    for name, ready in (("late", 20), ("b", 10), ("a", 10)):
        queue.put(Job(name), ready)
    assert queue.take(9) is None
    assert [queue.take(30).name for _ in range(3)] == ["b", "a", "late"]
    assert queue.take(30) is None


def test_policy():
    assert [Policy(4, 10).delay_after(failures) for failures in (1, 2, 3, 4)] == [10, 20, 40, None]


def test_worker():
    made = Worker(Once(Job("a"), Job("x"), Job("b")), Again(), lambda name: name != "x")
    assert made.run(5) == 3
    assert "a" in made.done
    assert "b" in made.done
    assert made.dead == []


def test_worker_gives_up():
    made = Worker(Once(Job("x")), Never(), lambda name: False)
    made.run(5)
    assert len(made.dead) == 1


def test_revive():
    made = Worker(Once(), Never(), lambda name: True)
    made.dead = [Job("x", 3)]
    made.revive(9)
    assert made.dead == []
