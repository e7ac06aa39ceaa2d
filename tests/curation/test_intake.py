"""Candidates become examples, whatever they hold; what did not change keeps its verdict."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from curation.build import build_dataset
from curation.intake import example_id
from curation.recipe import CurationRecipe
from curation.review.labels import label
from curation.tables import Example, ReviewItem
from foundation.errors import BadInput
from foundation.ids import new_id, time_of

CODE = "def f(x):\n    return x + {}"


def example_of(session: Session, interaction_id: Any) -> Example:
    session.rollback()
    return session.exec(
        select(Example)
        .where(Example.interaction_id == interaction_id)
        .execution_options(populate_existing=True)
    ).one()


def test_ids_follow_from_the_interaction_alone() -> None:
    one, other = new_id(), new_id()
    assert example_id(one, "default") == example_id(one, "default")
    assert len({example_id(i, v) for i in (one, other) for v in ("default", "unverified")}) == 4
    assert example_id(one, "default").version == 7
    assert time_of(example_id(one, "default")) == time_of(one)


def test_one_task_type_only_is_said_on_the_card(session: Session, log: Any) -> None:
    for number in range(20):
        log.call(f"Add {number} to x.", CODE.format(number), passed=True, task_type="only")
    card = build_dataset("coder").card
    assert card["task_types"] == {"only": 20}
    assert card["kept"] == 20


def test_a_text_of_ten_megabytes_is_dropped_for_its_length(session: Session, log: Any) -> None:
    huge = log.call("Summarise: " + "word and word " * 750_000, "It says word.", passed=True)
    long_answer = log.call("Go on.", "again and " * 1_000_000, passed=True)
    log.call("Add 1 to x.", CODE.format(1), passed=True)
    card = build_dataset("coder").card
    assert card["dropped_by_reason"] == {"too_long": 2}
    assert card["kept"] == 1
    for interaction_id in (huge, long_answer):
        stored = example_of(session, interaction_id)
        assert (stored.drop_reason, stored.text_id) == ("too_long", None)


def test_languages_may_be_mixed(session: Session, log: Any) -> None:
    asked = {
        "en": "Please write a function that adds one to the number and explain what it does.",
        "de": "Bitte schreibe eine Funktion, die eins zu der Zahl addiert, und erkläre sie mir.",
        "fr": "Écris une fonction qui ajoute un au nombre et explique-moi ce qu'elle fait.",
        "ja": "数に一を足す関数を書いて、それが何をするのかを説明してください。",
        "ar": "اكتب دالة تضيف واحدا إلى العدد واشرح لي ماذا تفعل هذه الدالة.",
    }
    ids = {
        language: log.call(prompt, CODE.format(n), passed=True)
        for n, (language, prompt) in enumerate(asked.items())
    }
    card = build_dataset("coder").card
    assert card["kept"] == 5
    found = {language: example_of(session, i).language for language, i in ids.items()}
    assert found["en"] == "en"
    assert found["de"] == "de"
    assert example_of(session, ids["en"]).code_language == "python"


def test_odd_payloads_are_dropped_by_name(session: Session, log: Any) -> None:
    kept = log.call("Add 1 to x.", CODE.format(1), passed=True)
    odd = [log.call("Add 2 to x.", CODE.format(2), passed=True) for _ in range(4)]
    for identifier, (request, response) in zip(
        odd,
        [
            ("{}", "{}"),
            ('{"messages": "no list"}', '{"choices": []}'),
            ('{"messages": [1, null]}', '{"choices": [null]}'),
            ('{"messages": [{"role": "user"}]}', '{"choices": [{"message": {"content": 7}}]}'),
        ],
        strict=True,
    ):
        session.execute(
            text("UPDATE interaction_payload SET request = :a, response = :b WHERE id = :id"),
            {"a": request, "b": response, "id": identifier},
        )
    session.commit()
    card = build_dataset("coder").card
    assert card["kept"] == 1
    assert card["candidates"] == 5
    assert example_of(session, kept).status == "kept"
    assert {example_of(session, i).drop_reason for i in odd} <= {"empty_answer", "empty_prompt"}


def test_what_did_not_change_keeps_its_verdict(session: Session, log: Any) -> None:
    first = log.call("Add 1 to x.", CODE.format(1), passed=True)
    repeat = log.call("Add 1 to x.", CODE.format(1), passed=True)
    build_dataset("coder")
    known = example_of(session, repeat)
    heard, kept_id = known.scores["feedback"], known.duplicate_of
    assert kept_id == example_of(session, first).id
    log.say(repeat, "comment", text="a remark that decides nothing")
    dataset = build_dataset("coder")
    after = example_of(session, repeat)
    assert after.scores["feedback"] != heard, "it was judged again"
    assert (after.status, after.duplicate_of) == ("dropped", kept_id)
    assert not after.needs_settling
    assert dataset.number == 1


def test_a_person_sets_task_type_and_difficulty(session: Session, log: Any) -> None:
    identifier = log.call("Add 1 to x.", CODE.format(1), passed=True, task_type="sums")
    build_dataset("coder")
    known = example_of(session, identifier)
    item = ReviewItem(kind="example", role="coder", subject_id=known.id, reason="seen by chance")
    session.add(item)
    session.flush()
    label(session, item.id, "ann", "relabel", {"task_type": "arithmetic", "difficulty": "easy"})
    session.commit()
    assert example_of(session, identifier).needs_judging
    dataset = build_dataset("coder")
    known = example_of(session, identifier)
    assert (known.task_type, known.difficulty) == ("arithmetic", "easy")
    assert not known.needs_judging
    assert dataset.card["task_types"] == {"arithmetic": 1}


@pytest.mark.parametrize("kind", ["preference", "eval"])
def test_other_kinds_are_built_by_the_same_steps(session: Session, log: Any, kind: str) -> None:
    for number in range(30):
        log.call(f"Add {number} to x.", CODE.format(number), passed=True)
        log.call(f"Add {number} to x.", CODE.format(number + 100), passed=False)
    everything_tests = CurationRecipe(train_share=0.0, validation_share=0.0, test_share=1.0)
    dataset = build_dataset("coder", everything_tests, kind=kind)
    assert (dataset.kind, dataset.number) == (kind, 1)
    assert kind == "eval" or dataset.n_test == 30
    assert build_dataset("coder", everything_tests, kind=kind).id == dataset.id
    assert build_dataset("coder", everything_tests).kind == "sft"


def test_an_unknown_kind_is_named(session: Session, log: Any) -> None:
    with pytest.raises(BadInput, match="dataset kind: got 'dpo', expected one of sft, preference"):
        build_dataset("coder", kind="dpo")
