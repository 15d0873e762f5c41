"""What policy gradients are made of: pure functions of a batch of B steps."""

from __future__ import annotations

import torch


def log_prob(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """log pi(a|s) `[B]` float32, whatever the network computes in, of logits `[B, A]`, action `[B]`."""
    return logits.float().log_softmax(1).gather(1, action.unsqueeze(1)).squeeze(1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """The mean entropy (0-d, nats) of the policies with logits `[B, A]`."""
    log_probs = logits.float().log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1).mean()


def policy_gradient_loss(log_prob: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """-mean(advantage * log pi(a|s)) (0-d), of `[B]` each: its gradient is the policy gradient.

    Williams 1992, with a baseline in the advantage.
    """
    _check(log_prob, advantage)
    return -(advantage * log_prob).mean()


def value_loss(
    value: torch.Tensor,
    return_: torch.Tensor,
    old_value: torch.Tensor | None = None,
    clip: float | None = None,
) -> torch.Tensor:
    """Half the mean squared error (0-d) of values `[B]` against returns `[B]`.

    With `clip` a value counts as moved by no more than that from `old_value` `[B]`, and the larger
    of the two errors counts (OpenAI Baselines' PPO; not in the paper).
    """
    _check(value, return_)
    error = (value - return_).square()
    if clip is not None:
        assert old_value is not None
        _check(value, old_value)
        clipped = old_value + (value - old_value).clamp(-clip, clip)
        error = torch.maximum(error, (clipped - return_).square())
    return 0.5 * error.mean()


def normalized(advantage: torch.Tensor) -> torch.Tensor:
    """Advantages `[B]` of mean 0 and (unbiased) deviation 1; as they are where there is but one."""
    if len(advantage) == 1:
        return advantage
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def explained_variance(value: torch.Tensor, return_: torch.Tensor) -> torch.Tensor:
    """1 - Var(return - value) / Var(return) (0-d): 1 is perfect, 0 no better than a constant.

    0 where all returns are the same.
    """
    _check(value, return_)
    spread = return_.var(correction=0)
    ratio = (return_ - value).var(correction=0) / spread
    return torch.where(spread > 0, 1 - ratio, torch.zeros_like(spread))


def _check(first: torch.Tensor, second: torch.Tensor) -> None:
    # [B] against [B, 1] would broadcast to [B, B] in silence.
    if first.shape != second.shape or first.dim() != 1:
        raise ValueError(
            f"shapes {list(first.shape)} and {list(second.shape)}: both have to be [B]"
        )
