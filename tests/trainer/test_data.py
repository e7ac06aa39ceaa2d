import pytest
from tiny_base import make_rows

from foundation.errors import BadInput, NotFound
from trainer.base import load_tokenizer
from trainer.data import EMPTY_ANSWER, IGNORED, TOO_LONG, encode, require_labels


def test_only_the_answer_and_its_end_are_learned(tokenizer):
    rows = make_rows(3)
    encoded = encode(rows, tokenizer, 512)
    assert len(encoded) == 3
    for row, ids, labels in zip(rows, encoded.input_ids, encoded.labels, strict=True):
        learned = [label for label in labels if label != IGNORED]
        assert tokenizer.decode(learned) == row["completion"][0]["content"] + tokenizer.eos_token
        assert labels[-len(learned) :] == learned == ids[-len(learned) :]
        shown = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, return_dict=False
        )
        assert ids[: -len(learned)] == shown
    assert encoded.n_learned_tokens == sum(x != IGNORED for row in encoded.labels for x in row)


def test_a_row_at_the_limit_stays_and_one_over_it_is_left_out_and_counted(tokenizer):
    rows = make_rows(1)
    length = len(encode(rows, tokenizer, 512).input_ids[0])
    assert len(encode(rows, tokenizer, length)) == 1
    cut = encode(rows, tokenizer, length - 1)
    assert len(cut) == 0
    assert cut.dropped == {TOO_LONG: 1}


@pytest.mark.parametrize("answer", ["", "  \n", None])
def test_an_empty_answer_is_counted_and_not_learned(tokenizer, answer):
    row = make_rows(1)[0]
    row["completion"] = [{"role": "assistant", "content": answer}]
    encoded = encode([row], tokenizer, 512)
    assert len(encoded) == 0
    assert encoded.dropped == {EMPTY_ANSWER: 1}


def test_no_rows(tokenizer):
    assert len(encode([], tokenizer, 512)) == 0


def test_training_on_nothing_is_an_error():
    require_labels([[IGNORED, 5]], "rows")
    for labels in ([], [[IGNORED, 5], [IGNORED, IGNORED]], [[]]):
        with pytest.raises(BadInput, match="masked"):
            require_labels(labels, "rows")


def test_a_template_that_rewrites_the_prompt_is_refused(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    with pytest.raises(BadInput, match="chat template"):
        encode(make_rows(1), tokenizer, 512)


def test_a_missing_base_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"config\.json"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(NotFound, match="nowhere"):
        load_tokenizer("/nowhere/model")


def test_a_base_of_the_hub_that_cannot_be_reached_is_named(monkeypatch):
    with pytest.raises(NotFound, match="HF_HUB_OFFLINE"):
        load_tokenizer("nobody/no-such-model")


def test_a_tokenizer_without_chat_template_is_refused(tiny_base, tmp_path):
    tokenizer = load_tokenizer(str(tiny_base))
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((tiny_base / "config.json").read_text())
    with pytest.raises(BadInput, match="chat template"):
        load_tokenizer(str(tmp_path))
