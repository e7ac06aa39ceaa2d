import pytest

from collector.scrub import RuleSet, Scrubber, ScrubFailed, server_rules
from collector.scrub.names import finder, presidio, wanted
from foundation.errors import BadInput, MissingExtra


def test_names_are_removed_only_where_asked():
    variable = "FLYWHEEL_SCRUB_NAMES"
    assert not wanted({})
    assert wanted({variable: "presidio"})
    assert not wanted({variable: "presidio"}, in_client=True)
    assert wanted({variable: "presidio,client"}, in_client=True)
    with pytest.raises(BadInput, match="presidio or presidio,client"):
        wanted({variable: "yes"})


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    presidio.cache_clear()
    with pytest.raises(MissingExtra, match=r"\[pii\]"):
        presidio("some_model")


class BrokenAnalyzer:
    def analyze(self, **_):
        raise OSError("model lost")


def test_an_analyzer_that_fails_stops_the_text():
    rules = RuleSet(find_names=finder(BrokenAnalyzer()))
    with pytest.raises(ScrubFailed, match="names"):
        Scrubber(rules).text("Ada Lovelace lives in London now")
    assert Scrubber(rules).text("one two")[0] == "one two"  # no prose, not asked


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A spaCy pipeline without any model, on disk."""
    pytest.importorskip("presidio_analyzer", reason="the extra [pii] is not installed")
    spacy = pytest.importorskip("spacy")
    folder = tmp_path_factory.mktemp("spacy") / "blank"
    spacy.blank("en").to_disk(folder)
    return str(folder)


@pytest.fixture(scope="module")
def rules(model):
    """A real analyzer; a list of names stands in for a trained model, which cannot be shipped."""
    from presidio_analyzer import AnalyzerEngine, PatternRecognizer, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    configuration = {
        "nlp_engine_name": "spacy",
        "models": [{"lang_code": "en", "model_name": model}],
    }
    engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
    registry = RecognizerRegistry(supported_languages=["en"])
    people, places = ["Ada Lovelace", "Grace Hopper"], ["London"]
    registry.add_recognizer(PatternRecognizer("PERSON", name="people", deny_list=people))
    registry.add_recognizer(PatternRecognizer("LOCATION", name="places", deny_list=places))
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    return RuleSet(find_names=finder(analyzer))


def test_names_and_places_of_prose_are_removed_beside_the_rules(rules):
    text = "Ada Lovelace of London wrote to jo@x.org, and Ada Lovelace waits."
    scrubber = Scrubber(rules)
    clean, counts = scrubber.text(text)
    assert clean == "<PERSON_1> of <PLACE_1> wrote to <EMAIL_1>, and <PERSON_1> waits."
    assert counts == {"person": 2, "place": 1, "email": 1}
    assert Scrubber(rules).text(clean) == (clean, {})


def test_code_and_what_is_no_prose_keep_their_names(rules):
    code = "see this code, please:\n```\nuser = 'Ada Lovelace of London'\n```\nby Grace Hopper"
    assert Scrubber(rules).text(code)[0] == code.replace("Grace Hopper", "<PERSON_1>")
    assert Scrubber(rules).text("Ada Lovelace")[0] == "Ada Lovelace"


def test_the_version_says_that_names_are_removed(rules):
    assert rules.version != RuleSet().version


def test_the_version_says_by_which_model_names_are_removed(monkeypatch):
    def version(model):
        monkeypatch.setenv("FLYWHEEL_SCRUB_NAMES_MODEL", model)
        server_rules.cache_clear()
        return server_rules().version

    monkeypatch.setenv("FLYWHEEL_SCRUB_NAMES", "presidio")
    monkeypatch.setattr("collector.scrub.names.presidio", lambda model: finder(BrokenAnalyzer()))
    try:
        versions = [version(model) for model in ("small", "large", "small", "")]
        assert versions[0] == versions[2] != versions[1]
        assert versions[3] == version("en_core_web_lg")
    finally:
        server_rules.cache_clear()


def test_a_model_on_disk_is_loaded_and_one_that_is_absent_is_named(model):
    presidio.cache_clear()
    assert presidio(model)("nobody is named in here at all") == []
    with pytest.raises(BadInput, match="no_such_model"):
        presidio("no_such_model")
