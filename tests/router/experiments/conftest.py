"""Experiments to play with: units with outcomes and calls, one line each."""

from collections.abc import Callable

import pytest
from sqlmodel import Session

from collector.tables import Feedback
from foundation.ids import new_id
from router import experiment as ab
from router.promote import initial
from router.tables import CONTROL, TREATMENT, Experiment
from trainer.tables import ModelVersion

Play = Callable[..., None]


@pytest.fixture
def versions(session, make_version) -> tuple[ModelVersion, ModelVersion]:
    control, treatment = make_version(), make_version()
    initial(session, "coder", control)
    return control, treatment


@pytest.fixture
def play(session: Session) -> Play:
    """Assign `n` units; `control` and `treatment` say how the i-th unit of the arm ended."""

    def play_units(
        running: Experiment,
        n: int,
        control: Callable[[int], float] = lambda i: 1.0,
        treatment: Callable[[int], float] = lambda i: 1.0,
        **call: object,
    ) -> None:
        ends, seen = {CONTROL: control, TREATMENT: treatment}, {CONTROL: 0, TREATMENT: 0}
        for _ in range(n):
            unit = new_id()
            arm = ab.assign(session, running, str(unit), "sum|easy|day").arm
            value = float(ends[arm](seen[arm]))
            seen[arm] += 1
            session.add(Feedback(episode_id=unit, kind="success", value=value, source="test"))
            if call:
                ab.record_call(session, running.id, str(unit), **{"error": False, **call})
        session.flush()
        ab.collect_outcomes(session, running)

    return play_units
