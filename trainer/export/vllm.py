"""vLLM: an adapter or a whole model with the files that launch a server for it.

`vllm.yaml` says how, `serve.sh` starts it, `compose.yaml` does the same in a container. A base that
is a folder is named when it is started (BASE_MODEL): its place is another one on each machine.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any, Final

import yaml

from foundation.errors import BadInput
from trainer.base import is_folder
from trainer.export import hf
from trainer.export.gguf_lora import NotConvertible, require_plain
from trainer.export.original import Original
from trainer.export.parity import Parity, with_same_ids
from trainer.recipe import SERVABLE_RANKS

CONFIG, SCRIPT, COMPOSE = "vllm.yaml", "serve.sh", "compose.yaml"
TEMPLATE: Final = "chat_template.jinja"
ADAPTER, MODEL = "adapter", "model"
PORT: Final = 8000
_GPUS: Final = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def write(original: Original, folder: Path, variant: str) -> None:
    """Write the files and what they launch.

    Raises:
        BadInput: vLLM does not serve this kind of adapter beside others.
    """
    config: dict[str, Any] = {"port": PORT, "max-model-len": _context(original)}
    if original.adapter is None:
        (folder / MODEL).mkdir()
        hf.write_whole(original, folder / MODEL)
        config["served-model-name"] = [original.name]
    else:
        (folder / ADAPTER).mkdir()
        config |= {"enable-lora": True, "max-lora-rank": _lora_rank(original), "max-loras": 1}
        hf.write_adapter(original, folder / ADAPTER)
        config["served-model-name"] = [Path(original.base_model).name]
    (folder / TEMPLATE).write_text(original.tokenizer.chat_template)
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=True))
    (folder / SCRIPT).write_text(_script(original))
    (folder / SCRIPT).chmod(0o755)
    (folder / COMPOSE).write_text(yaml.safe_dump(_compose(original), sort_keys=False))


def check(original: Original, folder: Path, variant: str) -> Parity:
    """Read the launch files again, and load what they launch."""
    _require_launchable(folder, original)
    if original.adapter is None:
        parity = hf.check_whole(original, folder / MODEL)
    else:
        parity = hf.check_adapter(original, folder / ADAPTER)
    template = (folder / TEMPLATE).read_text()
    same = 0
    for one in original.asked:
        text = original.tokenizer.apply_chat_template(
            list(original.prompts[one.place]),
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )
        same += original.tokenizer(text, add_special_tokens=False)["input_ids"] == one.ids
    return with_same_ids(parity, same, "template")


def _script(original: Original) -> str:
    name = shlex.quote(f"{original.name}=")
    if original.adapter is None:
        model, lora = f'"$here/{MODEL}"', ""
    else:
        model, lora = '"$BASE_MODEL"', f' --lora-modules {name}"$here/{ADAPTER}"'
    return (
        "#!/bin/sh\n"
        f"# Starts vLLM for {original.name}; further arguments go to it.\n"
        "set -eu\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        f"{_base_line(original)}"
        f'exec vllm serve {model} --config "$here/{CONFIG}" '
        f'--chat-template "$here/{TEMPLATE}"{lora} "$@"\n'
    )


def _base_line(original: Original) -> str:
    if original.adapter is None:
        return ""
    name = Path(original.base_model).name
    if is_folder(original.base_model):
        return f': "${{BASE_MODEL:?set it to the folder of {shlex.quote(name)}}}"\n'
    return f"BASE_MODEL=${{BASE_MODEL:-{shlex.quote(original.base_model)}}}\n"


def _compose(original: Original) -> dict[str, Any]:
    arguments = ["--config", f"/export/{CONFIG}", "--chat-template", f"/export/{TEMPLATE}"]
    volumes = ["./:/export:ro"]
    if original.adapter is None:
        arguments = [f"/export/{MODEL}", *arguments]
    else:
        arguments += ["--lora-modules", f"{original.name}=/export/{ADAPTER}"]
        if is_folder(original.base_model):
            volumes.append("${BASE_MODEL:?set it to the folder of the base}:/base:ro")
            arguments = ["/base", *arguments]
        else:
            arguments = [original.base_model, *arguments]
    service = {
        "image": "${VLLM_IMAGE:-vllm/vllm-openai:latest}",
        "command": arguments,
        "ports": [f"{PORT}:{PORT}"],
        "volumes": volumes,
        "ipc": "host",
        "deploy": {"resources": {"reservations": {"devices": [_GPUS]}}},
    }
    return {"services": {"vllm": service}}


def _lora_rank(original: Original) -> int:
    """Return the least rank that vLLM takes and the adapter fits in; raises BadInput."""
    assert original.adapter is not None
    config = json.loads((original.adapter / "adapter_config.json").read_text())
    try:
        require_plain(config)
    except NotConvertible as error:
        raise BadInput(
            f"{original.name} for vLLM", str(error), "plain LoRA", "Merge it, and export that."
        ) from error
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    fitting = [known for known in SERVABLE_RANKS if known >= rank]
    if not fitting:
        raise BadInput(
            f"{original.name} for vLLM",
            rank,
            f"a rank of at most {SERVABLE_RANKS[-1]}",
            "Merge it.",
        )
    return fitting[0]


def _context(original: Original) -> int:
    config = json.loads((original.base_folder / "config.json").read_text())
    return int(config["max_position_embeddings"])


def _require_launchable(folder: Path, original: Original) -> None:
    """Check that the files say the same, and that what they name is there; raises BadInput."""
    config = yaml.safe_load((folder / CONFIG).read_text())
    command = yaml.safe_load((folder / COMPOSE).read_text())["services"]["vllm"]["command"]
    named = [a.rpartition("=")[2] for a in command if "/export/" in a]
    gone = [n for n in named if not (folder / n.removeprefix("/export/")).exists()]
    script = (folder / SCRIPT).read_text()
    wrong = [name for name in (CONFIG, TEMPLATE) if f'"$here/{name}"' not in script]
    if original.adapter is not None and config["max-lora-rank"] not in SERVABLE_RANKS:
        wrong.append("max-lora-rank")
    if gone or wrong or not os.access(folder / SCRIPT, os.X_OK):
        raise BadInput(
            "vLLM launch files", [*gone, *wrong], "files that are there", "Export again."
        )
