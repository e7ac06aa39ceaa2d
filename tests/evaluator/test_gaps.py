import numpy as np
import pytest
from sqlalchemy import update

from collector.tables import Feedback, Interaction, SourceTrust
from evaluator.gaps import (
    BENCHMARK,
    PRODUCTION,
    UNTYPED,
    Tally,
    difficulties_for,
    gaps_of,
    ranked,
    recipe_for,
    topics_for,
)
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.ids import new_id


def production(value, n, failed):
    return Tally(PRODUCTION, "task_type", value, n, failed)


def test_a_gap_is_worth_its_share_of_the_tasks_times_its_failures():
    often, seldom, fine = ranked(
        [production("seldom", 10, 9), production("often", 180, 45), production("fine", 10, 1)]
    )
    assert [often.value, seldom.value, fine.value] == ["often", "seldom", "fine"]
    assert often.worth_points == pytest.approx(22.5)
    assert (seldom.share, seldom.failure_rate) == pytest.approx((0.05, 0.9))
    assert (seldom.is_shown, often.is_shown, fine.is_shown) == (True, False, False)
    assert seldom.failure_low < 0.9 < seldom.failure_high


def test_luck_is_not_shown():
    rng = np.random.default_rng(3)
    sizes = [1, 1, 2, 2, 3, 5, 8, 20, 60, 200]
    named = 0
    for _ in range(400):
        tallies = [production(str(i), n, rng.binomial(n, 0.1)) for i, n in enumerate(sizes)]
        named += any(gap.is_shown for gap in ranked(tallies))
    assert named <= 20
    [rare, _] = sorted(
        ranked([production("rare", 1, 1), production("often", 300, 3)]), key=lambda g: g.n_tasks
    )
    assert rare.failure_low > 4 / 301, "by its interval alone it would be named"
    assert not ranked([production("a", 1, 1), production("b", 5, 1)])[0].is_shown


def test_no_failure_is_no_gap_and_nothing_known_is_none():
    assert ranked([production("a", 10, 0), production("b", 0, 0)]) == []
    assert ranked([]) == []
    assert (topics_for([]), recipe_for([])) == ({}, {})


def test_what_is_handed_over():
    gaps = ranked(
        [
            production("parsing", 40, 30),
            production("sorting", 200, 10),
            production(UNTYPED, 20, 5),
            Tally(BENCHMARK, "task_type", "other", 10, 9),
            Tally(BENCHMARK, "difficulty", "hard", 50, 40.0),
            Tally(BENCHMARK, "difficulty", "easy", 50, 5.0),
        ]
    )
    topics = topics_for(gaps)
    assert list(topics) == ["parsing", "sorting"]  # production's word goes first
    assert topics["parsing"] == pytest.approx(3 * topics["sorting"], abs=0.01)
    assert difficulties_for(gaps) == {"hard": 40.0, "easy": 5.0}
    assert recipe_for(gaps) == {
        "balance_by": ["task_type", "difficulty"],
        "balance_weight": "sqrt",
    }


def test_the_recipe_is_one_that_curation_takes():
    from curation.recipe import CurationRecipe

    found = recipe_for(ranked([production("a", 50, 40), production("b", 500, 5)]))
    CurationRecipe(balance_by=tuple(found["balance_by"]), balance_weight=found["balance_weight"])


def log(session, task_type, values, **columns):
    for value in values:
        call = Interaction(role="coder", task_type=task_type, episode_id=new_id(), **columns)
        session.add(call)
        session.add(Feedback(interaction_id=call.id, kind="success", value=value))
    session.flush()


def test_production_and_benchmark_are_read(session):
    version = new_id()
    log(session, "parsing", [0, 0, 1], model_version_id=version)
    log(session, "sorting", [1, 1, 1, 0])
    log(session, None, [0])
    log(session, "judged", [])
    call = Interaction(role="coder", task_type="judged")
    session.add(call)
    session.add(Feedback(interaction_id=call.id, kind="success", value=0, source="judge"))
    told_twice = Interaction(role="coder", task_type="sorting", episode_id=new_id())
    session.add(told_twice)
    session.add(Feedback(interaction_id=told_twice.id, kind="success", value=1))
    session.add(Feedback(episode_id=told_twice.episode_id, kind="success", value=0))
    suite = Suite(name="s", role="coder", content_hash="x", n_tasks=2)
    session.add(suite)
    session.flush()
    run = Evaluation(suite_id=suite.id, subject="coder-v1")
    session.add(run)
    for i, passed in enumerate([True, False]):
        task = SuiteTask(
            suite_id=suite.id, task_id=f"t{i}", prompt=[], grader="exact", reference={},
            attributes={"difficulty": "hard", "domain": "web"},
        )  # fmt: skip
        session.add(task)
        session.flush()
        session.add_all(
            Sample(evaluation_id=run.id, suite_task_id=task.id, number=n, answer="", status="",
                   passed=[passed, None, True][n])
            for n in range(3)
        )  # fmt: skip
    session.flush()
    found = {(gap.source, gap.value): gap for gap in gaps_of(session, "coder")}
    assert found.keys() == {
        (PRODUCTION, "parsing"), (PRODUCTION, "sorting"), (PRODUCTION, UNTYPED),
        (BENCHMARK, "hard"), (BENCHMARK, "web"),
    }  # fmt: skip
    assert found[PRODUCTION, "parsing"].worth_points == pytest.approx(100 * 2 / 9)
    assert (found[PRODUCTION, "sorting"].n_tasks, found[BENCHMARK, "hard"].n_tasks) == (5, 2)
    assert found[BENCHMARK, "hard"].failure_rate == pytest.approx(0.25)  # a lost answer is none
    only = gaps_of(session, "coder", version_id=version)
    assert [(gap.source, gap.value, gap.n_tasks) for gap in only] == [(PRODUCTION, "parsing", 3)]
    assert gaps_of(session, "tester") == []


def test_who_is_distrusted_opens_no_gap(session):
    log(session, "parsing", [0, 0, 1])
    assert [gap.value for gap in gaps_of(session, "coder")] == ["parsing"]
    session.execute(update(Feedback).values(source="user", actor="mallory"))
    session.add(SourceTrust(source="user:mallory", trust="distrusted", reason="r", actor="ada"))
    session.flush()
    assert gaps_of(session, "coder") == []
