"""An adapter merged into its base: one whole model, proven to be the base with the adapter over it.

The sum is made in 32 bits and stored in the base's own type, rounded once. A merge that changes
nothing measurable is refused: it would be published as a new model, and be the old one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoTokenizer

from foundation.errors import BadInput
from trainer.base import is_trusted, load_config, load_model, load_tokenizer
from trainer.export.parity import (
    ANSWER_TOKENS,
    Parity,
    ParityFailed,
    Tolerance,
    TorchSpeaker,
    end_tokens,
    heard_along,
    judge,
    listen,
    logit_error,
)
from trainer.export.prompts import LONGEST, PLAIN, Messages, asked

LEAST_CHANGE: Final = 1e-5
"""Of ‖ΔW‖ / ‖W‖ over the adapted layers: below it an adapter is taken for one that does nothing."""

LEAST_HEARD: Final = 1e-4
"""Of the relative change of the logits by the adapter; the same."""

MOST_ROUNDED: Final = 0.5
"""Of ‖rounding‖ / ‖ΔW‖: beyond it the stored type is too coarse for what was learned."""

TOLERANCES: Final[dict[torch.dtype, Tolerance]] = {
    torch.float32: Tolerance(1e-4, 1.0),
    torch.float16: Tolerance(5e-3, 0.95),
    torch.bfloat16: Tolerance(3e-2, 0.8),
}
"""What a merge may lose, by the type it is stored in: its weights are rounded to that type."""


class NothingChanged(ParityFailed):
    """The adapter changes nothing measurable, or its change is lost in rounding."""


@dataclass(frozen=True)
class Change:
    """What an adapter adds to the layers that it sits on.

    Attributes:
        n_layers: with an adapter.
        weights: ‖ΔW‖ / ‖W‖.
        rounded: ‖stored - exact‖ / ‖ΔW‖.
    """

    n_layers: int
    weights: float
    rounded: float


@dataclass(frozen=True)
class Merged:
    """A whole model in a folder: weights, tokenizer, chat template, generation config.

    Attributes:
        folder: where it is.
        dtype: of its weights: float32, float16 or bfloat16.
        change: what the adapter added.
        heard: relative change of the logits by the adapter.
        parity: merged against adapter.
    """

    folder: Path
    dtype: str
    change: Change
    heard: float
    parity: Parity

    def as_json(self) -> dict[str, Any]:
        """What a version remembers of how it was made."""
        return {
            "dtype": self.dtype,
            "n_layers": self.change.n_layers,
            "weights_changed": self.change.weights,
            "rounded": self.change.rounded,
            "logits_changed": self.heard,
            "parity": self.parity.as_json(),
        }


def merged_folder(
    base_model: str,
    adapter_folder: Path,
    target: Path,
    prompts: Sequence[Messages] = PLAIN,
    dtype: torch.dtype | None = None,
) -> Merged:
    """Write the base with the adapter merged in as a whole model; only if it is equal to them.

    Args:
        base_model: folder or hub name that the adapter was trained on.
        adapter_folder: of PEFT; DoRA and whole modules are merged, too.
        target: a folder to make; a failed merge may leave it half written, the caller removes it.
        prompts: by which the two are compared.
        dtype: of the stored weights; None for the base's own.

    Raises:
        NotFound: the base.
        BadInput: the adapter is none of a language model, or does not fit the base.
        NothingChanged: it changes nothing, or too little for the stored type.
        ParityFailed: merged is not adapter.
    """
    base, tokenizer = load_model(base_model), load_tokenizer(base_model)
    stored_as = dtype or own_dtype(base_model)
    ends = end_tokens(base, tokenizer)
    ids = [one.ids for one in asked(tokenizer, prompts, longest_prompt(base.config))]
    adapted = over(base, adapter_folder)
    speaker = TorchSpeaker(adapted, ends)
    source = listen(speaker, ids)
    with adapted.disable_adapter():
        before = heard_along(speaker, ids, source.answers)
    heard = logit_error(before, source.logits)
    change = _merge(adapted, stored_as)
    _require_change(adapter_folder.name, change, heard, stored_as)
    whole = adapted.unload().to(stored_as)
    whole.config.dtype = stored_as
    whole.save_pretrained(target)
    untouched = AutoTokenizer.from_pretrained(base_model, trust_remote_code=is_trusted(base_model))
    untouched.save_pretrained(target)
    del base, adapted, speaker, whole
    copy = listen(TorchSpeaker(load_model(str(target)), ends), ids, source.answers)
    parity = judge(source, copy, TOLERANCES[stored_as])
    if not parity.passed:
        raise ParityFailed(f"merge of {adapter_folder.name}", parity.reasons)
    return Merged(target, str(stored_as).removeprefix("torch."), change, heard, parity)


def over(base: Any, adapter_folder: Path) -> Any:
    """Return a base with an adapter over it; raises BadInput for one that does not fit."""
    try:
        adapted = PeftModel.from_pretrained(base, str(adapter_folder))
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(
            "adapter",
            adapter_folder.name,
            "one that was trained on this base",
            f"Name its own base. PEFT said: {reason}",
        ) from error
    kind = adapted.peft_config["default"].task_type
    if kind not in (None, "CAUSAL_LM"):
        raise BadInput("adapter", kind, "one of a language model", "A reward model is not merged.")
    return adapted


def own_dtype(base_model: str) -> torch.dtype:
    """Return the type that a model's weights are stored in; 32 bits where its config is silent."""
    dtype = load_config(base_model).dtype
    return dtype if dtype in TOLERANCES else torch.float32


def longest_prompt(config: Any, n_tokens: int = ANSWER_TOKENS) -> int:
    """Return how many tokens a prompt may have, so that an answer still fits."""
    return min(LONGEST, int(config.max_position_embeddings) - n_tokens)


def _merge(adapted: Any, stored_as: torch.dtype) -> Change:
    """Add the adapter to the base's weights, layer by layer, and return by how much they changed.

    Raises:
        BadInput: the sum is not finite.
    """
    n_layers, base, change, rounding = 0, 0.0, 0.0, 0.0
    for layer in adapted.modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        weight = layer.get_base_layer().weight
        before = weight.detach().clone()
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise BadInput("adapter", "NaN or infinity", "finite weights", str(error)) from error
        after = weight.detach()
        n_layers += 1
        base += _squared(before)
        change += _squared(after - before)
        rounding += _squared(after.to(stored_as).float() - after)
    return Change(
        n_layers,
        weights=(change / base) ** 0.5 if base else 0.0,
        rounded=(rounding / change) ** 0.5 if change else 0.0,
    )


def _squared(weights: torch.Tensor) -> float:
    return float(weights.double().square().sum())


def _require_change(name: str, change: Change, heard: float, stored_as: torch.dtype) -> None:
    if (change.n_layers and change.weights < LEAST_CHANGE) or heard < LEAST_HEARD:
        raise NothingChanged(
            f"merge of {name}",
            [
                f"the adapter changes its layers by {change.weights:.2g} of their size and the "
                f"logits by {heard:.2g}, expected at least {LEAST_CHANGE:g} and {LEAST_HEARD:g}: "
                "it would be the base under a new name"
            ],
        )
    if change.rounded > MOST_ROUNDED:
        raise NothingChanged(
            f"merge of {name}",
            [
                f"{change.rounded:.0%} of what was learned is lost in rounding to {stored_as}, "
                f"allowed {MOST_ROUNDED:.0%}: merge in float32, or serve the adapter"
            ],
        )
