import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.scrub import RULES_VERSION, RuleSet, Scrubber
from collector.scrub.custom import VARIABLE, from_go, load
from foundation.errors import BadInput

PROJECT = Path(__file__).resolve().parents[2]
ACME = """
[[rules]]
id = "acme-token"
regex = '''acme_([a-z0-9]{8,32})'''
keywords = ["ACME_"]
entropy = 2.5
[rules.allowlist]
stopwords = ["sample"]
regexes = ['''^0+$''']

[allowlist]
regexes = ['''@corp\\.example\\.org$''']
"""


@pytest.fixture
def rules(tmp_path):
    def make(text):
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return RuleSet(load(str(path)))

    return make


def test_a_rule_of_the_team_is_applied_to_its_secret_group(rules):
    clean, counts = Scrubber(rules(ACME)).text("use acme_9f8e7d6c5b4a here, and acme_9f8e7d6c5b4a")
    assert clean == "use acme_<ACME_TOKEN_1> here, and acme_<ACME_TOKEN_1>"
    assert counts == {"acme_token": 2}


@pytest.mark.parametrize("value", ["acme_aaaaaaaaaa", "acme_sample12345", "acme_00000000"])
def test_entropy_stopwords_and_allowed_values_leave_a_match_alone(rules, value):
    assert Scrubber(rules(ACME)).text(value) == (value, {})


def test_the_global_allow_list_holds_for_built_in_rules_too(rules):
    text = "team@corp.example.org and jo@x.org"
    assert Scrubber(rules(ACME)).text(text)[0] == "team@corp.example.org and <EMAIL_1>"


def test_scrubbing_twice_with_a_greedy_rule_changes_nothing(rules):
    own = rules("[[rules]]\nid = \"ticket\"\nregex = '''ticket: (\\S+)'''\n")
    once = Scrubber(own).text("ticket: ABC-1")[0]
    assert once == "ticket: <TICKET_1>"
    assert Scrubber(own).text(once) == (once, {})


def test_the_version_changes_with_the_file(rules):
    assert rules("").version == RULES_VERSION
    assert rules(ACME).version != RULES_VERSION
    assert rules(ACME).version != rules(ACME + "\n# changed").version


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[rules]\n", "TOML"),
        ('[[rules]]\nid = "a"\nregex = "("\n', "rule a, regex"),
        ('[[rules]]\nid = "a"\n', "rule a, regex"),
        ('[[rules]]\nid = "a"\nregex = "x*"\n', "does not match the empty text"),
        ('[[rules]]\nid = "a"\nregex = "[[:alnum:]]+"\n', "POSIX"),
        ('[[rules]]\nid = "a b"\nregex = "x"\n', "rule's id"),
        ('[[rules]]\nid = "a"\nregex = "x"\nentropy = "high"\n', "rule a, entropy"),
        ('[[rules]]\nid = "a"\nregex = "x"\nsecretGroup = 1\n', "rule a, secretGroup"),
        ('[[rules]]\nid = "a"\nregexp = "x"\nregex = "x"\n', "regexp"),
        ('[[rules]]\nid = "a"\nregex = "x"\nkeywords = "x"\n', "rule a, keywords"),
        ("[rule]\n", "keys"),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_place(rules, text, named):
    with pytest.raises(BadInput, match=named):
        rules(text)


def test_a_missing_file_is_an_error():
    with pytest.raises(BadInput, match="no-such-file"):
        load("no-such-file.toml")


@pytest.mark.parametrize(
    ("go", "python"),
    [
        (r"ab(?i)cd", r"ab(?i:cd)"),
        (r"(a(?i)b|c)d", r"(a(?i:b|c))d"),
        (r"(?i)[\w(]{2}\z", r"(?i:[\w(]{2}\Z)"),
        (r"\((?-i:A)[)]", r"\((?-i:A)[)]"),
    ],
)
def test_go_expressions_are_turned_into_pythons(go, python):
    assert from_go(go) == python


def agent(rule_file, code):
    environment = {**os.environ, VARIABLE: str(rule_file)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, env=environment
    )


def test_the_variable_holds_for_agents_and_a_broken_file_stops_them_at_start(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(ACME)
    code = "from collector.scrub import scrub_text; print(scrub_text('acme_9f8e7d6c5b4a')[0])"
    assert agent(path, code).stdout == "acme_<ACME_TOKEN_1>\n"
    path.write_text("[[rules]]\nid = 'a'\nregex = '('\n")
    failed = agent(path, "import collector.client")
    assert failed.returncode != 0
    assert "rule a, regex" in failed.stderr
