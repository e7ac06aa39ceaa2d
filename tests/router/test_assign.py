import hashlib
from uuid import UUID

import pytest

from foundation.errors import BadInput
from router.assign import BUCKETS, arm_of, assign, bucket
from router.tables import CONTROL, TREATMENT

EXPERIMENT = UUID("01890000-0000-7000-8000-000000000001")


def test_bucket_is_the_documented_hash():
    digest = hashlib.sha256(f"{EXPERIMENT}:salt:episode-1".encode()).hexdigest()
    assert bucket(EXPERIMENT, "salt", "episode-1") == int(digest[:16], 16) % 10_000
    assert bucket(str(EXPERIMENT), "salt", "episode-1") == bucket(EXPERIMENT, "salt", "episode-1")


def test_buckets_are_even_and_salts_are_independent():
    units = [f"episode-{i}" for i in range(20_000)]
    first = [bucket(EXPERIMENT, "a", unit) for unit in units]
    second = [bucket(EXPERIMENT, "b", unit) for unit in units]
    assert all(0 <= b < BUCKETS for b in first)
    lower = sum(b < BUCKETS // 2 for b in first)
    assert abs(lower - 10_000) < 300  # four standard deviations
    both = sum(x < BUCKETS // 2 and y < BUCKETS // 2 for x, y in zip(first, second, strict=True))
    assert abs(both - 5_000) < 300


def test_raising_the_share_moves_units_one_way_only():
    units = [f"episode-{i}" for i in range(3_000)]
    treated: set[str] = set()
    for share in (0.0, 0.05, 0.25, 0.5, 1.0):
        now = {u for u in units if assign(EXPERIMENT, "s", u, share) == TREATMENT}
        assert treated <= now
        assert abs(len(now) / len(units) - share) < 0.03
        treated = now


def test_share_boundaries():
    assert arm_of(0, 0.0) == CONTROL
    assert arm_of(9_999, 1.0) == TREATMENT
    assert arm_of(4_999, 0.5) == TREATMENT
    assert arm_of(5_000, 0.5) == CONTROL
    assert arm_of(0, 0.0001) == TREATMENT


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_share_outside_0_1_is_refused(share):
    with pytest.raises(BadInput, match="treatment share"):
        arm_of(1, share)
