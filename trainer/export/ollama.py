"""Ollama: a Modelfile with the chat template and the stop texts, beside what it is made from."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from foundation.errors import BadInput
from trainer.export import gguf_formats
from trainer.export.gguf_formats import ADAPTER, MODEL
from trainer.export.ollama_template import ROLES, chat_shape, go_template, rendered
from trainer.export.original import Original
from trainer.export.parity import Parity, with_reader, with_same_ids

MODELFILE: Final = "Modelfile"
WHOLE_KIND, BASE_KIND, LORA_KIND = "q8_0", "f16", "f16"
"""Types of a whole model, of a base with its adapter beside it, and of that adapter."""

_PARTS: Final = re.compile(
    r'^(FROM|ADAPTER) ([^\n]+)$|^TEMPLATE """(.*?)"""$|^PARAMETER stop ("[^\n]*")$', re.M | re.S
)


def write(original: Original, folder: Path, variant: str) -> None:
    """Write `whole`, or `lora`: the base with its adapter beside it.

    Raises:
        BadInput: the chat template cannot be said in Ollama's language, or as `gguf_formats`.
    """
    lines = [f"FROM ./{MODEL}"]
    if variant == "lora":
        gguf_formats.write_base(original, folder / MODEL, BASE_KIND)
        gguf_formats.write_lora(original, folder / ADAPTER, LORA_KIND)
        lines.append(f"ADAPTER ./{ADAPTER}")
    else:
        gguf_formats.write_whole(original, folder / MODEL, WHOLE_KIND)
    template = go_template(chat_shape(original.tokenizer, _bos(original)))
    if '"""' in template:
        raise BadInput(
            "chat template", '"""', "a text that a Modelfile can hold", "Export as gguf."
        )
    lines.append(f'TEMPLATE """{template}"""')
    lines += [f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in _stops(original)]
    (folder / MODELFILE).write_text("\n".join(lines) + "\n")


def check(original: Original, folder: Path, variant: str) -> Parity:
    """Read the Modelfile and what it names again, and compare."""
    said = read_modelfile(folder / MODELFILE)
    if variant == "lora":
        parity = gguf_formats.check_lora(original, folder / said["ADAPTER"][0], LORA_KIND)
        base = replace(original, adapter=None)
        under = gguf_formats.check_whole(base, folder / said["FROM"][0], BASE_KIND)
        parity = with_reader(parity, "base", under)
    else:
        parity = gguf_formats.check_whole(original, folder / said["FROM"][0], WHOLE_KIND)
    return with_same_ids(parity, _same_ids(original, said["TEMPLATE"][0]), "template")


def _same_ids(original: Original, template: str) -> int:
    """Return how many prompts the template shows as the same ids; what it has no word for counts.

    Prompts with tools, or with contents in parts, are not the template's to show.
    """
    same = 0
    for one in original.asked:
        prompt = original.prompts[one.place]
        if not all(m["role"] in ROLES and isinstance(m["content"], str) for m in prompt):
            same += 1
            continue
        text = _bos(original) + rendered(template, prompt)
        same += original.tokenizer(text, add_special_tokens=False)["input_ids"] == one.ids
    return same


def read_modelfile(path: Path) -> dict[str, list[str]]:
    """Return what a Modelfile of ours says, by instruction.

    Raises:
        BadInput: it names a file that is not there, or says something else.
    """
    text = path.read_text()
    said: dict[str, list[str]] = {"FROM": [], "ADAPTER": [], "TEMPLATE": [], "stop": []}
    end = 0
    for found in _PARTS.finditer(text):
        if text[end : found.start()].strip():
            break
        end = found.end()
        word, name, template, stop = found.groups()
        if word:
            said[word].append(name)
        elif stop:
            said["stop"].append(json.loads(stop))
        else:
            said["TEMPLATE"].append(template)
    gone = [n for n in (*said["FROM"], *said["ADAPTER"]) if not (path.parent / n).is_file()]
    if text[end:].strip() or gone or len(said["FROM"]) != 1 or len(said["TEMPLATE"]) != 1:
        wrong = f"no {gone[0]}" if gone else text[end:].strip()[:60]
        raise BadInput("Modelfile", wrong, "FROM, ADAPTER, TEMPLATE, stop", "Export it again.")
    return said


def _bos(original: Original) -> str:
    """Return the token that Ollama puts before every text, as GGUF tells it to."""
    tokenizer = original.tokenizer
    adds = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return tokenizer.bos_token if adds and tokenizer.bos_token_id is not None else ""


def _stops(original: Original) -> Sequence[str]:
    return [original.tokenizer.convert_ids_to_tokens(end) for end in original.ends]
