"""Names and places in prose, found by Presidio: optional, and thin.

`FLYWHEEL_SCRUB_NAMES=presidio` turns it on where records are stored; `presidio,client` in agents'
processes as well. It needs the extra [pii] and a spaCy model on this machine, which is never
fetched; `FLYWHEEL_SCRUB_NAMES_MODEL` is its package or folder. A language model guesses: unlike
the rules it has no figures of ours, and it costs milliseconds per text.
"""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from collector.scrub.checks import is_own_mark
from collector.scrub.search import Candidate, ScrubFailed
from foundation.errors import BadInput, MissingExtra

VARIABLE = "FLYWHEEL_SCRUB_NAMES"
MODEL_VARIABLE = "FLYWHEEL_SCRUB_NAMES_MODEL"
DEFAULT_MODEL = "en_core_web_lg"
KINDS = {"PERSON": "person", "LOCATION": "place"}
"""Presidio's entity types that are looked for, and what they are called here."""

LEAST_SCORE = 0.5
_LEAST_WORDS = 4
"""Shorter texts are keys, names of models, words: not prose."""
_RANK = 10_000
"""Behind every rule: a name within a secret is part of it."""
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)

Finder = Callable[[str], list[Candidate]]


def wanted(environment: Mapping[str, str], in_client: bool = False) -> bool:
    """Say whether the environment asks for names to be removed here.

    Raises:
        BadInput: the variable has an unknown value.
    """
    asked = [word.strip() for word in environment.get(VARIABLE, "").split(",") if word.strip()]
    if not asked:
        return False
    if asked not in (["presidio"], ["presidio", "client"]):
        remedy = "Correct it, or unset it: names are kept then."
        raise BadInput(VARIABLE, environment[VARIABLE], "presidio or presidio,client", remedy)
    return "client" in asked or not in_client


def model_of(environment: Mapping[str, str]) -> str:
    """Return the spaCy model that the environment names."""
    return environment.get(MODEL_VARIABLE) or DEFAULT_MODEL


@lru_cache(maxsize=1)
def presidio(model: str) -> Finder:
    """Return what finds names with Presidio and a spaCy model.

    Raises:
        MissingExtra: Presidio is not installed.
        BadInput: the model is not on this machine.
    """
    if importlib.util.find_spec("presidio_analyzer") is None:
        raise MissingExtra("presidio_analyzer", "pii")
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    try:
        spacy.load(model)  # Presidio itself would try to download what is absent
    except OSError as error:
        remedy = f"Install it (python -m spacy download …), or name another by {MODEL_VARIABLE}."
        raise BadInput(
            "spaCy model", model, "a package or folder of this machine", remedy
        ) from error
    configuration = {
        "nlp_engine_name": "spacy",
        "models": [{"lang_code": "en", "model_name": model}],
    }
    engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
    return finder(AnalyzerEngine(nlp_engine=engine, supported_languages=["en"]))


def finder(analyzer: Any) -> Finder:
    """Return what finds names by a `presidio_analyzer.AnalyzerEngine`.

    Fenced code is left out, and so is what scrubbing has marked already.
    """

    def find(text: str) -> list[Candidate]:
        if text.count(" ") < _LEAST_WORDS - 1:
            return []
        try:
            found = analyzer.analyze(
                text=text, language="en", entities=list(KINDS), score_threshold=LEAST_SCORE
            )
        except Exception as error:  # whatever a model raises, the text is not known to be clean
            raise ScrubFailed("names", error) from error
        return list(_candidates(text, found))

    return find


def _candidates(text: str, found: list[Any]) -> Iterator[Candidate]:
    code = [match.span() for match in _CODE.finditer(text)]
    for entity in found:
        if any(entity.start < end and entity.end > start for start, end in code):
            continue
        if not any(map(is_own_mark, re.split(r"\s+", text[entity.start : entity.end]))):
            yield Candidate(entity.start, entity.end, _RANK, KINDS[entity.entity_type])
