"""Why something is not in a dataset, in words: what each reason means, and what would change it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reason:
    """A drop reason for people to read."""

    name: str
    """As it is stored."""
    title: str
    means: str
    remedy: str
    """What would bring such an example in, or why nothing should."""


_RECIPE: Final = "A recipe's own rule decides; see the recipe on the card."

_WORDS: Final = (
    ("error", "The call failed", "The model or its server answered with an error.",
     "Nothing: there is no answer to learn."),
    ("incomplete", "Cut off", "The stream ended before the answer was whole.",
     "Nothing: half an answer teaches to stop half-way."),
    ("no_payload", "Text is gone", "The texts had expired or were never captured.",
     "Keep payloads longer, or curate before they expire."),
    ("empty_answer", "Empty answer", "The model said nothing and called no tool.",
     "A correction by a person makes an example of it."),
    ("tool_calls", "Tool calls only", "The answer is tool calls without text.",
     "Let the recipe keep tool calls."),
    ("truncated", "Ran out of tokens", "The answer stopped at the limit of tokens.",
     "Raise the limit of the agent's calls."),
    ("refusal", "Refused", "The model declined to do the task.",
     "A correction by a person makes an example of it."),
    ("syntax_error", "Code does not parse", "Code in the answer has a syntax error.",
     "A correction by a person makes an example of it."),
    ("too_long", "Too long", "Prompt and answer are longer than the recipe allows.",
     "Raise the recipe's limit of tokens."),
    ("empty_prompt", "Nothing was asked", "There is no user or tool message before the answer.",
     "Check how the agent's calls are captured."),
    ("failed_outcome", "Proven wrong", "A test, a person or the user said that it failed.",
     "A correction, or feedback from a more trusted source. It still serves as the worse side of "
     "preference pairs."),
    ("no_outcome", "Nobody judged it", "There is no feedback that says whether it was right.",
     "Feedback: run tests, rate it, or accept it in review."),
    ("not_failed", "Not a failure", "This variant keeps proven failures only.",
     "Nothing: it is what the variant is for."),
    ("low_rating", "Rated low", "Its mean rating is below what the recipe asks for.",
     "Better ratings, or accept it in review."),
    ("low_score", "Low score", "Its calibrated score is below what the recipe asks for.",
     "More good feedback, accept it in review, or lower the recipe's least score."),
    ("too_little_feedback", "Too little feedback", "Fewer people or tests spoke than the recipe "
     "asks for.", "More feedback, or accept it in review."),
    ("rejected", "Rejected in review", "A reviewer said that nobody should learn from it.",
     "Undo the label in review."),
    ("exact_duplicate", "Exact repeat", "A kept example says the same, word for word after "
     "numbers, times and ids are masked.", "Nothing: its text is in the dataset once."),
    ("near_duplicate", "Near repeat", "A kept example says nearly the same: a Jaccard similarity "
     "of 0.8 or more, verified on the texts.",
     "Where both are wanted: name shared text as a template, so that it does not count."),
    ("over_quota", "Over its share", "Enough others of its task type, group or source "
     "were better.",
     "More of the other task types, or a larger share in the recipe."),
    ("source_cap", "Its source has its share", "It rests on the word of one key alone, which the "
     "recipe lets have no more of the dataset.", "Another key or a reviewer that judges it, a "
     "trusted source, or a larger share in the recipe."),
    ("contaminated", "Repeats a benchmark", "It teaches a task that candidates are measured by.",
     "Nothing: it would forge every evaluation on that benchmark."),
    ("human_disagrees", "Outvoted", "Reviewers who compared both answers prefer the other one.",
     "Other comparisons in review."),
    ("taken_back", "Taken back", "The reviewer who preferred it took the comparison back.",
     "Compare again in review."),
    ("contradicted", "Contradicted", "As strong a word says that the other answer is better.",
     "More feedback, or a comparison in review."),
    ("superseded", "Overtaken", "A newer word on the same answers made another pair of them.",
     "Nothing: the newer pair stands."),
)  # fmt: skip

REASONS: Final = {name: Reason(name, *said) for name, *said in _WORDS}
"""Every reason that the code of this room gives, by its stored name."""


def reason_of(name: str | None) -> Reason:
    """Return what a stored reason says; a recipe's own rules may give reasons of any name."""
    if name in REASONS:
        return REASONS[name]
    rule, _, which = (name or "").partition(":")
    if rule == "rule_error":
        return Reason(
            name or "",
            "A rule broke",
            f"The recipe's own rule {which} failed on it.",
            "Correct the rule: the log of the build has its error.",
        )
    plain = (name or "unknown").replace("_", " ")
    return Reason(name or "", plain[:1].upper() + plain[1:], _RECIPE, "Change the rule.")
