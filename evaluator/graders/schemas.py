"""JSON schemas of tasks, Draft 2020-12: checked once, never fetched from anywhere."""

import json
from functools import lru_cache
from typing import Any, Final

from foundation.errors import BadInput

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_SHOWN = 3


def validator(what: str, schema: Any) -> Any:
    """Return the validator of a schema.

    Formats such as `date` are annotations, as the draft has it: whether they could be checked would
    hang on what else is installed.

    Raises:
        BadInput: it is no schema of Draft 2020-12, or refers to one that stands elsewhere.
    """
    if not isinstance(schema, dict | bool):
        raise _bad(what, schema, "an object")
    declared = schema.get("$schema", DRAFT) if isinstance(schema, dict) else DRAFT
    if str(declared).rstrip("#") != DRAFT:
        raise _bad(what, declared, DRAFT)
    return _validator(what, json.dumps(schema, sort_keys=True))


def violations(found: Any, what: str, value: Any) -> list[str]:
    """Return in words how a value breaks a schema; empty if it does not.

    Raises:
        BadInput: the schema refers to one that stands elsewhere.
    """
    from referencing.exceptions import Unresolvable

    try:
        errors = list(found.iter_errors(value))
    except Unresolvable as error:
        raise _bad(what, str(error), "references within the schema itself") from None
    except RecursionError:
        return ["nested too deeply"]
    except OverflowError:
        return ["a number out of range"]
    return [f"{error.json_path}: {error.message}"[:200] for error in errors]


def in_words(broken: list[str]) -> str:
    """Return the first few violations as one line."""
    more = f" (and {len(broken) - _SHOWN} more)" if len(broken) > _SHOWN else ""
    return "; ".join(broken[:_SHOWN]) + more


@lru_cache(maxsize=1000)
def _validator(what: str, schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    read = json.loads(schema)
    try:
        Draft202012Validator.check_schema(read)
    except SchemaError as error:
        raise _bad(what, error.message, "a schema of Draft 2020-12") from None
    # An empty registry: jsonschema would fetch what a schema refers to from the network.
    return Draft202012Validator(read, registry=Registry())


def _bad(what: str, value: Any, expected: str) -> BadInput:
    return BadInput(what, value, expected, "Correct the suite.")
