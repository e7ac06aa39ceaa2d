"""The arithmetic of PPO: advantages of tokens, and the two clipped losses. Tensors in, tensors out.

Shapes are (answers, tokens); `mask` is 1 where an answer has a token. Proximal Policy Optimization
(Schulman et al., 2017) with Generalized Advantage Estimation (2016).
"""

import torch
from torch import Tensor


def token_rewards(reward: Tensor, distance: Tensor, mask: Tensor, kl: float) -> Tensor:
    """Return each token's reward: the answer's at its last one, less the way it went from home.

    Args:
        reward: of whole answers, (answers,).
        distance: log-probability of each token less that under the reference, (answers, tokens).
        mask: of tokens; each answer has at least one.
        kl: weight of the distance.
    """
    rewards = -kl * distance * mask
    last = (mask.sum(1) - 1).long()
    rewards[torch.arange(len(reward), device=reward.device), last] += reward
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float
) -> Tensor:
    """Return the advantage of each token; nothing is worth anything after an answer's end."""
    advantages = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[:, 0])
    value_ahead = torch.zeros_like(ahead)
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + discount * value_ahead - values[:, t]
        ahead = (surprise + discount * gae_lambda * ahead) * mask[:, t]
        value_ahead = values[:, t] * mask[:, t]
        advantages[:, t] = ahead
    return advantages


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Return values of mean 0 and variance 1 over all tokens; those of one value become 0."""
    n = mask.sum().clamp(min=1)
    mean = (values * mask).sum() / n
    spread = (((values - mean) ** 2) * mask).sum() / n
    return (values - mean) / (spread.sqrt() + 1e-8) * mask


def policy_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return each token's clipped loss: no gain is seen in moving its ratio further than `clip`."""
    ratio = (log_probs - old).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Return each token's squared error, clipped as the policy's: by the worse of both."""
    near = old + (values - old).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2


def explained(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return the share of the returns' variance that the values foretell; below 0: worse than none.

    0 where the returns have no spread.
    """
    own = mask.bool()
    spread = returns[own].var(correction=0)
    if spread == 0:
        return 0.0
    return float(1 - (returns - values)[own].var(correction=0) / spread)
