"""What a training measures, under our names, whatever its method's library calls it."""

from typing import Any, Final

_NAMES: Final = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
    "mean_token_accuracy": "token_accuracy",
    "entropy": "entropy",
    "kl": "kl",
    # Preferences.
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "nll_loss": "nll_loss",
    "log_odds_ratio": "log_odds_ratio",
    # A reward model.
    "accuracy": "reward_accuracy",
    "margin": "reward_margin",
    "mean_reward": "reward",
    # Reinforcement.
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "groups_without_signal",
    "completions/mean_length": "answer_tokens",
    "completions/clipped_ratio": "cut_answers",
    "clip_ratio": "clipped",
    "clip_ratio/region_mean": "clipped",
    "sampling_gap": "sampling_gap",
    "policy_loss": "policy_loss",
    "value_loss": "value_loss",
    "explained_variance": "explained_variance",
    # Distillation and continual learning.
    "kl_loss": "kl_loss",
    "distillation_loss": "distillation_loss",
    "task_loss": "task_loss",
    "penalty": "penalty",
}
"""Measures that are shown and kept, by the library's name; the same behind `eval_`."""


def measures_of(logs: dict[str, Any]) -> dict[str, float]:
    """Return the measurements of one log line under our names; `eval_…` is `validation_…`."""
    found = {}
    for theirs, value in logs.items():
        bare = theirs.removeprefix("eval_")
        if bare in _NAMES and isinstance(value, int | float):
            prefix = "validation_" if bare != theirs else ""
            found[prefix + _NAMES[bare]] = float(value)
    return found


def history_of(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the logged steps as `{"step", "epoch", "loss" | "validation_loss", "lr", …}`."""
    lines = [(line, measures_of(line)) for line in log_history]
    return [
        {"step": line["step"], "epoch": line["epoch"], **measures}
        for line, measures in lines
        if measures
    ]


def tokens_of(log_history: list[dict[str, Any]]) -> int | None:
    """Return the tokens that were trained on, pads not counted; None if nobody counted them.

    TRL counts from 0 again in a training that is resumed: what came before is added.
    """
    before = last = 0
    counted = [int(line["num_tokens"]) for line in log_history if "num_tokens" in line]
    for n in counted:
        if n < last:
            before += last
        last = n
    return before + last if counted else None
