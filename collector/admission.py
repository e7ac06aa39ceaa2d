"""What may enter the log: a record as it came in, its checked columns or the reason of refusal out.

Pure: no session and no network. Each check costs its own record only. A record is scrubbed before
it is checked, so that a refused one can be kept, too.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, ValidationError

from collector.schemas import MAX_NAME, FeedbackRecord, InteractionRecord
from collector.scrub import Scrubber, scrub_record, server_rules
from foundation.ids import keyed_episode_id, time_of
from foundation.prices import cost_usd
from foundation.settings import get_settings

MAX_DEPTH = 254
"""Levels of JSON inside one column that can be written (orjson's limit)."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""A writer's clock may be as far ahead as this; a time before `EARLIEST` is a clock never set."""


class Refusal(Exception):
    """A record that cannot be stored; `code` is counted, the text is for its writer."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(f"{code}: {detail}")


def scrubbed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without secrets and personal data.

    Raises:
        Refusal: it is nested too deeply, or scrubbing failed: then it must not be kept anywhere.
    """
    with failing_closed():
        return scrub_record(_with_episode(raw), Scrubber(server_rules()))


@contextmanager
def failing_closed() -> Iterator[None]:
    """Refuse the record whose scrubbing raises in this block; raises as `scrubbed`."""
    try:
        yield
    except RecursionError:
        raise too_deep() from None
    except Exception as error:  # whatever went wrong, unscrubbed text must not get further
        raise Refusal("scrub_failed", type(error).__name__) from error


def _with_episode(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return feedback on a caller's key of an episode as feedback on that episode's id.

    Before scrubbing: a key may look personal, and the id is made of the key as it is everywhere.
    What is no key stays, and is refused later.
    """
    key, project = raw.get("episode_key"), raw.get("project") or get_settings().project
    if not (isinstance(key, str) and 0 < len(key) <= MAX_NAME and isinstance(project, str)):
        return raw
    named = {name: value for name, value in raw.items() if name != "episode_key"}
    if named.get("episode_id") is None:
        named["episode_id"] = str(keyed_episode_id(project, key))
    return named | {"project": project}


def interaction_columns(
    record: Mapping[str, Any], roles: Collection[str], moment: datetime
) -> dict[str, Any]:
    """Return the checked columns of an interaction, its JSON columns as Python values.

    Raises:
        Refusal: the record lacks something, has a wrong type, role or time.
    """
    columns = _validated(InteractionRecord, record)
    if columns["role"] not in roles:
        raise Refusal(
            "unknown_role",
            f"role {columns['role']!r} is not one of {', '.join(sorted(roles))}; "
            "add it to FLYWHEEL_ROLES",
        )
    _require_sane_clock("id", time_of(columns["id"]), moment)
    _require_sane_clock("started_at", columns["started_at"], moment)
    if columns["cost_usd"] is None:
        columns["cost_usd"] = _listed_cost(columns)
    return columns


def _listed_cost(columns: Mapping[str, Any]) -> float | None:
    """Return the cost by the public price list, or None without tokens or a listed model."""
    asked, said = columns["gen_ai_usage_input_tokens"], columns["gen_ai_usage_output_tokens"]
    model = columns["gen_ai_response_model"] or columns["gen_ai_request_model"]
    if asked is None or said is None or model is None:
        return None
    cached = columns["gen_ai_usage_cache_read_input_tokens"] or 0
    provider = columns["gen_ai_provider_name"]
    cost = cost_usd(model, provider, asked, said, cached)
    if cost is None and columns["gen_ai_request_model"] not in (None, model):
        return cost_usd(columns["gen_ai_request_model"], provider, asked, said, cached)
    return cost


def feedback_columns(record: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """Return the checked columns of a feedback statement; raises as `interaction_columns`."""
    columns = _validated(FeedbackRecord, record)
    _require_sane_clock("created_at", columns["created_at"], moment)
    return columns


def _validated(shape: type[BaseModel], record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return shape.model_validate(record).__dict__
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200] or "record"
        raise Refusal("invalid", f"{place}: {first['msg']}") from None
    except RecursionError:
        raise too_deep() from None


def _require_sane_clock(name: str, stated: datetime, moment: datetime) -> None:
    if stated > moment + AHEAD:
        raise Refusal(
            "clock_skew", f"{name} says {stated.isoformat()}, more than {AHEAD.days} day ahead"
        )
    if stated < EARLIEST:
        raise Refusal("clock_skew", f"{name} says {stated.isoformat()}, before {EARLIEST.year}")


def require_storable(value: Any) -> None:
    """Check that PostgreSQL can hold `value` as JSON.

    Raises:
        Refusal: it holds a NUL character, half a surrogate pair, NaN or an infinity, or is nested
            too deeply.
    """
    try:
        _require_storable(value)
    except RecursionError:
        raise too_deep() from None


def _require_storable(value: Any) -> None:
    if isinstance(value, str):
        require_storable_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Refusal("invalid_number", f"holds {value}, which JSON lacks")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _require_storable(key)
            _require_storable(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_storable(item)


def require_storable_text(text: str) -> None:
    """Check that PostgreSQL can hold `text`; raises Refusal."""
    if "\x00" in text:
        raise Refusal("invalid_text", "holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            # `surrogateescape` leaves what was no UTF-8 in this range
            escaped = "\udc80" <= text[error.start] <= "\udcff"
            found = "a byte that is not UTF-8" if escaped else "half a surrogate pair"
            raise Refusal("invalid_text", f"holds {found}") from None


def as_json(value: Any) -> bytes:
    """Return compact JSON in the order of its keys; raises Refusal beyond `MAX_DEPTH`."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        if "Recursion" in str(error):
            raise too_deep() from None
        # integers beyond 64 bits, which JSON and PostgreSQL have and orjson has not
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def too_deep() -> Refusal:
    """Return the refusal of JSON that is nested too deeply."""
    return Refusal("too_deep", f"nested deeper than {MAX_DEPTH} levels")


def known_id(raw: Any) -> str | None:
    """Return the id that a record states if it is one; what is none may be anything."""
    stated = raw.get("id") if isinstance(raw, Mapping) else None
    try:
        return str(UUID(stated)) if isinstance(stated, str) else None
    except ValueError:
        return None
