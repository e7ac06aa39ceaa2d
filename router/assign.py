"""Which arm a unit belongs to: a hash decides, so the answer is sticky, stateless and replayable.

The unit is an episode: all calls of one agent task keep their arm. Users and agents may be units
too, but then they are analysed one each: task-level statistics of sticky units have 25-70 % false
positives at a few agents per arm.
"""

import hashlib
from uuid import UUID

from foundation.errors import BadInput
from router.tables import CONTROL, EPISODE, TREATMENT

BUCKETS = 10_000
"""Resolution of a treatment share: one bucket is 0.01 % of the units."""


def bucket(experiment_id: UUID | str, salt: str, unit: str) -> int:
    """Return the unit's bucket in 0..9999: SHA-256 of `experiment_id:salt:unit`, modulo 10,000."""
    digest = hashlib.sha256(f"{experiment_id}:{salt}:{unit}".encode()).digest()
    return int.from_bytes(digest[:8]) % BUCKETS


def arm_of(unit_bucket: int, treatment_share: float) -> str:
    """Return the arm of a bucket: the lowest `treatment_share` (0-1) of buckets is treatment.

    Raising the share only moves units from control to treatment, lowering it only moves them back.

    Raises:
        BadInput: the share is not within 0-1.
    """
    if not 0 <= treatment_share <= 1:
        raise BadInput(
            "treatment share", treatment_share, "a number from 0 to 1", "Give 0.5 for half."
        )
    return TREATMENT if unit_bucket < round(treatment_share * BUCKETS) else CONTROL


def unit_of(unit_kind: str, episode: str | None, sticky: str | None, call: str) -> str | None:
    """Return what keeps its arm for a call; None if the call is outside the experiment.

    Args:
        unit_kind: of the experiment: episode, user or agent.
        episode: of the call, if it has one.
        sticky: the user or agent that the caller named (`x-flywheel-unit`).
        call: id of the call: where units are episodes, one without is a unit of its own.
    """
    return (episode or sticky or call) if unit_kind == EPISODE else sticky


def assign(experiment_id: UUID | str, salt: str, unit: str, treatment_share: float) -> str:
    """Return the arm of `unit` in an experiment; raises as `arm_of`."""
    return arm_of(bucket(experiment_id, salt, unit), treatment_share)
