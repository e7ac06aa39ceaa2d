import pytest

from foundation.errors import BadInput
from trainer.data import EMPTY_ANSWER, TOO_LONG, encode
from trainer.pairs import (
    CONTRADICTED,
    REPEATED,
    SAME,
    Labelled,
    encode_pairs,
    labelled,
    require_both,
    require_pairs,
)


def pair(chosen="it is five", rejected="it is six", prompt="add 2 and 3"):
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def test_both_answers_are_the_tokens_that_imitation_would_learn(tokenizer):
    row = pair()
    pairs = encode_pairs([row], tokenizer, 200)
    for side, ids in (("chosen", pairs.chosen_ids[0]), ("rejected", pairs.rejected_ids[0])):
        alone = encode([{"prompt": row["prompt"], "completion": row[side]}], tokenizer, 200)
        assert pairs.prompt_ids[0] + ids == alone.input_ids[0]
        assert ids == [label for label in alone.labels[0] if label != -100]
        assert ids[-1] == tokenizer.eos_token_id


def test_the_prompt_is_the_one_of_inference(tokenizer):
    row = pair()
    shown = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert encode_pairs([row], tokenizer, 200).prompt_ids == [shown]


def test_what_teaches_nothing_is_left_out_and_counted(tokenizer):
    rows = [pair(), pair(rejected="it is five"), pair(chosen=" "), pair(rejected="")]
    pairs = encode_pairs(rows, tokenizer, 200)
    assert len(pairs) == 1
    assert pairs.dropped == {SAME: 1, EMPTY_ANSWER: 2}


def test_a_long_prompt_loses_its_beginning_and_an_answer_nothing(tokenizer):
    row = pair(prompt="start " + "and then " * 40 + "add 2 and 3")
    whole = encode_pairs([row], tokenizer, 1000)
    n = len(whole.chosen_ids[0])
    assert encode_pairs([row], tokenizer, 60).dropped == {TOO_LONG: 1}
    short = encode_pairs([row], tokenizer, 60, "truncate")
    assert short.n_shortened == 1
    assert short.chosen_ids == whole.chosen_ids
    assert short.rejected_ids == whole.rejected_ids
    assert len(short.prompt_ids[0]) + n <= 60
    assert short.prompt_ids[0][-10:] == whole.prompt_ids[0][-10:]


def test_an_answer_that_leaves_no_room_is_never_cut(tokenizer):
    pairs = encode_pairs([pair(chosen="five " * 50)], tokenizer, 60, "truncate")
    assert len(pairs) == 0
    assert pairs.dropped == {TOO_LONG: 1}


def test_a_row_of_another_kind_is_refused(tokenizer):
    with pytest.raises(BadInput, match="rejected"):
        encode_pairs([{"prompt": [], "completion": []}], tokenizer, 200)


def test_an_answer_is_labelled_once_and_never_both_ways(tokenizer):
    rows = [
        pair("good", "bad"),
        pair("good", "worse"),
        pair("middling", "bad"),
        pair("other", "middling"),
    ]
    found = labelled(encode_pairs(rows, tokenizer, 200))
    said = [
        (tokenizer.decode(ids, skip_special_tokens=True).strip(), label)
        for ids, label in zip(found.completion_ids, found.label, strict=True)
    ]
    assert said == [("good", True), ("bad", False), ("worse", False), ("other", True)]
    assert found.dropped == {REPEATED: 2, CONTRADICTED: 1}


def test_labels_of_one_kind_are_refused():
    with pytest.raises(BadInput, match="2 good and 0 bad"):
        require_both(Labelled([[1], [1]], [[2], [3]], [True, True]))


def test_the_turned_round_pair_leaves_kto_nothing(tokenizer):
    found = labelled(encode_pairs([pair("a", "b"), pair("b", "a")], tokenizer, 200))
    with pytest.raises(BadInput, match="0 good and 0 bad"):
        require_both(found)


def test_no_pair_is_refused_with_what_was_dropped(tokenizer):
    dropped = encode_pairs([pair(rejected="it is five")], tokenizer, 200).dropped
    with pytest.raises(BadInput, match="are the same"):
        require_pairs(0, dropped)
