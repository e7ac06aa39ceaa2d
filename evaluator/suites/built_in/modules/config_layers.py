"""Settings from layers of text: read, merged, and checked against a schema.

A line is `key = value`; blank lines and those beginning with `#` are nothing, and so is a line
without `=`. Later layers win. The schema gives each key a default, whose type the value must have:
whole numbers, texts, or lists of texts (written `a, b`). Errors name the key.
"""

JOIN = True
STRICT = True

Value = int | str | list[str]


class BadSetting(Exception):
    """A setting is unknown or has the wrong type."""


def read(text: str) -> dict[str, str]:
    """The settings of one layer."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.strip().startswith("#"):
            found[key.strip()] = value.strip()
    return found


class Schema:
    """What settings there are."""

    def __init__(self, defaults: dict[str, Value]) -> None:
        self.defaults = defaults

    def convert(self, key: str, value: str) -> Value:
        """The value in the type of its default."""
        default = self.defaults[key]
        if isinstance(default, list):
            return [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(default, str):
            return value
        if not value.lstrip("-").isdigit():
            raise BadSetting(key)
        return int(value)


def merge(settings: dict[str, Value], layer: dict[str, Value]) -> dict[str, Value]:
    """Settings with those of a layer over them; neither is changed."""
    merged = dict(settings)
    for key, value in layer.items():
        before = merged.get(key)
        if JOIN and isinstance(before, list) and isinstance(value, list):
            merged[key] = before + [part for part in value if part not in before]
        else:
            merged[key] = value
    return merged


def load(schema: Schema, layers: list[str]) -> dict[str, Value]:
    """All settings, from the defaults to the last layer."""
    settings = dict(schema.defaults)
    for text in layers:
        found = read(text)
        unknown = sorted(found.keys() - schema.defaults.keys())
        if STRICT and unknown:
            raise BadSetting(unknown[0])
        layer = {
            key: schema.convert(key, value) for key, value in found.items() if key not in unknown
        }
        settings = merge(settings, layer)
    return settings
