"""A loss over the whole optimizer batch, however it is cut into passes.

TRL's preference trainers take the mean over each pass and the mean of these means: where passes are
of unequal size (the last ones of an epoch; counted in tokens, all of them), rows in short ones
weigh more. Here each pass weighs what it holds: only batch size times accumulation counts.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep TRL's progress bars out of the log of a worker: it asks nothing but the environment."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before


class WholeBatch:
    """Mixin before a TRL trainer: weighs the passes of a step, and the batches of a validation."""

    _in_all: Mapping[str, float] = {}
    _passes: int = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._seen_rows: list[float] = []
        with _without_bars():
            super().__init__(*args, **kwargs)

    def count(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return what is counted in a pass: `rows`, and what else a loss is a mean over."""
        raise NotImplementedError

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Collect the passes of an optimizer step, as transformers does, and count over them."""
        collect: Any = super().get_batch_samples  # type: ignore[misc]
        passes, n_items = collect(epoch_iterator, num_batches, device)
        counted = [self.count(one) for one in passes]
        self._in_all = {
            name: sum(one[name] for one in counted) for name in (counted[0] if counted else ())
        }
        self._passes = len(passes)
        return passes, n_items

    def weights(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return what makes a mean over this pass its part of the mean over all passes.

        All 1 where passes are equal: transformers divides by their number. A batch of a validation
        is no part of anything, and only its rows are noted.
        """
        here = self.count(inputs)
        model: Any = self.model  # type: ignore[attr-defined]
        if model.training:
            return {name: n * self._passes / self._in_all[name] for name, n in here.items()}
        self._seen_rows.append(here["rows"])
        return dict.fromkeys(here, 1.0)

    def weigh_measured(self) -> None:
        """Put the mean over a validation's rows in the place of the means of its batches."""
        rows, self._seen_rows = self._seen_rows, []
        measured: dict[str, list[float]] = self._metrics["eval"]  # type: ignore[attr-defined]
        for name, means in measured.items():
            if len(means) == len(rows):
                weighed = sum(mean * n for mean, n in zip(means, rows, strict=True))
                measured[name] = [weighed / sum(rows)]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does, which takes the mean of what each batch has measured."""
        self.weigh_measured()
        super().log(logs, start_time)  # type: ignore[misc]
