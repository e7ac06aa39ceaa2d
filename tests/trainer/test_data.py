import pytest
from tiny_base import make_rows

from foundation.errors import BadInput, NotFound
from trainer.base import load_tokenizer
from trainer.data import EMPTY_ANSWER, IGNORED, TOO_LONG, TOOL_CALLS, encode, require_labels
from trainer.recipe import TRUNCATE


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


def long_row():
    row = make_rows(1)[0]
    system, asked = row["prompt"]
    earlier = [
        {"role": role, "content": f"{text} {n}"}
        for n in range(4)
        for role, text in (("user", "add 1 and 2"), ("assistant", "the sum is 3"))
    ]
    return {**row, "prompt": [system, *earlier, asked]}


def learned_of(encoded, row=0):
    return [label for label in encoded.labels[row] if label != IGNORED]


def test_earlier_answers_of_a_conversation_are_shown_and_not_learned(tokenizer):
    row = long_row()
    encoded = encode([row], tokenizer, 1000)
    said = row["completion"][0]["content"] + tokenizer.eos_token
    assert tokenizer.decode(learned_of(encoded)) == said
    shown = tokenizer.decode(encoded.input_ids[0])
    assert shown.count("the sum is 3 ") == 4


def test_a_prompt_that_is_too_long_loses_its_oldest_messages(tokenizer):
    row = long_row()
    whole = encode([row], tokenizer, 1000)
    shorter = encode([row], tokenizer, len(whole.input_ids[0]) - 1, TRUNCATE)
    assert shorter.n_shortened == 1
    assert learned_of(shorter) == learned_of(whole)
    text = tokenizer.decode(shorter.input_ids[0])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>assistant")
    assert text.count("add 1 and 2") == 3, "one message went, whole"
    assert text.count("<|im_start|>") == text.count("<|im_end|>")


def test_a_last_message_that_is_too_long_loses_its_own_beginning(tokenizer):
    row = make_rows(1)[0]
    row["prompt"][1]["content"] = "first words " + "and then " * 40 + "last words"
    whole = encode([row], tokenizer, 1000)
    for limit in range(len(learned_of(whole)) + 1, len(whole.input_ids[0])):
        shorter = encode([row], tokenizer, limit, TRUNCATE)
        ids, n_learned = shorter.input_ids[0], len(learned_of(shorter))
        assert len(ids) == len(shorter.labels[0]) == limit
        assert learned_of(shorter) == learned_of(whole)
        room = limit - n_learned
        kept = whole.input_ids[0][-n_learned - room // 2 : -n_learned]
        assert ids[-n_learned - len(kept) : -n_learned] == kept, "the end of the prompt"
    system = tokenizer.apply_chat_template(row["prompt"][:1], return_dict=False)
    assert ids[: len(system)] == system


def test_an_answer_is_never_cut(tokenizer):
    row = make_rows(1)[0]
    n_learned = len(learned_of(encode([row], tokenizer, 512)))
    cut = encode([row], tokenizer, n_learned, TRUNCATE)
    assert len(cut) == 0
    assert cut.dropped == {TOO_LONG: 1}


def test_a_template_without_generation_markers_will_do(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    marked = encode([long_row()], tokenizer, 1000)
    plain = tokenizer.chat_template.replace("{% generation %}", "")
    tokenizer.chat_template = plain.replace("{% endgeneration %}", "")
    unmarked = encode([long_row()], tokenizer, 1000)
    assert unmarked.input_ids == marked.input_ids
    assert unmarked.labels == marked.labels


@pytest.mark.parametrize("answer", ["", "  \n", None])
def test_an_empty_answer_is_counted_and_not_learned(tokenizer, answer):
    row = make_rows(1)[0]
    row["completion"] = [{"role": "assistant", "content": answer}]
    encoded = encode([row], tokenizer, 512)
    assert len(encoded) == 0
    assert encoded.dropped == {EMPTY_ANSWER: 1}


WRITES_CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REFUSES_CALLS = "{% if messages[-1].tool_calls %}{{ raise_exception('no tools') }}{% endif %}"


def tool_row(content=None, arguments='{"path": "a.py", "n": 1}'):
    function = {"name": "read", "arguments": arguments}
    call = {"id": "1", "type": "function", "function": function}
    said = {"role": "assistant", "content": content, "tool_calls": [call]}
    earlier = [said, {"role": "tool", "content": "text", "tool_call_id": "1"}]
    row = make_rows(1)[0]
    return {**row, "prompt": [*row["prompt"], *earlier], "completion": [said]}


@pytest.fixture
def tool_tokenizer(tiny_base):
    tokenizer = load_tokenizer(str(tiny_base))
    tokenizer.chat_template = WRITES_CALLS
    return tokenizer


@pytest.mark.parametrize("content", [None, "", "Let me look."])
def test_tool_calls_are_learned_as_the_template_writes_them(tool_tokenizer, content):
    encoded = encode([tool_row(content)], tool_tokenizer, 1024)
    assert not encoded.dropped
    learned = tool_tokenizer.decode([x for x in encoded.labels[0] if x != IGNORED])
    call = '<tool_call>{"name": "read", "arguments": {"path": "a.py", "n": 1}}</tool_call>'
    assert learned == f"{content or ''}{call}<|im_end|>"
    shown = tool_tokenizer.decode(encoded.input_ids[0])
    assert shown.count(call) == 2, "in the prompt they are written alike"


def test_odd_arguments_are_written_as_they_are(tool_tokenizer):
    for arguments, written in (("", "{}"), ('{"a', '"{\\"a"'), ({"a": 1}, '{"a": 1}')):
        encoded = encode([tool_row(arguments=arguments)], tool_tokenizer, 1024)
        learned = tool_tokenizer.decode([x for x in encoded.labels[0] if x != IGNORED])
        assert f'"arguments": {written}' in learned


@pytest.mark.parametrize("content", [None, "Let me look."])
@pytest.mark.parametrize("template", [None, REFUSES_CALLS])
def test_what_the_template_does_not_write_is_left_out_and_counted(tiny_base, template, content):
    tokenizer = load_tokenizer(str(tiny_base))
    if template is not None:
        tokenizer.chat_template = template + tokenizer.chat_template
    encoded = encode([tool_row(content), *make_rows(2)], tokenizer, 512)
    assert len(encoded) == 2
    assert encoded.dropped == {TOOL_CALLS: 1}


def test_no_rows(tokenizer):
    assert len(encode([], tokenizer, 512)) == 0


def test_training_on_nothing_is_an_error():
    require_labels([[IGNORED, 5]], "rows")
    for labels in ([], [[IGNORED, 5], [IGNORED, IGNORED]], [[]]):
        with pytest.raises(BadInput, match="masked"):
            require_labels(labels, "rows")
    with pytest.raises(BadInput, match="7 left out: too long"):
        require_labels([], "rows", {"too long": 7})


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
