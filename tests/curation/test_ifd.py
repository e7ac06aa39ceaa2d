"""How much a prompt helps a tiny model that this test builds and teaches."""

import subprocess
import sys
from pathlib import Path

import pytest
from attempts import attempt
from tiny_base import build_tiny_base, make_rows

from curation.recipe import CurationRecipe
from curation.score import ifd
from curation.score.assess import assess, load_basis
from curation.tables import Example
from foundation.errors import NotFound
from foundation.ids import new_id


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A tiny base that has learnt to answer the sum that it was asked for."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = build_tiny_base(tmp_path_factory.mktemp("ifd") / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = [f"{asked(row)}\n{row['completion'][0]['content']}" for row in make_rows(64)]
    batch = [torch.tensor([tokenizer(t, add_special_tokens=False)["input_ids"]]) for t in texts]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(6):
        for ids in batch:
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.set_num_threads(threads)
    model.save_pretrained(folder)
    yield str(folder)
    ifd._load.cache_clear()


def asked(row):
    return row["prompt"][1]["content"]


def asking(prompt, answer):
    return attempt(answer, prompt_text=prompt, interaction_id=new_id())


def test_an_answer_to_its_prompt_is_easier_than_one_to_another(taught):
    rows = make_rows(64)
    fitting = [asking(asked(row), row["completion"][0]["content"]) for row in rows[9:40:4]]
    alien = [asking("the sum is 3 3 3 3 the sum the sum", one.answer) for one in fitting]
    values = ifd.measure(taught, [*fitting, *alien])
    mean_fitting = sum(values[one.interaction_id].value for one in fitting) / len(fitting)
    mean_alien = sum(values[one.interaction_id].value for one in alien) / len(alien)
    assert 0 < mean_fitting < mean_alien


def test_it_is_the_ratio_of_the_losses(taught):
    import torch

    one = asking("add 1 and 2", "the sum is 3")
    loaded = ifd._load(taught)
    given = loaded.token_ids("add 1 and 2\n")
    answer = loaded.token_ids("the sum is 3")
    with torch.inference_mode():
        labels = torch.tensor([[-100] * (len(given) + 1) + answer[1:]])
        conditioned = loaded.model(torch.tensor([given + answer]), labels=labels).loss
        alone = loaded.model(
            torch.tensor([answer]), labels=torch.tensor([[-100, *answer[1:]]])
        ).loss
    found = ifd.measure(taught, [one])[one.interaction_id].value
    assert found == pytest.approx(float(conditioned / alone), rel=1e-4)


def test_texts_longer_than_the_model_are_cut(taught):
    one = asking("add 1 and 2 " * 300, "the sum is 3 " * 300)
    assert ifd._load(taught).max_tokens == 64
    assert ifd.measure(taught, [one])[one.interaction_id].value > 0


def test_without_prompt_or_answer_there_is_none(taught):
    assert ifd.measure(taught, [asking("", "x y"), asking("x y", " "), asking("x y", "3")]) == {}
    assert ifd.measure(taught, [attempt("the sum is 3")]) == {}, "nobody to keep it for"


def test_what_was_measured_is_kept_with_the_example(taught, session, monkeypatch):
    recipe, one = CurationRecipe(ifd_model=taught), asking("add 1 and 2", "the sum is 3")
    basis = load_basis(session, "coder", recipe, [one])
    found = assess(one, [], recipe, basis)
    assert found.parts["ifd"]["value"] == pytest.approx(
        basis.difficulties[one.interaction_id].value, abs=1e-4
    )
    assert "ifd" in [signal["name"] for signal in found.parts["signals"]]
    session.add(
        Example(
            role="coder", interaction_id=one.interaction_id, prompt=[], answer="the sum is 3",
            norm_hash="x", scores=found.parts,
        )
    )  # fmt: skip
    session.flush()
    monkeypatch.setattr(ifd, "_ifd", lambda *texts: pytest.fail("measured again"))
    again = load_basis(session, "coder", recipe, [one])
    assert assess(one, [], recipe, again).parts == found.parts


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match="ifd_model"):
        ifd.measure(str(tmp_path / "none"), [asking("add 1 and 2", "the sum is 3")])


def test_scoring_loads_no_torch():
    code = (
        "import sys, curation.score.assess, curation.score.judge, curation.score.calibrate;"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'litellm') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout.strip() == "[]"
