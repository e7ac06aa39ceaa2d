"""Distillation: match a teacher's distributions on the dataset's answers, beside the task's loss.

The loss per answer token is alpha T² KL(teacher || student) + (1 - alpha) cross-entropy, with both
distributions softened by T in the first term only (Hinton et al., arXiv 1503.02531; T² keeps the
gradients' size). The teacher runs beside the student, since its distributions over a whole
vocabulary are larger than a second forward pass is slow.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional

from foundation.errors import BadInput
from trainer.adapters import with_adapter
from trainer.arguments import precision_of
from trainer.base import load_model, load_tokenizer
from trainer.data import IGNORED, require_labels
from trainer.lesson import Lesson, Prepared
from trainer.methods.sft import AnswerTrainer, arguments, packing_on
from trainer.methods.sft import prepare as prepare_sft
from trainer.recipe import NO_PACKING

_ASK = "Name one with: --recipe FILE, distillation: {teacher: VERSION}"


def prepare(lesson: Lesson) -> Prepared:
    """Tokenise the rows.

    Raises:
        BadInput: no row is left to learn from, no teacher, or one of another vocabulary.
    """
    require_same_words(lesson)
    return prepare_sft(lesson)


def build(lesson: Lesson, prepared: Prepared) -> "Distiller":
    """Return the trainer over the base with its adapter, its teacher beside it."""
    distiller = Distiller(**parts(lesson, prepared))
    require_labels(distiller.train_dataset["labels"], "rows that the trainer was given")
    return distiller


def parts(lesson: Lesson, prepared: Prepared, *, answers_itself: bool = False) -> dict[str, Any]:
    """Return what a `Distiller` is built of; rows of a student that answers itself are padded."""
    recipe = lesson.recipe
    student = load_model(lesson.base_model, recipe.held_as, precision_of(recipe))
    teacher = load_teacher(lesson)
    require_same_ids(student, teacher, lesson)
    packing = NO_PACKING if answers_itself else packing_on(student, lesson)
    return {
        "model": with_adapter(student, lesson),
        "args": arguments(lesson, prepared, packing),
        "train_dataset": prepared.train,
        "eval_dataset": prepared.validation,
        "processing_class": lesson.tokenizer,
        "teacher": teacher,
        "temperature": recipe.distillation.temperature,
        "alpha": recipe.distillation.alpha,
    }


class Distiller(AnswerTrainer):
    """TRL's trainer with a teacher in its loss."""

    def __init__(self, *, teacher: Any, temperature: float, alpha: float, **sft: Any) -> None:
        super().__init__(**sft)
        self.teacher = self.accelerator.prepare_model(teacher.eval(), evaluation_mode=True)
        self.temperature, self.alpha = temperature, alpha

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch, over the answer tokens of the whole step."""
        if self.alpha == 0:  # nothing of the teacher's: the same sums in the same order as sft
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        student, teacher, wanted, outputs = self.answers(model, inputs)
        towards_teacher = self.divergence(student, teacher)
        task = functional.cross_entropy(student.float(), wanted, reduction="sum")
        n_tokens = len(wanted) if num_items_in_batch is None else num_items_in_batch
        loss = (self.alpha * towards_teacher + (1 - self.alpha) * task) / n_tokens
        self._note(inputs, towards_teacher, task, max(1, len(wanted)))
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # which gradients are averaged over
        return (loss, outputs) if return_outputs else loss

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the summed distance of the student from its teacher, in nats times T²."""
        return softened_kl(student, teacher, self.temperature)

    def answers(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Return both logits at the answer tokens (tokens x vocabulary), and the tokens' ids.

        The heads are computed where some row of the batch has an answer, not over the prompts.
        """
        given = {name: value for name, value in inputs.items() if name != "labels"}
        labels = inputs["labels"][:, 1:]
        is_answer = labels != IGNORED
        columns = is_answer.any(dim=0).nonzero().squeeze(1)
        asked = {**given, "use_cache": False, "logits_to_keep": columns}
        chosen = is_answer[:, columns]
        outputs = model(**asked)
        with torch.no_grad():
            taught = self.teacher(**asked).logits[chosen]
        return outputs.logits[chosen], taught, labels[is_answer], outputs

    def _note(self, inputs: dict[str, Any], distance: Tensor, task: Tensor, n: int) -> None:
        """Log both parts of the loss per token, and the tokens seen, as TRL's trainer does."""
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["teacher_loss"].append(distance.item() / n)
        self._metrics[mode]["task_loss"].append(task.item() / n)
        if mode == "train":
            mask = inputs.get("attention_mask")
            seen = inputs["labels"].numel() if mask is None else int(mask.sum())
            self._total_train_tokens += seen
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² KL(teacher || student), summed over tokens; 0 for equal logits.

    Args:
        student: logits, tokens x vocabulary.
        teacher: the same; a head padded to another width is cut to the narrower one.
        temperature: that both are divided by.
    """
    said, taught = softened(student, teacher, temperature)
    kl = functional.kl_div(said, taught, reduction="sum", log_target=True)
    return kl * temperature**2


def softened(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return both log-distributions over the words that both heads have, softened by T."""
    width = min(student.shape[-1], teacher.shape[-1])
    said, taught = (
        functional.log_softmax(logits[..., :width].float() / temperature, dim=-1)
        for logits in (student, teacher)
    )
    return said, taught


def load_teacher(lesson: Lesson) -> Any:
    """Return the teacher, frozen and in evaluation mode."""
    base, adapter = named_teacher(lesson)
    with torch.random.fork_rng(devices=[]):  # peft draws weights before it reads them
        model = load_model(base, precision=precision_of(lesson.recipe))
        if adapter is not None:
            model = PeftModel.from_pretrained(model, str(adapter))
    return model.eval().requires_grad_(False)


def named_teacher(lesson: Lesson) -> tuple[str, Path | None]:
    """Return the teacher's base and adapter; raises BadInput where the recipe names none."""
    if lesson.teacher is None:
        expected = "a version's name, or a base model's folder or hub name"
        raise BadInput("recipe.distillation.teacher", None, expected, _ASK)
    return lesson.teacher


def require_same_words(lesson: Lesson) -> None:
    """Check that teacher and student mean the same by each token id, by their tokenizers.

    Raises:
        BadInput: naming both tokenizers, their sizes, and the first id that differs.
    """
    base, _ = named_teacher(lesson)
    own, other = (
        {index: word for word, index in tokenizer.get_vocab().items()}
        for tokenizer in (lesson.tokenizer, load_tokenizer(base))
    )
    if own == other:
        return
    odd = min(index for index in own.keys() | other.keys() if own.get(index) != other.get(index))
    raise BadInput(
        "recipe.distillation.teacher",
        f"{Path(base).name}: {len(other):,} words, id {odd} is {other.get(odd)!r}",
        f"the vocabulary of {Path(lesson.base_model).name}: {len(own):,} words, "
        f"id {odd} is {own.get(odd)!r}",
        "Learn from that teacher's answers instead: flywheel distill answers",
    )


def require_same_ids(student: Any, teacher: Any, lesson: Lesson) -> None:
    """Check that both heads reach every word; heads are often padded, to different widths."""
    words = max(lesson.tokenizer.get_vocab().values()) + 1
    widths = [model.config.get_text_config().vocab_size for model in (student, teacher)]
    if min(widths) < words:
        raise BadInput(
            "heads of student and teacher",
            f"{widths[0]:,} and {widths[1]:,} ids",
            f"at least the {words:,} ids of their tokenizer",
            "Repair the model whose head is too narrow.",
        )
