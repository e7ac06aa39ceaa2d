import random

import pytest

from curation.boilerplate import ANSWER, MIN_WORDS, NO_TEMPLATES, PROMPT, Templates, shared_texts
from curation.recipe import CurationRecipe
from curation.templates import (
    find_templates,
    get_template,
    list_templates,
    load_templates,
    switch_template,
)
from flywheel.demo.language import ROLES, tasks
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

RECIPE = CurationRecipe()


@pytest.fixture
def words():
    rng = random.Random(4)
    vocabulary = [f"w{number}" for number in range(3000)]
    return lambda n: " ".join(rng.choice(vocabulary) for _ in range(n))


def test_header_guide_and_footer_are_found_as_three(words):
    header, guide, footer = words(170), words(40), words(25)
    texts = [
        " ".join(
            part
            for part in (
                header,
                guide if number % 3 == 0 else "",
                "write a function that" if number % 2 else "please mend the bug in",
                words(30),
                footer if number % 5 == 0 else "",
            )
            if part
        )
        for number in range(300)
    ]
    found = shared_texts(texts, PROMPT)
    assert [one.text for one in found] == [header, guide, footer]
    assert [one.n_seen for one in found] == [300, 100, 60]
    templates = Templates(tuple(one.text for one in found))
    assert len(templates.strip(PROMPT, texts[0]).split()) == 35


def test_what_is_short_or_rare_is_no_template(words):
    short, rare = words(MIN_WORDS - 1), words(50)
    texts = [f"{short} {words(30)}" for _ in range(100)]
    texts += [f"{rare} {words(30)}" for _ in range(19)]
    assert shared_texts(texts, PROMPT) == []
    assert shared_texts([], PROMPT) == []


def test_answers_lose_whole_lines_only(words):
    licence = "\n".join(f"# {words(7)}" for _ in range(4))
    texts = [f"{licence}\ndef f{n}(x):\n\treturn x + {words(3)}" for n in range(60)]
    (found,) = shared_texts(texts, ANSWER)
    assert found.text == licence
    assert Templates(answer=(licence,)).strip(ANSWER, texts[7]).startswith("def f7")


def test_a_text_of_templates_only_stays_whole():
    templates = Templates(("a b c",))
    assert templates.strip(PROMPT, "a b c") == "a b c"
    assert templates.strip(PROMPT, "x a b c y") == "x y"
    assert templates.strip(ANSWER, "x a b c y") == "x a b c y"
    assert templates.strip(PROMPT, "") == ""


def test_the_digest_tells_parts_apart_and_ignores_order():
    assert Templates(("a", "bb")).digest == Templates(("bb", "a")).digest
    assert Templates(("a",)).digest != Templates(answer=("a",)).digest
    assert NO_TEMPLATES.digest == Templates().digest


def test_the_demo_has_no_templates():
    for role in ROLES:
        drawn = tasks(role, "train", 400, 5)
        assert shared_texts(sorted({task.prompt.lower() for task in drawn}), PROMPT) == []
        assert shared_texts(sorted({task.reference for task in drawn}), ANSWER) == []


def test_a_shared_instruction_is_found_in_the_log_once(session, log, words):
    instruction = words(30)
    for _ in range(30):
        log.call(f"{instruction}\n{words(20)}", words(20))
    assert find_templates(session, "coder", RECIPE)
    assert not find_templates(session, "coder", RECIPE)
    (template,) = list_templates(session, "coder")
    assert (template.text, template.part, template.n_seen) == (instruction, PROMPT, 30)
    assert load_templates(session, "coder").prompt == (instruction,)
    assert load_templates(session, "tester") == NO_TEMPLATES


def test_one_task_asked_often_is_no_template(session, log, words):
    asked, episode = words(60), new_id()
    for number in range(40):
        log.call(f"{asked}\n{words(20)}", words(20), task_key="one")
        log.call(f"{asked}\n{words(20)}", words(20), episode_id=episode)
        log.call(f"{words(20)}", f"answer {number}")
    assert not find_templates(session, "coder", RECIPE)


def test_switched_off_stays_off(session, log, words):
    instruction = words(30)
    for _ in range(30):
        log.call(f"{instruction}\n{words(20)}", words(20))
    find_templates(session, "coder", RECIPE)
    before = load_templates(session, "coder")
    (template,) = list_templates(session)
    switch_template(session, template.digest[:8], active=False)
    assert load_templates(session, "coder") == NO_TEMPLATES
    assert not find_templates(session, "coder", RECIPE)
    switch_template(session, template.digest[:8], active=True, role="coder")
    assert load_templates(session, "coder").digest == before.digest


def test_a_recipe_can_do_without(session, log, words):
    instruction = words(30)
    for _ in range(30):
        log.call(f"{instruction}\n{words(20)}", words(20))
    assert not find_templates(session, "coder", CurationRecipe(strip_templates=False))
    assert list_templates(session) == []
    find_templates(session, "coder", RECIPE)
    assert load_templates(session, "coder", RECIPE).prompt == (instruction,)
    assert load_templates(session, "coder", CurationRecipe(strip_templates=False)) == NO_TEMPLATES


def test_an_unknown_or_ambiguous_template_is_refused(session, log, words):
    with pytest.raises(NotFound, match="template"):
        get_template(session, "")
    instruction = words(30)
    for role in ("coder", "tester"):
        for _ in range(30):
            log.call(f"{instruction}\n{words(20)}", words(20), role=role)
        find_templates(session, role, RECIPE)
    digest = list_templates(session)[0].digest
    with pytest.raises(BadInput, match="tester"):
        get_template(session, digest)
    assert get_template(session, digest, "tester").role == "tester"
