"""Judges tests of `config_layers`."""

import pytest

from evaluator.suites.built_in.modules.config_layers import (
    JOIN,
    STRICT,
    BadSetting,
    Schema,
    Value,
    load,
)
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "JOIN": {
            True: "A list is added to that of the layers before, each text once.",
            False: "A list replaces that of the layers before.",
        },
        "STRICT": {
            True: "A key that the schema does not know is an error.",
            False: "A key that the schema does not know is left out.",
        },
    },
    faults=[
        Fault("earlier layers win", "merge(settings, layer)", "merge(layer, settings)"),
        Fault(
            "only the last layer is over the defaults",
            "merge(settings, layer)",
            "merge(dict(schema.defaults), layer)",
        ),
        Fault(
            "values keep the type of the text",
            "key: schema.convert(key, value)",
            "key: value",
        ),
        Fault(
            "the layers become the schema's defaults",
            "settings = merge(settings, layer)",
            "settings = schema.defaults = merge(settings, layer)",
        ),
        Fault("defaults are left out", "settings = dict(schema.defaults)", "settings = {}"),
        Fault("the last layer is not read", "for text in layers:", "for text in layers[:2]:"),
        Fault("layers are read backwards", "for text in layers:", "for text in layers[::-1]:"),
    ],
)


def schema() -> Schema:
    """Of three settings."""
    return Schema({"port": 80, "name": "app", "tags": ["base"]})


def test_later_layers_win_key_by_key() -> None:
    """What none of them says stays as it is by default."""
    layers = ["port = 8000\nname = one", "# port = 1\n\nname=two words\n", "port=-9"]
    assert load(schema(), layers) == {"port": -9, "name": "two words", "tags": ["base"]}
    assert load(schema(), layers[:2]) == {"port": 8000, "name": "two words", "tags": ["base"]}
    assert load(schema(), []) == {"port": 80, "name": "app", "tags": ["base"]}


def test_lists_over_layers() -> None:
    """Joined, or replaced."""
    found = load(schema(), ["tags = web, base,", "port=1", "tags = blue , web"])
    assert found["tags"] == (["base", "web", "blue"] if JOIN else ["blue", "web"])
    emptied = load(schema(), ["tags ="])
    assert emptied["tags"] == (["base"] if JOIN else [])


def test_a_schema_is_used_again() -> None:
    """What was loaded before does not show."""
    made = schema()
    load(made, ["port = 1\ntags = x\nname = y"])
    assert load(made, ["name = z"]) == {"port": 80, "name": "z", "tags": ["base"]}


@pytest.mark.parametrize("text", ["port = many", "port =", "port = 1.5"])
def test_a_wrong_type_is_an_error_in_any_layer(text: str) -> None:
    """Also where a later layer is right."""
    for layers in ([text], ["name = a", text], [text, "port = 1"]):
        with pytest.raises(BadSetting, match="^port$"):
            load(schema(), layers)


def test_unknown_keys() -> None:
    """Refused by name, or left out."""
    layers = ["port = 1", "zone = 3\narea = 4\nname = b"]
    if STRICT:
        with pytest.raises(BadSetting, match="^area$"):
            load(schema(), layers)
    else:
        expected: dict[str, Value] = {"port": 1, "name": "b", "tags": ["base"]}
        assert load(schema(), layers) == expected


def test_texts_that_look_like_something_else() -> None:
    """Numbers as names, equals signs inside, lines that say nothing."""
    found = load(schema(), ["  # name = x = y\n name = 12 = 3 \njust words\nport=07"])
    assert found == {"port": 7, "name": "12 = 3", "tags": ["base"]}
