"""Batches: small frozen records of tensors on the learner's device."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions of n steps or fewer, each as its learner needs it.

    The bootstrapped target of a transition is `reward + discount * value(next_obs)`, always:
    termination, truncation and the true number of steps are all in `discount`.
    """

    obs: torch.Tensor  # [B, stack*C, H, W] uint8, or [B, stack*D] float32
    action: torch.Tensor  # [B] int64
    reward: torch.Tensor  # [B] float32, the discounted sum over the steps, each reward clipped
    discount: torch.Tensor  # [B] float32, gamma^k after k steps; 0 where the episode terminated
    next_obs: torch.Tensor  # like obs, k steps later
    weight: torch.Tensor  # [B] float32, importance weights; 1 where sampling is uniform
    index: torch.Tensor  # [B] int64 on the CPU, the store's ids

    def clone(self) -> Batch:
        """A copy that stays as it is when the sampler draws again."""
        return replace(self, **{f.name: getattr(self, f.name).clone() for f in fields(self)})

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; the ids stay on the CPU."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "index"},
        )
