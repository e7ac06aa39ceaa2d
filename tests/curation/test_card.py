"""The card: measures that are met, not met or not measured; its page; what it warns of."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from published import RECIPE, add_example, published

from curation.embed import BUNDLED
from curation.publish import quality
from curation.publish.card import (
    NO_TASK,
    Tally,
    length_histogram,
    length_summary,
    score_histogram,
    steps,
    warnings_of,
)
from curation.publish.consistency import agreement, habits
from curation.publish.page import BARS_AT_MOST, bars, columns, figures, render, segments
from curation.publish.quality import (
    Measure,
    coverage,
    evenness,
    human_verified,
    labels_on_sample,
    novelty,
    planted_recall,
    right_in_sample,
    sample_of,
    style_agreement,
)
from curation.recipe import RULE_VERSIONS
from curation.score.judge import PLAIN, SWAPPED
from curation.semantic import HASHED
from curation.tables import EVAL, SFT, Dataset, JudgeCall, ReviewItem, ReviewLabel
from foundation.artifacts import fetch
from foundation.chat import message
from foundation.ids import new_id
from foundation.tables import now

HINTED = """```python
def total(items: list[int]) -> int:
    '''Sum them.'''
    return sum(items)
```"""
BARE = "```python\ndef totalOf(items):\n  x = 'a'\n  return sum(items)\n```"


def row(answer: str, prompt: str = "do", task_type: str | None = "code") -> dict:
    return {
        "example_id": str(new_id()),
        "prompt": [message("user", prompt)],
        "completion": [message("assistant", answer)],
        "task_type": task_type,
        "score": 1.0,
    }


# Measures


def test_a_target_is_met_not_met_or_not_asked():
    assert Measure(0.8, 10, target=0.8).is_met is True
    assert Measure(0.7999, 10, target=0.8).is_met is False
    assert Measure(0.9, 10).is_met is None
    assert Measure(None, 0, "why", 0.8).is_met is None


def test_coverage_counts_the_roles_types_and_names_the_missing():
    found = coverage({"a", "b", "c", "d", "e"}, {"a", "b", "c", "d", "of another role"})
    assert found.as_json() == {
        "value": 0.8,
        "n": 5,
        "target": 0.8,
        "met": True,
        "why_not": None,
        "missing": ["e"],
    }
    assert coverage({"a", "b"}, {"a"}).is_met is False
    assert coverage(set(), set()).as_json()["why_not"] == "no interaction names its task_type"


def test_rows_that_a_person_vouched_for_are_counted_over_all_rows():
    assert human_verified(95, 100).is_met is True
    assert human_verified(10, 100).value == 0.1
    assert human_verified(0, 0).why_not == "the version has no rows"


def test_the_random_sample_needs_labels_and_has_an_interval():
    assert "29 labels" in (right_in_sample(29, 0).why_not or "")
    found = right_in_sample(95, 5)
    assert (found.value, found.is_met) == (0.95, True)
    low, high = found.details["interval"]
    assert low == pytest.approx(0.8882, abs=1e-4)  # Wilson, 95 of 100
    assert high == pytest.approx(0.9785, abs=1e-4)


def test_labels_count_on_the_random_sample_unless_undone(session):
    def label(action, reason="random", **columns):
        item = ReviewItem(role="coder", subject_id=new_id(), reason=reason)
        session.add(item)
        session.flush()
        label = ReviewLabel(
            item_id=item.id, interaction_id=new_id(), reviewer="ann", action=action, **columns
        )
        session.add(label)

    for action in ("accept", "accept", "reject", "edit", "rate"):
        label(action)
    label("reject", reason="uncertainty")
    label("reject", undone_at=now())
    session.flush()
    assert labels_on_sample(session, "coder") == (2, 2)
    assert labels_on_sample(session, "tester") == (0, 0)


def test_evenness_is_one_for_an_even_spread():
    assert evenness({"a": 5, "b": 5, "c": 5}).value == pytest.approx(1.0)
    assert evenness({"a": 99, "b": 1}).value == pytest.approx(0.0808, abs=1e-4)
    assert evenness({"a": 5}).why_not == "fewer than two task types"


def test_habits_of_an_answer():
    assert habits(HINTED) == {
        "form": "fenced code",
        "type hints": "yes",
        "docstrings": "yes",
        "function names": "snake_case",
        "indentation": "4 spaces",
    }
    assert habits(BARE) == {
        "form": "fenced code",
        "type hints": "no",
        "docstrings": "no",
        "function names": "camelCase",
        "quotes": "single",
        "indentation": "2 spaces",
    }
    assert habits("Use a loop.") == {"form": "prose"}
    assert habits("") == {"form": "no text"}
    assert habits("def f(x):\n\treturn x")["indentation"] == "tabs"
    assert habits("```python\nprint('unclosed\n```")["form"] == "fenced code"


def test_agreement_is_with_the_majority_of_the_same_task_type():
    prose, code = {"form": "prose"}, {"form": "fenced code"}
    shown = [("explain", prose)] * 10 + [("write", code)] * 9 + [("write", prose)]
    assert agreement(shown) == {"form": (0.95, 20)}
    few = [(str(i), prose) for i in range(3)] + [("x", code)]
    assert agreement(few) == {"form": (0.75, 4)}


def test_two_tastes_do_not_meet_the_target_and_one_does():
    assert style_agreement([row(HINTED)] * 30).is_met is True
    mixed = style_agreement([row(HINTED)] * 15 + [row(BARE)] * 15)
    assert mixed.is_met is False
    assert mixed.details["by_habit"]["type hints"] == {"agreement": 0.5, "n": 30}
    assert style_agreement([row(HINTED)] * 19).why_not == "fewer than 20 answers"


def test_planted_repeats_are_found_in_long_answers_and_not_measured_in_short_ones():
    long = [row(" ".join(f"w{i}x{n}" for i in range(150)), f"task {n}") for n in range(20)]
    found = planted_recall(long, RECIPE)
    assert found.value is not None
    assert found.value >= 0.95
    assert found.details["n_false"] == 0
    short = planted_recall([row("4", f"task {n}") for n in range(20)], RECIPE)
    assert short.value is None
    assert short.why_not == "no answer of 60 words to plant copies of"


def test_novelty_needs_no_model_and_says_why_it_is_not_measured(session):
    few = novelty(session, [row("a")], RECIPE, 1, None)
    assert few.why_not == "fewer than 100 rows"
    copies = novelty(session, [row("a")] * 100, RECIPE, 100, None)
    assert copies.details["model"] == HASHED
    assert copies.value == pytest.approx(0, abs=1e-5)
    unlike = novelty(session, [row(f"w{n} x{n} y{n}") for n in range(100)], RECIPE, 100, None)
    assert unlike.value is not None
    assert unlike.value > 0.3


def test_novelty_by_a_model_stands_while_the_version_hardly_grew(session, monkeypatch):
    asked = []

    def measured(session, texts, model):
        asked.append(len(texts))
        return 0.4

    monkeypatch.setattr(quality.embed, "novelty", measured)
    recipe = replace(RECIPE, embedding_model=BUNDLED)
    rows = [row(str(i)) for i in range(150)]
    first = novelty(session, rows, recipe, 1000, None)
    assert (first.value, first.n, first.details["model"]) == (0.4, 100, BUNDLED)
    last = Dataset(
        role="coder", number=1, content_hash="x", card={"quality": {"novelty": first.as_json()}}
    )
    assert novelty(session, rows, recipe, 1099, last) == first
    assert asked == [100]
    novelty(session, rows, recipe, 1100, last)
    assert asked == [100, 100]


def test_a_sample_stays_while_its_rows_do():
    ids = [new_id() for _ in range(1000)]
    drawn = sample_of(ids, 50)
    assert sample_of(reversed(ids), 50) == drawn
    grown = sample_of([*ids, *(new_id() for _ in range(100))], 50)
    assert len(set(drawn) & set(grown)) > 35


# Counts


def test_each_step_loses_what_its_reasons_drop():
    dropped = {"error": 1, "no_outcome": 2, "near_duplicate": 3, "contaminated": 1, "over_quota": 4}
    assert steps(20, dropped) == {
        "candidates": 20,
        "well_formed": 19,
        "proven": 17,
        "unique": 14,
        "decontaminated": 13,
        "chosen": 9,
    }


def test_distributions():
    assert length_summary([]) == {"total": 0, "p50": 0, "p95": 0, "max": 0}
    assert length_summary([3, 1, 2]) == {"total": 6, "p50": 2, "p95": 3, "max": 3}
    assert length_histogram([0, 15, 16, 100]) == [
        {"from": 0, "n": 2},
        {"from": 16, "n": 1},
        {"from": 32, "n": 0},
        {"from": 64, "n": 1},
    ]
    assert length_histogram([]) == []
    found = score_histogram([0.0, 0.55, 1.0])
    assert [b["n"] for b in found] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert score_histogram([]) == []


def test_warnings_name_leaks_empty_splits_and_missed_targets():
    missed = {"coverage": Measure(0.5, 4, target=0.8), "evenness": Measure(None, 0, "why")}
    found = warnings_of(SFT, Tally(), missed, {"cross_split_episodes": 2, "checked_pairs": 7})
    assert found == [
        "cross split episodes: 2, expected 0",
        "the train split is empty",
        "the validation split is empty",
        "coverage is 50.0%, its target 80%",
    ]
    assert warnings_of(EVAL, Tally(), {}, {}) == [NO_TASK]


# The card of a version


def test_how_far_the_judge_is_to_be_trusted_is_on_the_card(session):
    asked = {"model": "judge", "interaction_id": new_id()}
    session.add(JudgeCall(**asked, key="a", rubric=PLAIN, score=0.9))
    session.add(JudgeCall(**asked, key="b", rubric=SWAPPED, score=0.1))
    add_example(session, "a", "b")
    session.flush()
    judged, _ = published(session, replace(RECIPE, judge_model="judge"))
    assert judged.card["judge"]["flip_rate"] == 1.0
    silent, _ = published(session)
    assert silent.card["judge"] is None


@pytest.fixture
def dataset(session) -> Dataset:
    for i in range(12):
        split = "validation" if i == 0 else "train"
        columns = {"task_type": f"type-{i % 3}", "split": split, "n_tokens": 10 * i}
        add_example(session, f"task {i}", HINTED, reviewed="accepted" if i < 6 else None, **columns)
    add_example(
        session, "x", "y", status="dropped", drop_reason="failed_outcome", task_type="never kept"
    )
    session.flush()
    return published(session)[0]


def test_a_card_says_what_was_measured_and_by_which_rules(dataset):
    card = dataset.card
    assert (card["candidates"], card["kept"]) == (13, 12)
    assert card["splits"] == {"train": 11, "validation": 1, "test": 0}
    assert card["dropped_by_reason"] == {"failed_outcome": 1}
    assert card["rule_versions"] == RULE_VERSIONS
    assert card["code_version"]
    assert card["content_hash"] == dataset.content_hash
    assert card["leak_proof"]["cross_split_repeats"] == 0
    measures = card["quality"]
    assert measures["coverage"]["value"] == 0.75
    assert measures["coverage"]["missing"] == ["never kept"]
    assert measures["human_verified"]["value"] == 0.5
    assert measures["style_agreement"]["value"] is None
    assert "human verified is 50.0%, its target 95%" in card["warnings"]


def test_card_and_page_stand_beside_the_rows(dataset):
    folder = fetch(dataset.artifact_uri)
    stored = json.loads((folder / "card.json").read_text())
    assert [file["n_rows"] for file in stored.pop("files")] == [11, 1]
    assert stored == {k: v for k, v in dataset.card.items() if k != "build"}
    assert (folder / "card.html").read_text() == render(stored)


# The page


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_needs_nothing_and_runs_nothing(dataset):
    page = _Page()
    page.feed(render(dataset.card))
    assert "script" not in page.tags
    assert page.addresses == []
    assert page.tags.count("svg") > 10


def test_names_are_text_whatever_they_are(dataset):
    hostile = "<script>alert(1)</script>"
    page = render({**dataset.card, "task_types": {hostile: 3}, "warnings": [hostile]})
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_every_plot_is_well_formed_svg(dataset):
    page = render(dataset.card)
    for piece in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + piece.split("</svg>")[0] + "</svg>")


def test_old_and_empty_cards_are_shown_too():
    assert "<h1>" in render({})
    assert "coder" in render({"role": "coder", "kept": 3, "splits": {"train": 3}})


def test_geometry():
    many = bars({f"t{i}": i for i in range(20)})
    assert len(many) == BARS_AT_MOST + 1
    assert (many[0].label, many[-1].label) == ("t19", "8 others")
    assert (many[-1].n, many[-1].length) == (28, 320.0)
    assert bars({}) == []
    parts = segments({"train": 8, "validation": 1, "test": 1})
    assert parts[-1].x + parts[-1].width == pytest.approx(560.0)
    assert segments({"train": 0}) == []
    tall, low = columns([("0", 4), ("1", 2)])
    assert tall.height == 2 * low.height
    assert columns([]) == []
    (figure,) = figures({"coverage": Measure(None, 0, "no types", 0.8).as_json()})
    assert (figure.verdict, figure.length) == ("not measured", 0.0)
