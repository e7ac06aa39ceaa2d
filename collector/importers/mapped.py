"""Any JSONL, CSV or Parquet file: a mapping file says which column is what (see `mapping`).

`messages` makes an interaction of every answer; `prompt` (or `messages` without answers, or a whole
`request`) with `answer` or `response` makes one. Feedback belongs to the last of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from collector.admission import EARLIEST
from collector.importers.answers import last_answer, one_per_answer
from collector.importers.exchange import request_of, response_of, says_something
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, parsed, read_rows
from collector.importers.mapping import NUMBERS, TEXTS, Column, RowMapping, read_mapping
from collector.importers.messages import asked_with, openai_messages
from collector.importers.moments import RECORDED_AT, moment_of
from collector.importers.row import Row
from collector.importers.source import Source
from foundation.chat import Message, message

FORMAT = "mapped"

_COLUMNS = {
    "input_tokens": "gen_ai_usage_input_tokens",
    "output_tokens": "gen_ai_usage_output_tokens",
}


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file; raises BadInput for a faulty mapping file."""
    mapping = read_mapping(source.mapping)
    return read_rows(source, lambda raw, place, source: _imported(raw, place, source, mapping))


def _imported(
    raw: dict[str, Any], place: int, source: Source, mapping: RowMapping
) -> list[Imported]:
    columns = mapping.columns
    texts = {name: columns[name].text(raw) for name in TEXTS if name in columns}
    named = {n: texts[n] for n in ("project", "task_type") if texts.get(n)}
    plain_row = {n: v for n, v in raw.items() if n not in ("agent_role", "role", "project")}
    row = Row.of(
        FORMAT,
        {**plain_row, **named},
        place,
        source,
        role=texts.get("role") or source.defaults.role,
        moment=_started(columns.get("started_at"), raw),
    )
    row = row.in_episode(texts.get("episode"))
    more = _more_columns(raw, mapping, texts)
    found = _interactions(row, raw, columns, texts.get("model"), more)
    found[-1].feedback.extend(_statements(row, raw, mapping, len(found) - 1))
    return found


def _interactions(
    row: Row,
    raw: Mapping[str, Any],
    columns: Mapping[str, Column],
    model: str | None,
    more: dict[str, Any],
) -> list[Imported]:
    request = asked_with(model, columns["tools"].value(raw) if "tools" in columns else None)
    if "request" in columns:
        request |= request_of(columns["request"].value(raw), columns["request"].written)
        prompt: list[Message] = list(request.pop("messages", None) or [])
    elif "messages" in columns:
        said = openai_messages(columns["messages"].value(raw), columns["messages"].written)
        said = [(m, False) for m in _system(raw, columns)] + said
        if "answer" not in columns and "response" not in columns:
            return one_per_answer(row, request, said, **more)
        prompt = [m for m, _ in said]
    else:
        prompt = [*_system(raw, columns), *_said(raw, columns["prompt"], "user")]
    if "response" in columns:
        response = response_of(columns["response"].value(raw), row, 0, model)
        if not says_something(response):
            raise NoAnswer(f"{columns['response'].written}: is empty")
        asked = request | ({"messages": prompt} if prompt else {})
        return [row.interaction(0, asked, response, **more)]
    if "answer" not in columns:
        raise Malformed("answer: the mapping names none")
    answers = _said(raw, columns["answer"], "assistant")
    return [last_answer(row, request, [*prompt, *answers[:-1]], answers[-1], **more)]


def _system(raw: Mapping[str, Any], columns: Mapping[str, Column]) -> list[Message]:
    text = columns["system"].text(raw) if "system" in columns else None
    return [message("system", text)] if text else []


def _said(raw: Mapping[str, Any], column: Column, role: str) -> list[Message]:
    """Return a column's text or messages; raises Malformed, or NoAnswer for an empty answer."""
    value = parsed(column.value(raw))
    if value is None or value in ("", [], {}):
        empty = f"{column.written}: is empty"
        raise NoAnswer(empty) if role == "assistant" else Malformed(empty)
    if isinstance(value, dict) and "role" not in value and "from" not in value:
        value = str(column.value(raw))
    if isinstance(value, dict | list):
        return [said for said, _ in openai_messages(value, column.written)]
    return [message(role, str(value))]


def _started(column: Column | None, raw: Mapping[str, Any]) -> Any:
    value = column.value(raw) if column else None
    if column is None or value is None:
        return RECORDED_AT if column else None
    moment = moment_of(value)
    if moment is None or moment < EARLIEST:
        raise column.fault(value, "a time: ISO 8601 or seconds since 1970, after 1999")
    return moment


def _more_columns(
    raw: Mapping[str, Any], mapping: RowMapping, texts: Mapping[str, str | None]
) -> dict[str, Any]:
    more: dict[str, Any] = {n: texts[n] for n in ("key", "unit_id", "status") if texts.get(n)}
    for name in NUMBERS:
        number = mapping.columns[name].number(raw) if name in mapping.columns else None
        if number is not None:
            more[_COLUMNS.get(name, name)] = int(number) if name in _COLUMNS else number
    attributes = {n: v for n, c in mapping.attributes.items() if (v := c.value(raw)) is not None}
    return more | ({"attributes": attributes} if attributes else {})


def _statements(
    row: Row, raw: Mapping[str, Any], mapping: RowMapping, number: int
) -> Iterator[dict[str, Any]]:
    for said in mapping.feedback:
        value = said.number(raw)
        text = said.text.text(raw) if said.text else None
        if value is None and not text:
            continue
        yield row.feedback(
            number,
            said.kind,
            said.name,
            value=value,
            text=text,
            source=said.source,
            actor=said.actor.text(raw) if said.actor else None,
        )
