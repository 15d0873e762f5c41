"""What policy gradients are made of: pure functions of a batch of B steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def log_prob(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """log pi(a|s) `[B]` of logits `[B, A]` and actions `[B]`; float32 whatever computed them."""
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


def explained_variance(value: NDArray[np.float32], return_: NDArray[np.float32]) -> float:
    """1 - Var(return - value) / Var(return), of `[N]` each: 1 is perfect, 0 a constant's worth.

    0 where all returns are the same, or there is none.
    """
    spread = float(return_.var(dtype=np.float64)) if return_.size else 0.0
    return 1.0 - float((return_ - value).var(dtype=np.float64)) / spread if spread > 0 else 0.0


def mean_of(reports: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean (0-d) over several updates of everything that they report."""
    if not reports:
        return {}
    return {name: torch.stack([r[name] for r in reports]).mean() for name in reports[0]}


def _check(first: torch.Tensor, second: torch.Tensor) -> None:
    # [B] against [B, 1] would broadcast to [B, B] in silence.
    if first.shape != second.shape or first.dim() != 1:
        raise ValueError(
            f"shapes {list(first.shape)} and {list(second.shape)}: both have to be [B]"
        )
