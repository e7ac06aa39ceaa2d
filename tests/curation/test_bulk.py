"""The back-fill through Daft stores what a build would have stored, to the bit."""

import pytest
from sqlalchemy import text
from sqlmodel import Session

from curation.boilerplate import NO_TEMPLATES, Templates
from curation.dedupe.bulk import backfill
from curation.dedupe.index import index_texts
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from curation.tables import Example
from foundation.chat import message
from foundation.ids import new_id

pytest.importorskip("daft")

TEMPLATE = " ".join(f"house rule {n}" for n in range(20))
PROMPTS = [
    "Write a parser of INI files.",
    f"{TEMPLATE} Write a parser of INI files, please.",
    " ".join(f"word{n}" for n in range(70)),
    "",
]
ANSWERS = ["def parse(text):\n    return 1", " ".join(f"token_{n}" for n in range(300)), "…", "??"]


@pytest.fixture
def examples(session: Session) -> list[Example]:
    """Every prompt with every answer, and one of them twice."""
    pairs = [(p, a) for p in PROMPTS for a in ANSWERS] + [(PROMPTS[0], ANSWERS[0])]
    found = [
        Example(
            role="coder",
            interaction_id=new_id(),
            prompt=[message("system", "Be brief."), message("user", prompt)],
            answer=answer,
            norm_hash="",
        )
        for prompt, answer in pairs
    ]
    session.add_all(found)
    session.commit()
    return found


def stored(session: Session) -> tuple[list[tuple[int, int]], list[tuple[int, str, int]]]:
    bands = session.execute(text("SELECT key, text_id FROM text_band ORDER BY key, text_id"))
    texts = session.execute(
        text("SELECT id, kind, signature_version FROM indexed_text ORDER BY id")
    )
    return [tuple(row) for row in bands], [tuple(row) for row in texts]


@pytest.mark.parametrize("templates", [NO_TEMPLATES, Templates(prompt=(TEMPLATE,))])
@pytest.mark.parametrize("profile", ["default", "high-recall"])
def test_the_index_is_that_of_a_build(session, examples, tmp_path, templates, profile):
    recipe = CurationRecipe(profile=profile)
    compared = [normalize(e.prompt, e.answer, templates) for e in examples]
    ids = index_texts(session, "coder", recipe, compared)
    for example, (example.text_id, example.prompt_text_id) in zip(examples, ids, strict=True):
        session.add(example)
    session.commit()
    of_a_build = stored(session)
    assert of_a_build[0]
    session.execute(text("TRUNCATE text_band, indexed_text"))
    session.commit()

    n_texts = backfill(session, "coder", recipe, templates, str(tmp_path / "between"))
    assert n_texts == len(of_a_build[1])
    assert stored(session) == of_a_build
    assert backfill(session, "coder", recipe, templates, str(tmp_path / "again")) == 0
    assert stored(session) == of_a_build


def test_a_role_without_examples_needs_no_backfill(session, tmp_path):
    assert backfill(session, "coder", CurationRecipe(), NO_TEMPLATES, str(tmp_path)) == 0
