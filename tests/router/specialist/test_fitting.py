"""A classifier from the log of real experiments: read, judged, decided, replayed."""

import random

import pytest

from foundation.decisions import replay
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from router.promote import initial
from router.specialist.features import TaskFeatures
from router.specialist.fitting import learn, read_outcomes
from router.specialist.store import in_use, newest
from router.tables import CONTROL, STOPPED, TREATMENT, Assignment, Experiment


@pytest.fixture
def finished(session, make_version):
    """Return a function that stores an experiment's tasks with their calls."""
    from collector.tables import Interaction, InteractionPayload

    old, new = make_version(), make_version()
    initial(session, "coder", old)
    experiment = Experiment(
        role="coder",
        control_model_version_id=old.id,
        treatment_model_version_id=new.id,
        salt="s",
        status=STOPPED,
    )
    session.add(experiment)
    session.flush()

    def store(n: int, gap: float) -> None:
        draw = random.Random(1)
        for _ in range(n):
            language = draw.choice(["python", "rust"])
            arm = draw.choice([CONTROL, TREATMENT])
            better = (language == "rust") == (arm == TREATMENT)
            success = draw.random() < 0.6 + (gap / 2 if better else -gap / 2)
            episode, call = new_id(), new_id()
            session.add_all(
                [
                    Assignment(
                        experiment_id=experiment.id,
                        unit=str(episode),
                        arm=arm,
                        stratum="repair|hard|2026-11-21",
                        outcome=success,
                    ),
                    Interaction(
                        id=call,
                        role="coder",
                        episode_id=episode,
                        experiment_id=experiment.id,
                        task_type="repair",
                    ),
                    InteractionPayload(
                        id=call,
                        request={
                            "messages": [
                                {"role": "user", "content": f"Mend it:\n```{language}\nx\n```"}
                            ]
                        },
                    ),
                ]
            )
        session.flush()

    return store


def test_a_classifier_that_proves_itself_is_used(session, finished):
    finished(700, gap=0.6)
    assert len(read_outcomes(session, "coder")) == 700
    row = learn(session, "coder")
    assert row.report["outcome"] == "use", row.report
    assert row.report["low"] > 0
    fitted = in_use(session)["coder"]
    rust = TaskFeatures("repair", "rust", "hard", 30)
    assert fitted.choose(rust) == "coder-v2"
    assert fitted.default == "coder-v1"
    assert replay(session, row.decision_id).ruling.outcome == "use"


def test_one_without_proof_is_kept_and_not_used(session, finished):
    finished(300, gap=0.0)
    row = learn(session, "coder")
    assert row.report["outcome"] == "stay"
    assert in_use(session) == {}
    kept = newest(session, "coder")
    assert kept is not None
    assert kept.id == row.id


def test_too_little_to_learn_from_is_said(session, finished):
    finished(20, gap=0.5)
    with pytest.raises(BadInput, match="experiments"):
        learn(session, "coder")
    with pytest.raises(NotFound, match="serves"):
        learn(session, "tester")
    with pytest.raises(NotFound, match="role"):
        learn(session, "painter")
