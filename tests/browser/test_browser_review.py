"""What reviewers do all day, by keyboard, in a real browser; and how one call is spoken of."""

import json

import pytest
from playwright.sync_api import Page, expect

SETTLED_MS = 350
"""A press that comes sooner was meant for the card before, and is not taken."""


def begin(page: Page) -> None:
    """Take the first card."""
    page.get_by_role("button", name="Start reviewing").click()
    page.locator("#card[data-item]").wait_for()


def shown(page: Page) -> str:
    """Return the item on the screen."""
    return page.locator("#card").get_attribute("data-item") or ""


def press(page: Page, *keys: str) -> None:
    """Press keys as a reviewer does who has looked, and wait for the next card."""
    before = shown(page)
    page.wait_for_timeout(SETTLED_MS)
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function(
        "(before) => document.getElementById('card').dataset.item !== before", arg=before
    )


def said(wheel, reviewer: str) -> list[tuple[str, str]]:
    """Return item and action of what a reviewer said, in order."""
    return [
        (str(item), action)
        for item, action in wheel.sql(
            "SELECT item_id, action FROM review_label WHERE reviewer = %s AND undone_at IS NULL"
            " ORDER BY created_at, id",
            reviewer,
        )
    ]


def test_twenty_examples_are_labelled_by_keyboard(wheel, sign_in) -> None:
    before = said(wheel, "ines")
    page = sign_in("ines").page("/review?kind=example&role=coder")
    begin(page)
    items: list[str] = []
    for number in range(20):
        items.append(shown(page))
        press(page, *(("a",), ("4",), ("r", "1"), ("s",))[number % 4])
    new = said(wheel, "ines")[len(before) :]
    assert [item for item, _ in new] == items
    assert [action for _, action in new] == ["accept", "rate", "reject", "skip"] * 5
    assert len(set(items)) == 20
    reasons = wheel.sql(
        "SELECT DISTINCT reason FROM review_label WHERE reviewer = 'ines' AND action = 'reject'"
        " AND item_id::text = ANY(%s)", items
    )  # fmt: skip
    assert all(reason for (reason,) in reasons)
    entries = wheel.sql("SELECT count(*) FROM audit_entry WHERE actor = 'ines'"
                        " AND action IN ('review.accept', 'review.rate', 'review.reject',"
                        " 'review.skip') AND subject_id = ANY(%s)", items)  # fmt: skip
    assert entries == [(20,)]


def test_the_last_word_is_taken_back(wheel, sign_in) -> None:
    page = sign_in("ines").page("/review?kind=example&role=coder")
    begin(page)
    item = shown(page)
    press(page, "a")
    assert said(wheel, "ines")[-1] == (item, "accept")
    press(page, "u")
    assert shown(page) == item
    assert (item, "accept") not in said(wheel, "ines")


@pytest.mark.parametrize("kind", ["pair", "sample"])
def test_two_answers_are_compared_blind(kind: str, wheel, sign_in) -> None:
    page = sign_in("olga").page(f"/review?kind={kind}&role=coder")
    begin(page)
    for key in ("1", "2", "0"):
        item = shown(page)
        text = page.locator("main").inner_text()
        assert not [name for name in ("coder-v1", "coder-v3", "qwen3", "gpt-5") if name in text]
        press(page, key)
        assert said(wheel, "olga")[-1] == (item, "compare")


def test_an_edit_is_kept_while_it_is_typed_and_saved_by_keys(wheel, sign_in) -> None:
    page = sign_in("olga").page("/review?kind=example&role=coder")
    begin(page)
    item = shown(page)
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("e")
    field = page.locator("#answer")
    expect(field).to_be_focused()
    page.keyboard.press("Control+End")
    page.keyboard.type("\n# Checked by hand.")
    expect(page.locator("#saved")).to_contain_text("Draft kept")
    page.reload()
    assert field.input_value().endswith("# Checked by hand.")
    page.wait_for_timeout(SETTLED_MS)
    field.focus()
    page.keyboard.press("Control+Enter")
    page.wait_for_function("(was) => document.getElementById('card').dataset.item !== was",
                           arg=item)  # fmt: skip
    [(action, value)] = wheel.sql(
        "SELECT action, value FROM review_label WHERE item_id = %s AND reviewer = 'olga'", item
    )
    assert action == "edit"
    assert "+# Checked by hand." in value["diff"]
    assert wheel.sql("SELECT count(*) FROM review_draft WHERE item_id = %s", item) == [(0,)]


def test_a_second_reviewer_who_comes_too_late_is_told_and_changes_nothing(wheel, sign_in) -> None:
    [(item,)] = wheel.sql(
        "SELECT id::text FROM review_item WHERE kind = 'example' AND role = 'coder'"
        " AND status = 'open' AND n_wanted = 1 AND leased_by IS NULL AND assigned_to IS NULL"
        " AND NOT EXISTS (SELECT FROM review_label WHERE item_id = review_item.id)"
        " ORDER BY priority, id LIMIT 1"
    )
    first, second = sign_in("ines"), sign_in("tom")
    second.expected = ("409",)
    one, other = first.page(f"/review/items/{item}"), second.page(f"/review/items/{item}")
    press(one, "a")
    other.wait_for_timeout(SETTLED_MS)
    other.keyboard.press("r")
    other.keyboard.press("1")
    expect(other.locator("#card #notice")).to_contain_text("was not taken")
    assert shown(other) != item
    assert wheel.sql(
        "SELECT reviewer, action FROM review_label WHERE item_id = %s AND undone_at IS NULL", item
    ) == [("ines", "accept")]


def test_a_call_is_spoken_of_where_it_is_read(wheel, sign_in) -> None:
    call = wheel.ids["interaction"]
    page = sign_in("ines").page(f"/interactions/{call}")
    page.get_by_role("button", name="Rate 4 of 5").click()
    page.wait_for_load_state("load")
    page.get_by_text("Comment or category").click()
    page.get_by_label("In your words").fill("Mind the order of <b>records</b>.")
    page.get_by_role("button", name="Say it").click()
    expect(page.locator("#feedback")).to_contain_text("Mind the order of <b>records</b>.")
    kept = wheel.sql(
        "SELECT kind, value, text FROM feedback WHERE interaction_id = %s AND actor = 'ines'"
        " AND source = 'human' AND created_at > now() - interval '5 minutes' ORDER BY kind",
        call,
    )
    assert ("rating", 4.0, None) in kept
    assert ("comment", None, "Mind the order of <b>records</b>.") in kept


def test_a_call_is_added_to_the_queue(wheel, sign_in) -> None:
    [(call, example)] = wheel.sql(
        "SELECT interaction_id::text, example.id FROM example WHERE role = 'reviewer'"
        " AND NOT EXISTS (SELECT FROM review_item WHERE subject_id = example.id) LIMIT 1"
    )
    page = sign_in("ines").page(f"/interactions/{call}")
    page.get_by_role("button", name="Add to review").click()
    page.wait_for_load_state("load")
    assert wheel.sql(
        "SELECT reason, status FROM review_item WHERE subject_id = %s", example
    ) == [("filter", "open")]  # fmt: skip


def test_the_curve_of_a_training_grows_while_it_is_looked_at(wheel, sign_in) -> None:
    run = wheel.ids["run/live"]
    page = sign_in("vera").page(f"/trainings/{wheel.ids['training/live']}")
    points = "() => document.querySelector('main .chart .line').getAttribute('points')" \
             " ?? document.querySelector('main .chart .line').getAttribute('d')"  # fmt: skip
    before = page.evaluate(points)
    measured = {"loss": 0.31, "lr": 1e-4, "tokens_per_s": 1822.0}
    for step in (150, 155, 160):
        wheel.sql("INSERT INTO run_measure (run_id, done, measures, attempt, measured_at)"
                  " VALUES (%s, %s, %s, 1, now())", run, step, json.dumps(measured))  # fmt: skip
        told = {"done": step, "total": 240, "unit": "steps", **measured}
        wheel.sql("UPDATE run SET progress = %s WHERE id = %s", json.dumps(told), run)
    expect(page.locator("main")).to_contain_text("160 of 240 steps")
    page.wait_for_function(f"(before) => ({points})() !== before", arg=before)
