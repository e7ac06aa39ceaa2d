"""On-policy distillation (GKD, Agarwal et al., arXiv 2306.13649): the teacher corrects own answers.

A share of the rows loses its answer to one that the student samples; teacher and student are then
compared at that answer's tokens by the generalised Jensen-Shannon divergence. Not TRL 1.16's
experimental trainer of that name: it divides the loss of a sampled answer by the tokens of the
answer that it replaced, so a student that says more has larger steps, and it ignores the
temperature. Here answers are sampled before a step's tokens are counted.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from foundation.errors import BadInput
from trainer.data import IGNORED, require_labels
from trainer.lesson import Lesson, Prepared
from trainer.methods.distill import Distiller, parts, softened
from trainer.methods.distill import prepare as prepare_distill
from trainer.recipe import AUTO, NO_PACKING
from trainer.sampling import Sampling, sample


def prepare(lesson: Lesson) -> Prepared:
    """Tokenise the rows.

    Raises:
        BadInput: as of `distill`, or rows that stand in one another's row.
    """
    if lesson.recipe.packing not in (AUTO, NO_PACKING):
        raise BadInput(
            "recipe.packing",
            lesson.recipe.packing,
            f"{NO_PACKING}, where the student answers by itself",
            "Its answers have other lengths than those that were packed.",
        )
    return prepare_distill(lesson)


def build(lesson: Lesson, prepared: Prepared) -> "OnPolicyDistiller":
    """Return the trainer over the base with its adapter, its teacher beside it."""
    knobs = lesson.recipe.distillation
    distiller = OnPolicyDistiller(
        # No answer of its own is a task's answer.
        **parts(lesson, prepared, answers_itself=True) | {"alpha": 1.0},
        share=knobs.on_policy,
        beta=knobs.divergence,
        max_new_tokens=knobs.max_new_tokens,
    )
    require_labels(distiller.train_dataset["labels"], "rows that the trainer was given")
    return distiller


class OnPolicyDistiller(Distiller):
    """A `Distiller` whose student answers a share of the prompts itself."""

    def __init__(self, *, share: float, beta: float, max_new_tokens: int, **distill: Any) -> None:
        super().__init__(**distill)
        self.share, self.beta, self.max_new_tokens = share, beta, max_new_tokens

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Return the micro-batches of one step with own answers in them, and its tokens.

        The dice follow from seed, place and process alone: a resumed start gives transformers'
        random state back only after the first step's batches are collected.
        """

        def answered() -> Iterator[Any]:
            for number, batch in enumerate(epoch_iterator):
                place = (self.args.seed, self.state.global_step, number, self.args.process_index)
                with torch.random.fork_rng():
                    torch.manual_seed(hash(place))
                    own = self._with_own_answers(batch)
                yield own

        return super().get_batch_samples(answered(), num_batches, device)  # type: ignore[no-any-return]

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the summed generalised Jensen-Shannon divergence, in nats times T²."""
        both = softened(student, teacher, self.temperature)
        return jensen_shannon(*both, self.beta) * self.temperature**2

    def _with_own_answers(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        is_own = torch.rand(len(batch["labels"])) < self.share
        if not is_own.any():
            return batch
        rows = [_row(batch, i) for i in range(len(is_own))]
        own = [i for i, is_it in enumerate(is_own.tolist()) if is_it]
        sampled = self._sample([rows[i][0] for i in own])
        for i, answer in zip(own, sampled, strict=True):
            rows[i] = rows[i][0], answer
        padded = _padded(rows, self.processing_class.pad_token_id)
        return {name: tensor.to(batch[name].device) for name, tensor in padded.items()}

    def _sample(self, prompts: list[Tensor]) -> list[Tensor]:
        """Return the student's answers, each to its end token or the limit.

        As it answers when it is asked: the temperature softens the comparison only, and what the
        base's generation config wishes (a penalty of repetition) is another student's answer.
        """
        model = self.accelerator.unwrap_model(self.model)
        pad, end = self.processing_class.pad_token_id, self.processing_class.eos_token_id
        was_training = model.training
        model.eval()
        how = Sampling(1.0, self.max_new_tokens, ends=(end,), pad=pad)
        sampled = sample(model, [prompt.tolist() for prompt in prompts], how)
        model.train(was_training)
        return [torch.tensor(answer) for answer in sampled.answers]


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Return the generalised Jensen-Shannon divergence of log-distributions, summed over tokens.

    Args:
        student: log-probabilities, tokens x vocabulary.
        teacher: the same.
        beta: 0: KL(teacher || student), 1: KL(student || teacher), between: against the mixture
            with a share of beta of the teacher.
    """
    if beta in (0, 1):
        said, meant = (student, teacher) if beta == 0 else (teacher, student)
        return functional.kl_div(said, meant, reduction="sum", log_target=True)
    shares = torch.tensor([1 - beta, beta], device=student.device).log()[:, None, None]
    mixture = torch.logsumexp(torch.stack([student, teacher]) + shares, dim=0)
    of_teacher, of_student = (
        functional.kl_div(mixture, one, reduction="sum", log_target=True)
        for one in (teacher, student)
    )
    return beta * of_teacher + (1 - beta) * of_student


def _row(batch: dict[str, Tensor], i: int) -> tuple[Tensor, Tensor]:
    """Return the ids of a row's prompt and of its answer."""
    ids = batch["input_ids"][i].cpu()
    learned = (batch["labels"][i] != IGNORED).nonzero().squeeze(1).cpu()
    return ids[: int(learned[0])], ids[int(learned[0]) : int(learned[-1]) + 1]


def _padded(rows: list[tuple[Tensor, Tensor]], pad: int) -> dict[str, Tensor]:
    whole = [torch.cat(row) for row in rows]
    labels = [torch.cat([torch.full_like(asked, IGNORED), said]) for asked, said in rows]
    return {
        "input_ids": pad_sequence(whole, True, pad),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in whole], True, 0),
        "labels": pad_sequence(labels, True, IGNORED),
    }
