"""UUIDv7 ids: ordered, unique, carrying their time, and usable as range bounds."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

from foundation.ids import first_id_at, keyed_episode_id, new_id, time_of


def test_ids_are_version_7_and_ordered() -> None:
    made = [new_id() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert {(i.version, i.variant) for i in made} == {(7, "specified in RFC 4122")}


def test_ids_of_many_threads_are_unique() -> None:
    made: list[UUID] = []
    threads = [
        threading.Thread(target=lambda: made.extend(new_id() for _ in range(500))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


def test_time_of_an_id_is_now() -> None:
    assert abs(time_of(new_id()) - datetime.now(UTC)) < timedelta(seconds=5)


def test_bounds_enclose_the_ids_of_their_range() -> None:
    moment = datetime.now(UTC)
    low, high = first_id_at(moment - timedelta(hours=1)), first_id_at(moment + timedelta(hours=1))
    assert low < new_id() < high
    assert time_of(low) < time_of(high)


def test_a_callers_key_gives_one_episode_per_project() -> None:
    assert keyed_episode_id("web", "PR-1") == keyed_episode_id("web", "PR-1")
    assert len({keyed_episode_id(p, k) for p, k in [("a", "bc"), ("ab", "c"), ("a", "c")]}) == 3
