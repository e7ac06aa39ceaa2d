import ast
import base64
import inspect
import json
import math
import random
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import scrub as scrub_figures
from collector.scrub import (
    ACTIVE,
    RULES_VERSION,
    RuleSet,
    Scrubber,
    ScrubFailed,
    scrub_json,
    scrub_record,
    scrub_text,
    search,
)
from collector.scrub.checks import iban_holds, luhn_holds

# Written in pieces so that no file here holds a whole token; all of them are made up.
SECRETS = {
    "aws_access_key": "AKIA" + "Q3EGZ7XKTPLM4WDA",
    "github_token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "openai_key": "sk-" + "proj-Ab12Cd34Ef56Gh78Ij90Kl12",
    "flywheel_key": "fw_" + "QVzczejkiLRnWAnEOOqPwXFqQ7SdRwxK-AMVnpJ_2NQ",
    "anthropic_key": "sk-ant-" + "api03-Ab12Cd34Ef56Gh78Ij90Kl12",
    "slack_token": "xoxb-" + "123456789012-abcdefABCDEF",
    "google_key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "stripe_key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0." + "dozjgNryP4J3jVmNHl0w5N",
}
PERSONAL = {
    "email": "jo.doe+x@mail.example.org",
    "card": "4111 1111 1111 1111",
    "iban": "GB29 NWBK 6016 1331 9268 19",
    "ssn": "536-90-4399",
    "phone": "(212) 555-0187",
    "ip_address": "93.184.216.34",
}


@pytest.mark.parametrize(("kind", "value"), (SECRETS | PERSONAL).items())
def test_each_kind_leaves_a_typed_placeholder(kind, value):
    clean, counts = scrub_text(f"see {value} there")
    assert clean == f"see <{kind.upper()}_1> there"
    assert counts == {kind: 1}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('password = "hunter2"', "hunter2"),
        ("{'db_password': 'tr0ub4dor'}", "tr0ub4dor"),
        (r'{"arguments": "{\"password\": \"s3cr3tpw\"}"}', "s3cr3tpw"),
        ('api_key: "9f8e7d6c5b4a39281706"', "9f8e7d6c5b4a39281706"),
        ("API_TOKEN=9f8e7d6c5b4a39281706\n", "9f8e7d6c5b4a39281706"),
        ("postgresql://bob:pa55w0rd@db.internal:5432/x", "pa55w0rd"),
        ("Authorization: Bearer abcdef0123456789abcdef", "abcdef0123456789abcdef"),
        ('if (db_pass != "qwerty99")', "qwerty99"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----",
            "MIIEpAIBAAKCAQEA7",
        ),
    ],
)
def test_secrets_in_their_context(text, secret):
    clean, counts = scrub_text(text)
    assert secret not in clean
    assert sum(counts.values()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD']",
        'password = getpass("Enter your password: ")',
        'token = tokens["next"]; secret = load(secret_key)',
        'url = "postgresql://user:${PASSWORD}@host/db"',
        "y = q@k.transpose(0, 1) + x@w.T",
        "order 1234567890123456 of 2024-01-15, v1.2.3.4, 10.0.0.1, 3.14159",
        "git@github.com:org/repo.git",
        "@pytest.mark.slow\ndef test(): pass",
        "def login(user, password=None): return check(password)",
        'assert is_valid_key("-----BEGIN PRIVATE KEY-----")',
        '{"token": " Hello", "logprob": -0.1}',
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert scrub_text(text) == (text, Counter())


def test_same_value_same_placeholder_and_twice_is_once():
    scrubber = Scrubber()
    first, _ = scrubber.text("a@x.org b@x.org a@x.org")
    assert first == "<EMAIL_1> <EMAIL_2> <EMAIL_1>"
    assert scrubber.text("again b@x.org")[0] == "again <EMAIL_2>"
    assert scrub_text(first) == (first, Counter())


def test_code_still_parses():
    code = "\n".join(
        [
            "card = 4111111111111111",
            "pay(4111111111111111, to='jo@x.org')",
            'connect(password="hunter2", host="h")',
            "connect(password=hunter2abc9, host=h)",
            f"KEY = '{SECRETS['aws_access_key']}'  # {SECRETS['github_token']}",
            "ssn = 536-90-4399",
            f'"""{SECRETS["jwt"]}"""',
        ]
    )
    clean, counts = scrub_text(code)
    ast.parse(clean)
    assert sum(counts.values()) == 9
    assert "4111" not in clean
    assert "card = CARD_1\n" in clean


def test_standard_library_parses_after_scrubbing():
    folder = Path(ast.__file__).parent
    for name in ("smtplib.py", "ipaddress.py", "turtle.py", "urllib/request.py", "email/utils.py"):
        source = (folder / name).read_text(encoding="utf-8")
        ast.parse(scrub_text(source)[0])


def test_json_walks_keys_values_and_numbers():
    value = {
        "jo@x.org": ["jo@x.org", {"n": 4111111111111111, "t": 1700000000000}],
        "password": "hunter2",
        "deep": [[{"x": None, "y": True}]],
    }
    clean, counts = scrub_json(value)
    assert clean == {
        "<EMAIL_1>": ["<EMAIL_1>", {"n": "<CARD_1>", "t": 1700000000000}],
        "password": "<PASSWORD_1>",
        "deep": [[{"x": None, "y": True}]],
    }
    assert counts == {"email": 2, "card": 1, "password": 1}


def test_json_members_are_judged_by_their_names():
    value = {"phone": "3660170548", "ssn": "536904399", "tel_ok": "yes", "total": "3660170548"}
    assert scrub_json(value) == (
        {"phone": "<PHONE_1>", "ssn": "<SSN_1>", "tel_ok": "yes", "total": "3660170548"},
        {"phone": 1, "ssn": 1},
    )


def test_what_follows_an_escape_sequence_is_found_and_json_still_parses():
    for value in PERSONAL.values():
        code = json.dumps({"arguments": json.dumps({"text": f"a\n{value}\tb"})})
        clean, counts = scrub_text(code)
        assert sum(counts.values()) == 1
        assert "_1>" in json.loads(json.loads(clean)["arguments"])["text"]


def test_record_keeps_ids_and_hides_a_personal_unit():
    record = {
        "id": "01890000-0000-7000-8000-000000000000",
        "unit_id": "jo@x.org",
        "text": "jo@x.org",
    }
    clean = scrub_record(record)
    assert clean["id"] == record["id"]
    assert clean["unit_id"].startswith("unit-")
    assert clean["unit_id"] == scrub_record({"unit_id": "jo@x.org"})["unit_id"]
    assert clean["scrub"] == {"email": 2}
    again = scrub_record(clean)
    assert again == clean


@given(st.text(alphabet=st.sampled_from("ab1@.:/-_=+ \"'\\\n$({password"), max_size=300))
def test_scrubbing_is_idempotent_on_any_text(text):
    once, _ = scrub_text(text)
    twice, counts = scrub_text(once)
    assert twice == once
    assert not counts


class Forgetful(RuleSet):
    """Rules that search every text anew."""

    def findings(self, text):
        return self.search(text)


WORDS = (
    *("role", "coder", "content", "password", "api_key", "phone", "ssn", "data", "type", "base64"),
    *("hunter2abc9", "4111111111111111", "jo@x.org", "555-123-4567", "123-45-6789", "", "x" * 60),
    *(SECRETS["github_token"], "data:text/plain;base64," + "am9AeC5vcmc=", "result", "file_data"),
)
TEXTS = st.sampled_from(WORDS) | st.lists(st.sampled_from(WORDS), max_size=3).map(" = ".join)
VALUES = st.recursive(
    TEXTS | st.integers(4 * 10**15, 5 * 10**15) | st.floats(0, 1) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=5), min_size=1, max_size=4))
def test_what_is_remembered_changes_nothing(records):
    """The second time all short harmless texts are known, in whatever place they were met first."""
    remembering = RuleSet()
    for record in [*records, *records, *reversed(records)]:
        for text in WORDS:
            remembering.findings(text)  # as a name or a column would be searched
        known = scrub_record(record, Scrubber(remembering))
        assert known == scrub_record(record, Scrubber(Forgetful()))


def test_only_short_texts_that_hold_nothing_are_remembered_and_not_without_limit():
    rules = RuleSet()
    for text in ("jo@x.org", "x" * 49, "data:text/plain;base64,am9AeC5vcmc="):
        rules.findings(text)
    assert rules.harmless == set()
    for n in range(20_000):
        rules.findings(f"name {n}")
    assert 0 < len(rules.harmless) <= 16_384
    rules.forget()
    assert rules.harmless == set()


HOSTILE = (
    *("a", '"', "1", "1 ", "a@", "password=", "password='", "sk-", "eyJ", "AKIA", "://a:", "pw"),
    *("-----BEGIN PRIVATE KEY-----", "a" * 50 + "@", "+1 (2", "12345678, ", ":AA", "1.2.3.4 "),
    *("2001:db8:", "//a:_authToken=", "curl -u ", "authorization:", "GB29 NWBK ", "\ud800", "\x00"),
)


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_cost_of_hostile_text_grows_with_its_length_alone(unit):
    """Python has no step counter for expressions, so time is compared with itself, generously."""

    def seconds(length):
        text = (unit * (length // len(unit) + 1))[:length]
        started = time.process_time()
        ACTIVE.search(text)
        return time.process_time() - started

    small = max(min(seconds(10_000) for _ in range(3)), 0.002)
    # 10 if linear, 100 if quadratic; other threads of this process are counted, too
    assert any(seconds(100_000) < small * 40 for _ in range(3))


def test_check_digits():
    assert luhn_holds("79927398713")
    assert not luhn_holds("79927398710")
    assert iban_holds("DE89 3704 0044 0532 0130 00")
    assert not iban_holds("DE89 3704 0044 0532 0130 01")


def test_deep_json_and_odd_values_pass():
    deep = value = []
    for _ in range(20_000):
        value.append([])
        value = value[0]
    value.append("jo@x.org")
    clean, counts = scrub_json({"deep": deep, "nan": float("nan"), "big": 10**5000, "\ud800": None})
    assert counts == {"email": 1}
    assert math.isnan(clean["nan"])
    assert clean["big"] == 10**5000
    value = clean["deep"]
    while isinstance(value, list):
        value = value[0]
    assert value == "<EMAIL_1>"


def test_a_check_that_raises_stops_the_record(monkeypatch):
    def broken(match):
        raise ValueError("lost")

    rules = tuple(replace(rule, accept=broken) for rule in search.NUMBER_RULES)
    monkeypatch.setattr(search, "NUMBER_RULES", rules)
    monkeypatch.setattr(search, "_RANKS", {id(rule): 0 for rule in rules})
    ACTIVE.forget()
    with pytest.raises(ScrubFailed, match="card raised ValueError") as failed:
        scrub_record({"request": {"card": "4111 1111 1111 1111 of jo"}})
    assert "4111" not in str(failed.value)


def test_every_record_says_by_which_rules_it_was_scrubbed():
    assert scrub_record({"role": "coder"})["scrub_version"] == RULES_VERSION
    assert re.fullmatch("[0-9a-f]{12}", RULES_VERSION)


def test_the_version_changes_with_the_code_of_the_checks(monkeypatch):
    monkeypatch.setattr("inspect.getsource", lambda module: f"changed {module.__name__}")
    assert RuleSet().version != RULES_VERSION


@pytest.mark.parametrize(
    "changed", sorted(path.stem for path in Path(search.__file__).parent.glob("*.py"))
)
def test_no_file_that_decides_is_left_out_of_the_version(monkeypatch, changed):
    """All of the package but `rescan`, which only goes through the rows."""
    honest = inspect.getsource

    def source(module):
        return honest(module) + "\n" * (Path(module.__file__).stem == changed)

    assert RuleSet().version == RULES_VERSION
    monkeypatch.setattr("inspect.getsource", source)
    assert (RuleSet().version == RULES_VERSION) == (changed == "rescan")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("glpat-" + "Ab12Cd34Ef56Gh78Ij90", "gitlab_token"),
        ("SG." + "a1B2c3D4e5F6g7H8i9J0k1" + "." + "a1B2c3D4e5" * 4 + "abc", "sendgrid_key"),
        ("dapi" + "0123456789abcdef" * 2, "databricks_token"),
        ("lin_api_" + "a1B2c3D4e5" * 4, "linear_key"),
        ("shpat_" + "0123456789abcdef" * 2, "shopify_token"),
        ("dop_v1_" + "0123456789abcdef" * 4, "digitalocean_token"),
        ("hvs." + "CAESIJ1a2b3c4d5e6f7g8h9i0j", "vault_token"),
        ("dp.pt." + "a1B2c3D4e5" * 4 + "abc", "doppler_token"),
        ("PMAK-" + "0123456789abcdef01234567" + "-" + "0123456789abcdef" * 2 + "01", "postman_key"),
        ("glsa_" + "a1B2c3D4" * 4 + "_" + "0a1b2c3d", "grafana_token"),
        ("123456789" + ":AA" + "Hdqtcvbnmlkjhgfdsapoiuytrewqzxcvb", "telegram_token"),
        ("https://hooks.slack.com/services/" + "T00000000/B00000000/" + "x1y2z3w4" * 3, None),
        ("DefaultEndpoints;AccountKey=" + "a1B2c3D4e5" * 8 + "abcdef==", None),
        ("key-" + "0123456789abcdef" * 2, "mailgun_key"),
        ("0123456789abcdef" * 2 + "-us12", "mailchimp_key"),
        ("npm_" + "a1B2c3D4e5F6" * 3, "npm_token"),
        ("hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZabcdefgh", "huggingface_token"),
        ("xapp-1-" + "A0123456789-1234567890-abcdef", "slack_token"),
    ],
)
def test_public_token_formats(text, kind):
    assert list(scrub_text(f"x = [{text}]")[1]) == [kind] if kind else scrub_text(text)[1]
    escaped = json.dumps({"arguments": json.dumps({"code": f"a\n{text}\tb"})})
    assert scrub_text(escaped)[1], "not found after an escape sequence"


@pytest.mark.parametrize(
    "text",
    [
        "call me on 9472 7916?",
        "Mobile: 041-412-293\nDesk: 986.291.2294x751",
        "+46 (0)179 459 33 fax",
        "my phone number is 450 0840",
        "Tel. 030 1234567",
        "mobil 0171-2345678",
        "teléfono 912 345 678",
        "Telefonnummer: 030 123456",
        "тел. 8 (495) 123-45-67",
        "电话：010-12345678",
        '{"phone": "3660170548"}',
    ],
)
def test_telephone_numbers_in_national_formats(text):
    clean, counts = scrub_text(text)
    assert set(counts) == {"phone"}
    assert not re.search(r"\d{3}", clean)


@pytest.mark.parametrize(
    "text",
    [
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "fe80::1 ::1 10.0.0.1 192.168.1.7 127.0.0.1 192.0.2.1 8.8.8.8",
        "requests==2.31.0.4 v1.22.33.44 x[1::2] a::b std::vector 12:30:45 00:1b:44:11:3a:b7",
        "6 12 24 48 96 192 384 768 1536 3072",
        "a = +9223372036854775807  # 1 << 63",
        "zip 3610-114, order 481195160, 2024-01-15 12:00:00",
        "[-678966196, 573763426263223372, -820489388]",
        'cases = ["pass", "pass; pass"]',
        "token_type = 'a1b2c3d4e5f6g7h8i9'",
        "password_file = '/etc/secrets/db'",
        'raise ValueError("password: must have 8 characters")',
        "x = user@host.transpose",
        "git clone git@github.com:org/repo.git",
    ],
)
def test_what_only_looks_personal_or_secret_stays(text):
    assert scrub_text(text) == (text, Counter())


def test_public_ipv6_addresses_are_found():
    for address in ("2a00:1450:4001:829::200e", "f8e1:c2a9:0b1d:77aa:1234:5678:9abc:def0"):
        assert scrub_text(f"from {address} port 22")[0] == "from <IP_ADDRESS_1> port 22"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("set password for root: hunter2x9", "hunter2x9"),
        ("the password is hunter2.", "hunter2"),
        ("password for the db is 'S3cr3t!x'", "S3cr3t!x"),
        ("Passwort: geheim123", "geheim123"),
        ("mot de passe : azerty123", "azerty123"),
    ],
)
def test_passwords_told_in_prose_are_found(text, value):
    clean, counts = scrub_text(text)
    assert counts == {"password": 1}
    assert value not in clean


@pytest.mark.parametrize(
    "text",
    [
        "the password is sha256 hashed",
        "the password is base64 of it",
        "a password is required",
        "the password for x is wrong",
        "password is f(x1)",
    ],
)
def test_sentences_about_passwords_stay(text):
    assert scrub_text(text) == (text, Counter())


MEGABYTE = base64.b64encode(random.Random(3).randbytes(1 << 20)).decode()


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": {"url": f"data:image/png;base64,{MEGABYTE}"}},
        {"text": f"see ![](data:image/png;base64,{MEGABYTE}) there"},
        {"type": "base64", "media_type": "image/png", "data": MEGABYTE},
        {"input_audio": {"data": MEGABYTE, "format": "wav"}},
    ],
    ids=["data url", "inside a text", "anthropic", "audio"],
)
def test_base64_is_no_text_to_be_searched(part, monkeypatch):
    searched = []
    rules = RuleSet()
    search = rules.search
    monkeypatch.setattr(rules, "search", lambda text: searched.append(len(text)) or search(text))
    assert Scrubber(rules).json(part) == (part, Counter())
    assert sum(searched) < 1000


def test_a_text_in_base64_is_scrubbed_as_base64():
    def url(text):
        return f"data:text/plain;base64,{base64.b64encode(text.encode()).decode()}"

    clean, counts = scrub_json({"file_data": url("of jo@x.org"), "by": "jo@x.org"})
    assert clean == {"file_data": url("of <EMAIL_1>"), "by": "<EMAIL_1>"}
    assert counts == {"email": 2}


def test_what_says_it_is_base64_and_is_none_is_a_text():
    text = f"mail jo@x.org {'x' * 2000}"
    clean, _ = scrub_json({"type": "base64", "data": text, "url": "data:;base64,jo@x.org"})
    assert "jo@x" not in str(clean)


@pytest.mark.parametrize("column", ["key", "interaction_key", "response_id", "actor", "project"])
def test_a_personal_name_is_the_same_everywhere_and_says_nobody(column):
    def kept(value, scrubber=None):
        return scrub_record({"id": "x", column: value}, scrubber)[column]

    later = Scrubber()
    later.text("first@x.org")
    assert kept("jo@x.org") == kept("jo@x.org", later) == kept(kept("jo@x.org"))
    assert kept("jo@x.org") != kept("mo@x.org")
    assert "jo" not in kept("jo@x.org")
    assert kept("PR-12") == "PR-12"


def test_the_two_names_of_a_call_agree():
    record = scrub_record({"key": "jo@x.org", "gen_ai_response_id": "mo@x.org"})
    said = scrub_record({"interaction_key": "jo@x.org", "response_id": "mo@x.org"})
    assert record["key"] == said["interaction_key"]
    assert record["gen_ai_response_id"] == said["response_id"]


@pytest.mark.data
def test_secrets_of_the_public_data_are_found(public_data):
    total, _ = scrub_figures.secret_counts(public_data)
    assert scrub_figures.recall(total) >= 0.95
    assert scrub_figures.precision(total) >= 0.95


@pytest.mark.data
def test_personal_data_of_the_public_data_is_found(public_data):
    total, by_kind = scrub_figures.personal_counts(public_data)
    assert scrub_figures.recall(total) >= 0.95
    assert scrub_figures.precision(total) >= 0.9
    assert all(scrub_figures.recall(counts) >= 0.95 for counts in by_kind.values())


def test_the_standard_library_has_hardly_a_false_hit():
    false, _ = scrub_figures.false_hit_figures(200)
    assert false.passed
