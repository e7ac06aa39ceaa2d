"""A few new rows in a run of so many steps come again, and the old rows beside them do not."""

from collections import Counter
from dataclasses import replace

from fitting import lesson
from tiny_base import QUICK, make_rows

from trainer.continual.replay import new_rows_of, with_old_rows
from trainer.data import Encoded, encode
from trainer.lesson import Earlier
from trainer.recipe.continual import Continual

OLD = make_rows(64, "old")
MICRO = replace(QUICK, batch_size=8, max_steps=8, continual=Continual("replay", replay_share=0.875))


def mixed(recipe, base, folder, n_new: int) -> tuple[Encoded, Counter[str]]:
    """The rows that a run learns, and how often each answer is among them."""
    before = Earlier("v1", folder, [{**row, "example_id": str(i)} for i, row in enumerate(OLD)])
    ours = lesson(base, folder, recipe, make_rows(n_new, "new"), earlier=before)
    learned = encode(ours.rows, ours.tokenizer, recipe.max_length)
    rows, _ = with_old_rows(ours, learned, Encoded())
    answers = [
        ours.tokenizer.decode([t for t in labels if t >= 0], skip_special_tokens=True).strip()
        for labels in rows.labels
    ]
    return rows, Counter(answers)


def test_one_new_row_is_in_every_batch_and_the_old_ones_differ(tiny_base, tmp_path):
    assert new_rows_of(MICRO) == 8
    rows, answers = mixed(MICRO, tiny_base, tmp_path, 1)
    assert answers == {"new": 8, "old": 56}
    old = {tuple(i) for i, labels in zip(rows.input_ids, rows.labels, strict=True)} - {
        tuple(rows.input_ids[0])
    }
    assert len(old) == 56
    assert len(rows.labels) == len(rows.input_ids) == 64


def test_many_new_rows_are_learned_once(tiny_base, tmp_path):
    assert mixed(MICRO, tiny_base, tmp_path, 9)[1]["new"] == 9
    assert mixed(MICRO, tiny_base, tmp_path, 5)[1]["new"] == 10  # each as often as the others
    assert mixed(replace(MICRO, max_steps=0), tiny_base, tmp_path, 3)[1]["new"] == 3
