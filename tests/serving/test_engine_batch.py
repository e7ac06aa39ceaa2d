"""The batch under way: who joins, leaves, waits, and what is shared changes nobody's answer."""

import random
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import serving.engine.batch
from foundation.errors import BadInput, BadSetting, NotFound
from serving.engine import Engine
from serving.rows import Limits, Row

SYSTEM = {"role": "system", "content": "You add numbers, and you are brief about it."}
NAMES = (None, "one", "two")


def random_adapter(base, folder, seed=0, **config):
    """An adapter of random weights, so that it changes what is said."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 32, "target_modules": "all-linear", **config}
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(init_lora_weights=False, **settings)
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(served_base, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {name: random_adapter(served_base, root / name, i) for i, name in enumerate(NAMES[1:])}


@pytest.fixture
def engine(served_base, adapters):
    return loaded(served_base, adapters)


def loaded(base, adapters, **limits):
    engine = Engine.load(base, threads=1, limits=Limits(**limits))
    for name, folder in adapters.items():
        engine.add_adapter(name, folder)
    return engine


def some_rows(engine, n):
    """Rows of all adapters, temperatures, lengths; some share a prompt, many its beginning."""
    rng = random.Random(5)
    rows = []
    for i in range(n):
        chat = [{"role": "user", "content": f"add {rng.randrange(6)} and {'1' * rng.randrange(9)}"}]
        row = Row(
            engine.encode([SYSTEM, *chat] if i % 3 else chat),
            NAMES[i % 3],
            rng.randrange(1, 40),
            rng.choice((0.0, 0.7, 1.5)),
            rng.choice((1.0, 0.8)),
            rng.choice((0, 5)),
            seed=i,
        )
        rows.append(row)
    return rows


def finish(engine, answers):
    while not all(answer.finish_reason for answer in answers):
        assert engine.step() or all(answer.finish_reason for answer in answers)
    return [answer.generation for answer in answers]


def one_by_one(engine, rows):
    return [finish(engine, [engine.start(row)])[0] for row in rows]


@pytest.fixture(scope="module")
def crowd(served_base, adapters):
    """Rows, some of them long, and what each of them says alone."""
    engine = loaded(served_base, adapters, prefix_mb=0)
    rows = some_rows(engine, 20)
    rows += [Row(row.prompt, row.adapter, 60, 1.2, seed=i) for i, row in enumerate(rows)]
    return rows, one_by_one(engine, rows)


def test_rows_that_join_and_leave_at_any_time_say_what_they_say_alone(engine, crowd):
    rows, alone = crowd
    assert len({answer.text for answer in alone}) > 20
    rng, answers = random.Random(1), []
    for row in rows:
        answers.append(engine.start(row))
        for _ in range(rng.choice((0, 0, 1, 4))):
            engine.step()
    assert finish(engine, answers) == alone
    done = engine.counters()
    assert done["largest_batch"] > 4
    assert done["tokens"] == sum(answer.output_tokens for answer in alone)
    assert done["steps"] < done["tokens"] / 2, "they were answered together"
    assert (done["running"], done["waiting"]) == (0, 0)


@pytest.mark.parametrize(
    "limits",
    [{"rows": 3}, {"prefix_mb": 1}, {"kv_mb": 1}],
    ids=["rows", "prefix", "kv"],
)
def test_limits_change_no_answer(crowd, served_base, adapters, limits):
    rows, alone = crowd
    engine = loaded(served_base, adapters, **limits)
    assert finish(engine, [engine.start(row) for row in rows]) == alone
    done = engine.counters()
    assert done["largest_batch"] == 3 or "rows" not in limits
    assert done["prefix_bytes"] <= 2**20 or "prefix_mb" not in limits
    if "kv_mb" in limits:
        assert done["preempted"] > 0
        assert done["kv_bytes"] <= 2**20


def test_a_prompt_read_in_parts_is_the_same_prompt(engine, monkeypatch):
    rows = some_rows(engine, 9)
    whole = finish(engine, [engine.start(row) for row in rows])
    monkeypatch.setattr(serving.engine.batch, "PREFILL_TOKENS", 7)
    engine._batch.clear()
    assert finish(engine, [engine.start(row) for row in rows]) == whole


def test_a_shared_beginning_is_read_once_and_only_of_one_adapter(engine, adapters):
    def ask(adapter, question):
        prompt = engine.encode([SYSTEM, {"role": "user", "content": question}])
        return finish(engine, [engine.start(Row(prompt, adapter, 12, 0.0))])[0]

    fresh = {name: ask(name, "add 1 and 2") for name in NAMES}
    assert {answer.cached_tokens for answer in fresh.values()} == {0}
    for name in NAMES:
        again, other = ask(name, "add 1 and 2"), ask(name, "multiply 7 and 3")
        assert again == fresh[name]
        assert again.cached_tokens > other.cached_tokens >= 16
        assert again.cached_tokens < again.input_tokens
    engine.add_adapter("one", adapters["two"])
    now = ask("one", "add 1 and 2")
    assert now.cached_tokens == 0, "the old weights' keys are not the new ones'"
    assert now == fresh["two"]


def test_equal_prompts_that_join_together_are_read_once(engine):
    prompt = engine.encode([SYSTEM])
    rows = [Row(prompt, "one", 12, 1.5, seed=seed) for seed in range(6)]
    together = finish(engine, [engine.start(row) for row in rows])
    assert engine.counters()["cached_tokens"] == 5 * len(prompt)
    engine._batch.clear()
    assert one_by_one(engine, rows) == together
    assert len({answer.text for answer in together}) > 1


def test_kept_prompts_stay_within_their_bytes(served_base):
    engine = Engine.load(served_base, threads=1, limits=Limits(prefix_mb=1))
    kept = engine._batch.prefixes
    kept.max_bytes = 20_000
    asked = [engine.encode([SYSTEM, {"role": "user", "content": f"{i} " * 9}]) for i in range(40)]
    for prompt in asked:
        finish(engine, [engine.start(Row(prompt, max_new_tokens=2))])
        assert 0 < kept.n_bytes <= 20_000
    assert kept.n_bytes == sum(block.n_bytes for block in kept._blocks.values())
    again = finish(engine, [engine.start(Row(asked[0], max_new_tokens=2))])[0]
    assert again.cached_tokens >= 16, "the beginning that all share was never the oldest"


def test_long_traffic_of_short_rows_takes_no_more_memory(engine):
    prompt = engine.encode([{"role": "user", "content": "add 1 and 2"}])
    answers = []
    for i in range(120):
        answers.append(engine.start(Row(prompt, NAMES[i % 3], 10, seed=i)))
        for _ in range(4):
            engine.step()
    finish(engine, answers)
    assert engine.counters()["steps"] > 300
    per_token = engine._batch.window._cell_bytes
    assert engine.counters()["kv_bytes"] <= 8 * 128 * per_token


def test_a_row_given_up_makes_room_and_disturbs_nobody(engine):
    rows = some_rows(engine, 6)
    alone = one_by_one(engine, rows)
    answers = [engine.start(row) for row in rows]
    engine.step()
    gone = [answer for answer in answers if not answer.finish_reason][::2]
    for answer in gone:
        engine.leave(answer)
    kept = [(a, b) for a, b in zip(answers, alone, strict=True) if a not in gone]
    assert finish(engine, [answer for answer, _ in kept]) == [whole for _, whole in kept]
    assert engine.counters()["running"] == 0


def test_a_row_under_way_keeps_the_weights_it_began_with(engine, adapters):
    row = Row(engine.encode([SYSTEM]), "one", 30, 0.0)
    alone = one_by_one(engine, [row])
    answer = engine.start(row)
    engine.step()
    engine.remove_adapter("one")
    engine.step()
    engine.add_adapter("one", adapters["two"])
    assert finish(engine, [answer]) == alone


# Adapters


def test_the_adapter_not_asked_longest_goes_and_comes_back(served_base, tmp_path):
    folders = {
        str(i): random_adapter(served_base, tmp_path / str(i), i, r=256, lora_alpha=16)
        for i in range(3)
    }
    rich, poor = (loaded(served_base, folders, adapters_mb=mb) for mb in (64, 2))
    prompt = rich.encode([SYSTEM])
    for name in ("0", "1", "2", "0", "0", "2", "1"):
        row = Row(prompt, name, 12, 0.0)
        assert one_by_one(poor, [row]) == one_by_one(rich, [row])
        assert 0 < poor.counters()["adapter_bytes"] <= 2 * 2**20
    assert poor.counters()["adapters_evicted"] == 6, (
        "the second of two 0s, and the 2 after, found theirs"
    )
    assert rich.counters()["adapters_evicted"] == 0
    assert poor.adapters == ("0", "1", "2"), "all of them can be asked all the time"
    mixed = [Row(prompt, name, 12, 0.0) for name in folders]
    together = finish(poor, [poor.start(row) for row in mixed])
    assert together == one_by_one(rich, mixed), "those that are asked at once are all held"


def test_an_adapter_whose_folder_is_gone_fails_its_own_rows_only(served_base, tmp_path):
    folders = {
        str(i): random_adapter(served_base, tmp_path / str(i), i, r=256, lora_alpha=16)
        for i in range(3)
    }
    engine = loaded(served_base, folders, adapters_mb=2)
    prompt = engine.encode([SYSTEM])
    (row,) = rows = [Row(prompt, "2", 12, 0.0)]
    alone = one_by_one(engine, rows)
    shutil.rmtree(folders["0"])  # the one let go
    answer = engine.start(row)
    with pytest.raises(NotFound, match="adapter '0'"):
        engine.start(Row(prompt, "0"))
    assert finish(engine, [answer]) == alone


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"target_modules": ["q_proj", "down_proj"]},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.0.mlp.up_proj": 90}},
    ],
    ids=["rslora", "some-layers", "patterns"],
)
def test_an_adapter_adds_what_peft_adds(engine, served_base, adapters, tmp_path, config):
    folder = random_adapter(served_base, tmp_path / "odd", 7, **config)
    engine.add_adapter("odd", folder)
    texts = ["the sum is 7", "add 3 and 4 to this"]
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(served_base), str(folder)
    ).eval()
    for text, scored in zip(texts, engine.score(texts, adapter="odd"), strict=True):
        ids = torch.tensor([engine.tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            logprobs = theirs(input_ids=ids).logits.log_softmax(-1)[0, :-1]
        expected = logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()
        assert scored.logprobs[1:] == pytest.approx(expected, abs=1e-4)
    prompt = engine.encode([SYSTEM])
    rows = [Row(prompt, name, 12, 0.0) for name in ("odd", "one", None, "odd", "two")]
    assert finish(engine, [engine.start(row) for row in rows]) == one_by_one(engine, rows)


def test_adapters_that_are_more_than_plain_lora_are_refused(engine, served_base, tmp_path):
    before = one_by_one(engine, [Row(engine.encode([SYSTEM]), None, 12, 0.0)])
    dora = random_adapter(served_base, tmp_path / "dora", use_dora=True)
    with pytest.raises(BadInput, match="use_dora.*plain LoRA"):
        engine.add_adapter("dora", dora)
    saved = random_adapter(served_base, tmp_path / "saved", modules_to_save=["norm"])
    with pytest.raises(BadInput, match="modules_to_save"):
        engine.add_adapter("saved", saved)
    broken = random_adapter(served_base, tmp_path / "broken")
    weights = load_file(broken / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, broken / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="finite"):
        engine.add_adapter("broken", broken)
    assert engine.adapters == ("one", "two")
    assert one_by_one(engine, [Row(engine.encode([SYSTEM]), None, 12, 0.0)]) == before


# Sampling and settings


def test_narrow_sampling_is_greedy_and_a_wide_one_is_not(engine):
    prompt = engine.encode([SYSTEM])

    def texts(**options):
        rows = [Row(prompt, "one", 12, 1.5, seed=seed, **options) for seed in range(8)]
        return {answer.text for answer in finish(engine, [engine.start(row) for row in rows])}

    greedy = one_by_one(engine, [Row(prompt, "one", 12, 0.0)])[0].text
    assert texts(top_k=1) == texts(min_p=1.0) == texts(top_p=1e-6) == {greedy}
    assert len(texts()) > 4


@pytest.mark.parametrize(
    ("options", "named"),
    [({"top_k": -1}, "top_k"), ({"min_p": 2}, "min_p"), ({"prompt": []}, "prompt")],
    ids=["top_k", "min_p", "prompt"],
)
def test_rows_out_of_range_are_named(options, named):
    with pytest.raises(BadInput, match=named):
        Row(**{"prompt": [1], **options})


def test_a_device_that_is_not_there_is_named(served_base):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(BadSetting, match="FLYWHEEL_ENGINE_DEVICE"):
        Engine.load(served_base, device="cuda")
    assert Engine.load(served_base, device="auto").device == "cpu"


def test_bfloat16_serves_adapters_too(served_base, adapters):
    engine = Engine.load(served_base, threads=1, dtype="bfloat16")
    engine.add_adapter("one", adapters["one"])
    rows = [Row(engine.encode([SYSTEM]), name, 8, 0.0) for name in (None, "one")]
    base, adapted = finish(engine, [engine.start(row) for row in rows])
    assert base.text != adapted.text
