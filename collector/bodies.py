"""From the bytes of an ingest request to its records: limits, encodings, JSON and NDJSON.

A fault of one record must not cost the others, so what the quick parser refuses is read again by
the lenient one, which tells the faulty record from the good ones.
"""

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from collector.admission import MAX_DEPTH, Refusal
from collector.delivery import (
    FEEDBACK,
    INTERACTION,
    Delivery,
    Line,
    delivery_of,
    from_batch,
    line_of,
)
from collector.media import may_hold_media
from collector.schemas import MAX_BATCH, BatchHead, IngestBatch
from foundation.errors import BadInput, TooLarge

NDJSON = "application/x-ndjson"

Head = TypeVar("Head", bound=BatchHead)

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its content encoding, never making more than `limit` bytes of it.

    Raises:
        BadInput: the encoding is not identity, gzip or deflate, or the body is not of it.
        TooLarge: it is larger inside.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise BadInput(
            "content encoding", encoding, "gzip, deflate or none", "Send the body uncompressed."
        )
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadInput(
            "ingest request", str(error), f"a body that is {encoding}", "Send it again."
        ) from None
    if len(plain) > limit:
        raise too_large(f"more than {limit} bytes inflated", limit)
    if not stream.eof:
        raise BadInput("ingest request", "a cut body", f"a whole {encoding} stream", "Send again.")
    return plain


def too_large(found: object, limit: int) -> TooLarge:
    """Return the refusal of a request beyond the limit of bytes."""
    return TooLarge(
        "ingest request",
        found,
        f"at most {limit} bytes (FLYWHEEL_MAX_BATCH_BYTES)",
        "Send smaller batches, or raise the limit.",
    )


def read_body(body: bytes, content_type: str, max_record_bytes: int) -> Delivery:
    """Return the records of a body by its content type: NDJSON, or JSON for any other.

    Raises:
        BadInput: the frame of the batch cannot be read: no JSON, no source, wrong types.
        TooLarge: more than `MAX_BATCH` records.
    """
    if content_type.partition(";")[0].strip().lower() == NDJSON:
        return read_ndjson(body, max_record_bytes)
    return read_json(body, max_record_bytes)


def read_ndjson(body: bytes, max_record_bytes: int) -> Delivery:
    """Return the records of `{"source", "account"}` and a `{"kind", "record"}` per line.

    Empty lines are left out; a line that cannot be read is refused alone. Raises as `read_body`.
    """
    head, *lines = body.split(b"\n")
    return read_lines(_parsed(head)[0], lines, max_record_bytes)


def read_lines(head: Any, lines: Iterable[bytes], max_record_bytes: int) -> Delivery:
    """Return the records of NDJSON lines whose head is read already; raises as `read_body`."""
    present = [line for line in lines if line and not line.isspace()]
    _require_number(len(present))
    who = _head(BatchHead, head)
    return delivery_of(who, [_line(line, max_record_bytes) for line in present])


def read_json(body: bytes, max_record_bytes: int) -> Delivery:
    """Return the records of one JSON object, as `IngestBatch` has it; raises as `read_body`."""
    parsed, exact = _parsed(body)
    for name in ("interactions", "feedback"):
        records = parsed.get(name) if isinstance(parsed, dict) else None
        _require_number(len(records) if isinstance(records, list) else 0)
    batch = _head(IngestBatch, parsed)
    delivery = from_batch(batch, storable=exact, media=may_hold_media(body))
    if len(body) <= max_record_bytes:
        return delivery
    return replace(delivery, lines=[_bounded(line, max_record_bytes) for line in delivery.lines])


def read_records(body: bytes, kind: str, max_record_bytes: int) -> list[Line]:
    """Return the records of one JSON object, or of a list of them; raises as `read_body`."""
    parsed, exact = _parsed(body)
    records = parsed if isinstance(parsed, list) else [parsed]
    _require_number(len(records))
    lines = [line_of(kind, record, storable=exact) for record in records]
    return [_bounded(line, max_record_bytes) for line in lines]


def _parsed(body: bytes) -> tuple[Any, bool]:
    """Return what a JSON text says, and whether PostgreSQL can surely hold it."""
    values = exact(body)
    if values is not None:
        return values, True
    try:
        return _lenient(body), False
    except ValueError as error:
        raise BadInput(
            "ingest request", str(error), "JSON", f"Send a JSON object, or {NDJSON}."
        ) from None


def _line(text: bytes, max_record_bytes: int) -> Line:
    """Return a line of NDJSON; what cannot be read becomes a refused line."""
    if len(text) > max_record_bytes:
        return Line(INTERACTION, text, _oversized(len(text), max_record_bytes))
    try:
        parsed, exact = _parsed(text)
    except BadInput as error:
        return Line(INTERACTION, text, Refusal("malformed", f"not JSON: {error.value}"))
    kind = parsed.get("kind") if isinstance(parsed, dict) else None
    if kind not in (INTERACTION, FEEDBACK) or "record" not in parsed:
        refusal = Refusal("malformed", 'expected {"kind": "interaction" or "feedback", "record"}')
        return Line(INTERACTION, text, refusal)
    return line_of(kind, parsed["record"], storable=exact, media=may_hold_media(text))


def _bounded(line: Line, max_record_bytes: int) -> Line:
    if line.refusal is not None:
        return line
    size = len(json.dumps(line.record, ensure_ascii=False).encode())
    return (
        replace(line, refusal=_oversized(size, max_record_bytes))
        if size > max_record_bytes
        else line
    )


def _oversized(size: int, limit: int) -> Refusal:
    return Refusal(
        "too_large", f"{size} bytes, at most {limit} are taken (FLYWHEEL_MAX_RECORD_BYTES)"
    )


def _require_number(records: int) -> None:
    if records > MAX_BATCH:
        raise TooLarge(
            "records of an ingest request",
            records,
            f"at most {MAX_BATCH}",
            "Send smaller batches.",
        )


def _head(shape: type[Head], parsed: Any) -> Head:
    try:
        return shape.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise BadInput(
            f"ingest request, {place}", first["msg"], "the shape at /docs", "Mend the writer."
        ) from None


_LONG_NUMBER = b"0" * 20
_DIGITS_AS_ZERO = bytes(48 if chr(byte).isdigit() and byte < 128 else 32 for byte in range(256))


def exact(text: bytes) -> Any:
    """Return what a JSON text says, read quickly, or None where that takes a lenient parser.

    No NUL is in it, no half character, no number that JSON lacks: PostgreSQL can hold it. Nor any
    integer beyond 64 bits, which orjson would round.
    """
    if b"\\u0000" in text or _LONG_NUMBER in text.translate(_DIGITS_AS_ZERO):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _lenient(text: bytes) -> Any:
    """Return JSON with NaN, half surrogate pairs and bytes that are not UTF-8 left in.

    Raises:
        ValueError: it is not even that.
    """
    decoded = text.decode("utf-8-sig", "surrogateescape")
    try:
        return json.loads(decoded)
    except RecursionError:
        return json.loads(pruned(decoded))


_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_KEPT_DEPTH = MAX_DEPTH + 100


def pruned(text: str) -> str:
    """Return JSON text with everything below a depth that no record may have replaced by 0.

    The parser can read it then, and its record is refused for what is left.
    """
    pieces, start, depth = list[str](), 0, 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == _KEPT_DEPTH:
                pieces += text[start : token.start()], "0"
        elif token[0] in "]}":
            if depth == _KEPT_DEPTH:
                start = token.end()
            depth -= 1
    return "".join(pieces) + (text[start:] if depth < _KEPT_DEPTH else "")
