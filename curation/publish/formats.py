"""The formats that a version is exported in: from rows to what a trainer or a labelling tool reads.

Pure: rows in, JSON values out. Column names of `chat`, `prompt_completion`, `dpo` and `kto` are
TRL's (its "dataset formats" page), `alpaca` has the columns of the Stanford Alpaca data with
LLaMA-Factory's `system` and `history`, `argilla` are records as `Dataset.records.from_json` of
Argilla 2 reads them, `label_studio` are tasks with predictions of Label Studio's import.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from curation.publish.rows import Row, row_id
from curation.tables import EVAL, PREFERENCE, SFT
from foundation.chat import Message, text_of
from foundation.errors import BadInput

Json = dict[str, Any]
Records = Callable[[Callable[[], Iterable[Row]]], Iterator[Json]]
"""From a reader, which may be called twice, to what is written, a record each."""

ANSWERS: Final = (SFT, EVAL)
PARQUET: Final = "parquet"
AGENT: Final = "flywheel"
"""Who suggests a rating or a choice to a labelling tool."""


@dataclass(frozen=True)
class Format:
    """A format: of which kinds of dataset it can tell, how its files are called, its records."""

    name: str
    kinds: tuple[str, ...]
    suffix: str
    records: Records | None
    """None: the Parquet files as they are."""
    beside: Callable[[str], tuple[str, str]] | None = None
    """From the kind of dataset to name and text of a file that tells a tool how to show it."""


def get_format(name: str, kind: str) -> Format:
    """Return a format by name, for a kind of dataset.

    Raises:
        BadInput: there is no such format, or it cannot tell of that kind.
    """
    fitting = ", ".join(f.name for f in FORMATS.values() if kind in f.kinds)
    if name not in FORMATS or kind not in FORMATS[name].kinds:
        raise BadInput(
            f"format of a dataset of kind {kind}", name, f"one of {fitting}", "Choose another."
        )
    return FORMATS[name]


def chat(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """`{"messages": […]}`: the whole conversation, the answer last."""
    for row in rows():
        yield {"messages": [*row["prompt"], *row["completion"]]}


def prompt_completion(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """`{"prompt": […], "completion": […]}`: loss on the completion only."""
    for row in rows():
        yield {"prompt": row["prompt"], "completion": row["completion"]}


def alpaca(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """`{"instruction", "input", "output"}`, with `system` and `history` where there are any.

    An answer of tool calls has no such form and is left out.
    """
    for row in rows():
        if row["completion"][0].get("tool_calls"):
            continue
        *before, asked = [m for m in row["prompt"] if m.get("role") != "system"] or [{}]
        record = {
            "instruction": text_of(asked.get("content")),
            "input": "",
            "output": text_of(row["completion"][0].get("content")),
        }
        system = "\n".join(
            text_of(m.get("content")) for m in row["prompt"] if m.get("role") == "system"
        )
        history = _turns(before)
        yield (
            record
            | ({"system": system} if system else {})
            | ({"history": history} if history else {})
        )


def tasks(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """Tasks in the evaluator's exchange format: `flywheel suite add NAME FILE` stores them."""
    for row in rows():
        yield row["task"]


def dpo(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """`{"prompt": […], "chosen": […], "rejected": […]}`, each a list of messages."""
    for row in rows():
        yield {name: row[name] for name in ("prompt", "chosen", "rejected")}


def kto(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """`{"prompt": […], "completion": […], "label": bool}`, each answer once.

    An answer that won one comparison and lost another is neither good nor bad, and is left out.
    """
    labels: dict[bytes, set[bool]] = {}
    for record in _unpaired(rows()):
        labels.setdefault(_key(record), set()).add(record["label"])
    for record in _unpaired(rows()):
        if len(labels.pop(_key(record), ())) == 1:
            yield record


def argilla(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """Records with a conversation and its answers, and our view as a suggestion."""
    for row in rows():
        answers, suggestions = _argilla_parts(row)
        yield {
            "id": row_id(row),
            "fields": {"conversation": [_said(m) for m in row["prompt"]], **answers},
            "metadata": {
                name: row[name]
                for name in ("task_type", "project", "score")
                if row.get(name) is not None
            },
            "suggestions": suggestions,
            "responses": {},
            "vectors": {},
        }


def label_studio(rows: Callable[[], Iterable[Row]]) -> Iterator[Json]:
    """Tasks with a dialogue and its answers, and our view as a prediction."""
    for row in rows():
        answers, result = _label_studio_parts(row)
        dialogue = [{"author": m["role"], "text": m["content"]} for m in map(_said, row["prompt"])]
        data = {"id": row_id(row), "dialogue": dialogue, **answers}
        data |= {name: row.get(name) for name in ("task_type", "project")}
        predicted = [{"model_version": AGENT, "score": row["score"], "result": [result]}]
        yield {"data": data, "predictions": predicted if row["score"] is not None else []}


def _argilla_parts(row: Row) -> tuple[Json, Json]:
    if "chosen" in row:
        answers, better = _side_by_side(row)
        return answers, {"better": {"value": better, "score": row["score"], "agent": AGENT}}
    rating = stars(row["score"])
    suggested = {"rating": {"value": rating, "score": row["score"], "agent": AGENT}}
    return {"answer": _answer(row["completion"])}, suggested if rating else {}


def _label_studio_parts(row: Row) -> tuple[Json, Json]:
    if "chosen" in row:
        answers, better = _side_by_side(row)
        result = {"from_name": "better", "to_name": "dialogue", "type": "choices"}
        return answers, result | {"value": {"choices": [better]}}
    result = {"from_name": "rating", "to_name": "dialogue", "type": "rating"}
    return {"answer": _answer(row["completion"])}, result | {
        "value": {"rating": stars(row["score"])}
    }


def _side_by_side(row: Row) -> tuple[Json, str]:
    """Return the two answers, and which is better; by chance, but ever the same, which is first."""
    first, second = row["chosen"], row["rejected"]
    is_swapped = hashlib.sha256(row_id(row).encode()).digest()[0] % 2 == 1
    if is_swapped:
        first, second = second, first
    answers = {"answer_1": _answer(first), "answer_2": _answer(second)}
    return answers, "answer_2" if is_swapped else "answer_1"


def stars(score: float | None) -> int | None:
    """Return a score in 0-1 as a rating of 1 to 5; None for none."""
    return None if score is None else 1 + round(4 * score)


def _argilla_settings(kind: str) -> tuple[str, str]:
    names = ("answer_1", "answer_2") if kind == PREFERENCE else ("answer",)
    fields = [_argilla_field("conversation", "chat")] + [_argilla_field(n, "text") for n in names]
    if kind == PREFERENCE:
        options = [{"value": name, "text": name} for name in (*names, "tie")]
        question = {
            "name": "better",
            "title": "Which answer is better?",
            "required": True,
            "settings": {"type": "label_selection", "options": options},
        }
    else:
        options = [{"value": value} for value in range(1, 6)]
        question = {
            "name": "rating",
            "title": "How good is the answer?",
            "required": True,
            "settings": {"type": "rating", "options": options},
        }
    metadata = [
        {"name": "task_type", "title": "task type", "settings": {"type": "terms"}},
        {"name": "project", "title": "project", "settings": {"type": "terms"}},
        {"name": "score", "title": "score", "settings": {"type": "float", "min": 0.0, "max": 1.0}},
    ]
    settings = {
        "guidelines": None,
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "fields": fields,
        "questions": [question],
        "metadata": metadata,
        "vectors": [],
    }
    return "settings.json", json.dumps(settings, indent=2) + "\n"


def _argilla_field(name: str, kind: str) -> Json:
    shown = {"type": kind, "use_markdown": True}
    return {"name": name, "title": name, "required": True, "settings": shown}


def _label_studio_config(kind: str) -> tuple[str, str]:
    names = ("answer_1", "answer_2") if kind == PREFERENCE else ("answer",)
    shown = [f'  <Text name="{name}" value={quoteattr("$" + name)}/>' for name in names]
    if kind == PREFERENCE:
        asked = '  <Choices name="better" toName="dialogue" choice="single">\n'
        asked += "\n".join(f'    <Choice value="{name}"/>' for name in (*names, "tie"))
        asked += "\n  </Choices>"
    else:
        asked = '  <Rating name="rating" toName="dialogue" maxRating="5"/>\n'
        asked += '  <TextArea name="correction" toName="dialogue" rows="8"/>'
    dialogue = '  <Paragraphs name="dialogue" value="$dialogue" layout="dialogue"/>'
    return "labeling_config.xml", "\n".join(["<View>", dialogue, *shown, asked, "</View>", ""])


def _turns(messages: Iterable[Message]) -> list[list[str]]:
    """Return what was said before as pairs of question and answer."""
    turns: list[list[str]] = []
    for message in messages:
        text = text_of(message.get("content"))
        if message.get("role") == "assistant" and turns and turns[-1][1] == "":
            turns[-1][1] = text
        else:
            turns.append([text, ""])
    return turns


def _unpaired(rows: Iterable[Row]) -> Iterator[Json]:
    for row in rows:
        yield {"prompt": row["prompt"], "completion": row["chosen"], "label": True}
        yield {"prompt": row["prompt"], "completion": row["rejected"], "label": False}


def _key(record: Json) -> bytes:
    said = json.dumps([record["prompt"], record["completion"]], sort_keys=True)
    return hashlib.sha256(said.encode()).digest()


def _said(message: Message) -> Message:
    return {"role": str(message.get("role")), "content": _text(message)}


def _answer(messages: list[Message]) -> str:
    return "\n".join(map(_text, messages))


def _text(message: Message) -> str:
    """Return what a person reads of a message: its text, then its tool calls as JSON."""
    calls = message.get("tool_calls")
    shown = [json.dumps(calls, indent=1, ensure_ascii=False)] if calls else []
    return "\n".join([*filter(None, [text_of(message.get("content"))]), *shown])


FORMATS: Final = {
    made.name: made
    for made in (
        Format(PARQUET, (*ANSWERS, PREFERENCE), "parquet", None),
        Format("chat", ANSWERS, "jsonl", chat),
        Format("prompt_completion", ANSWERS, "jsonl", prompt_completion),
        Format("alpaca", ANSWERS, "jsonl", alpaca),
        Format("tasks", (EVAL,), "jsonl", tasks),
        Format("dpo", (PREFERENCE,), "jsonl", dpo),
        Format("kto", (PREFERENCE,), "jsonl", kto),
        Format("argilla", (*ANSWERS, PREFERENCE), "json", argilla, _argilla_settings),
        Format("label_studio", (*ANSWERS, PREFERENCE), "json", label_studio, _label_studio_config),
    )
}
