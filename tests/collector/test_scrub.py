import ast
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.scrub import Scrubber, scrub_json, scrub_record, scrub_text
from collector.scrub_checks import iban_holds, luhn_holds

# Written in pieces so that no file here holds a whole token; all of them are made up.
SECRETS = {
    "aws_access_key": "AKIA" + "Q3EGZ7XKTPLM4WDA",
    "github_token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "openai_key": "sk-" + "proj-Ab12Cd34Ef56Gh78Ij90Kl12",
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


def test_hostile_text_costs_no_more_than_its_length():
    for unit in (
        "a" * 50 + "@",
        "password=",
        "eyJ" + "a" * 40,
        "1-",
        "-----BEGIN PRIVATE KEY-----",
    ):
        scrub_text(unit * 4000)


def test_check_digits():
    assert luhn_holds("79927398713")
    assert not luhn_holds("79927398710")
    assert iban_holds("DE89 3704 0044 0532 0130 00")
    assert not iban_holds("DE89 3704 0044 0532 0130 01")


@pytest.mark.data
def test_recall_on_public_data(public_data):
    found = missed = false = 0
    for line in (public_data / "secrets_detect/secrets_a.jsonl").read_text().splitlines():
        row = json.loads(line)
        hit = bool(scrub_text("".join(row["text_parts"]))[1])
        found += row["is_secret"] and hit
        missed += row["is_secret"] and not hit
        false += hit and not row["is_secret"]
    assert found / (found + missed) >= 0.78
    assert found / (found + false) >= 0.89
    kinds = {"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "IP_ADDRESS"}
    for name in ("synth_v2_odd_templates.jsonl", "generated_small.jsonl"):
        for line in (public_data / "pii_presidio" / name).read_text().splitlines():
            row = json.loads(line)
            clean, _ = scrub_text(row["full_text"])
            for span in row["spans"]:
                if span["entity_type"] in kinds:
                    assert span["entity_value"] not in clean
