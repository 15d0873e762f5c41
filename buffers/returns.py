"""Advantages and returns of a rollout: GAE, λ-returns, V-trace, on arrays and on tensors.

A rollout of T steps in E environments is time-major:

    reward    [T, E]    arrived with the observation that step t led to
    discount  [T, E]    gamma; 0 where that observation is terminal
    value     [T+1, E]  value[t+1] is that of the observation that step t led to
    ends      [T, E]    bool: an episode ends with that observation, terminated or truncated alike
    valid     [T, E]    bool: False where there is no step, on the final observation of an episode

The final observation of an episode has a row of its own, so a truncated step bootstraps from
value[t+1] like any other, and only the sum over later steps stops at `ends`. Outputs are 0 where
`valid` is False, and nothing of such a row enters another, except its value as a successor's.

Each function takes numpy arrays, all float32 or all float64, and gives arrays of that type; sums
are float64 inside. Its twin `torch_…` takes tensors on one device and gives tensors there, without
a gradient: the same operations in the same order, so the same numbers up to 1e-6 (float64: 1e-13),
which is what compilers and devices do to the last bits. Devices that have no float64, such as
"mps", sum in the tensors' own type.
All raise ValueError, naming the argument, for shapes or types that do not fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import returns as kernels

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


def gae(
    reward: Floats, discount: Floats, value: Floats, ends: Bools, valid: Bools, lambda_: float
) -> Floats:
    """Generalised advantages `[T, E]` (Schulman et al. 2016, equation 16).

    The sum over the steps l that follow in the episode and the rollout of
    (discount * lambda)^l * delta, delta being reward + discount * value[t+1] - value[t].
    `advantage + value[:-1]` is the λ-return that a value function learns from.
    """
    _check(lambda_, value, ends, valid, reward=reward, discount=discount)
    advantage, carry = np.empty_like(reward), np.empty(reward.shape[1])
    kernels.gae(
        reward, discount, value, ends.view(np.uint8), valid.view(np.uint8), lambda_,
        carry, advantage,
    )  # fmt: skip
    return advantage


def lambda_returns(
    reward: Floats, discount: Floats, value: Floats, ends: Bools, valid: Bools, lambda_: float
) -> Floats:
    """λ-returns `[T, E]`: n-step returns, mixed with weights (1 - lambda) * lambda^(n-1).

    The longest return, up to the episode's end or the rollout's, has all the weight that is left
    (Sutton and Barto 2018, equation 12.3). TD(λ) with a state value; Peng's Q(λ), as PQN uses it
    (Gallici et al. 2024), with the greatest action value. `value[0]` is not read.
    """
    _check(lambda_, value, ends, valid, reward=reward, discount=discount)
    returns, carry = np.empty_like(reward), np.empty(reward.shape[1])
    kernels.lambda_returns(
        reward, discount, value, ends.view(np.uint8), valid.view(np.uint8), lambda_,
        carry, returns,
    )  # fmt: skip
    return returns


def vtrace(
    log_rhos: Floats,
    reward: Floats,
    discount: Floats,
    value: Floats,
    ends: Bools,
    valid: Bools,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    lambda_: float = 1.0,
) -> tuple[Floats, Floats]:
    """V-trace: value targets v_s and policy-gradient advantages, each `[T, E]`.

    Espeholt et al. 2018: the targets are equation 1 (with c_i = lambda * min(c_bar, ratio), remark
    2), the advantages rho_s * (r_s + discount * v_{s+1} - V(x_s)) of section 4.2, both with
    rho_s = min(rho_bar, ratio). `log_rhos` `[T, E]` is the log of the ratio: the learner's minus
    the actor's log-probability of the action. v_{s+1} is the value itself where an episode or the
    rollout ends.
    """
    _check(lambda_, value, ends, valid, log_rhos=log_rhos, reward=reward, discount=discount)
    _check_bars(rho_bar, c_bar)
    targets, advantage = np.empty_like(reward), np.empty_like(reward)
    carry = np.empty(reward.shape[1])
    kernels.vtrace(
        log_rhos, reward, discount, value, ends.view(np.uint8), valid.view(np.uint8),
        rho_bar, c_bar, lambda_, carry, targets, advantage,
    )  # fmt: skip
    return targets, advantage


@torch.no_grad()
def torch_gae(
    reward: torch.Tensor,
    discount: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    valid: torch.Tensor,
    lambda_: float,
) -> torch.Tensor:
    """`gae` on a device."""
    _check(lambda_, value, ends, valid, reward=reward, discount=discount)
    r, d, v = _wide(reward, discount, value)
    delta = r + d * v[1:] - v[:-1]
    decay = d * lambda_
    goes_on = _goes_on(ends, valid)
    total, rows = torch.zeros_like(r[0]), []
    for t in range(len(r) - 1, -1, -1):
        total = delta[t] + torch.where(goes_on[t], decay[t] * total, 0.0)
        rows.append(total)
    return torch.where(valid, torch.stack(rows[::-1]), 0.0).to(reward.dtype)


@torch.no_grad()
def torch_lambda_returns(
    reward: torch.Tensor,
    discount: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    valid: torch.Tensor,
    lambda_: float,
) -> torch.Tensor:
    """`lambda_returns` on a device."""
    _check(lambda_, value, ends, valid, reward=reward, discount=discount)
    r, d, v = _wide(reward, discount, value)
    goes_on = _goes_on(ends, valid)
    total, rows = torch.zeros_like(r[0]), []
    for t in range(len(r) - 1, -1, -1):
        mixed = (1 - lambda_) * v[t + 1] + lambda_ * total
        total = r[t] + d[t] * torch.where(goes_on[t], mixed, v[t + 1])
        rows.append(total)
    return torch.where(valid, torch.stack(rows[::-1]), 0.0).to(reward.dtype)


@torch.no_grad()
def torch_vtrace(
    log_rhos: torch.Tensor,
    reward: torch.Tensor,
    discount: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    valid: torch.Tensor,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    lambda_: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`vtrace` on a device."""
    _check(lambda_, value, ends, valid, log_rhos=log_rhos, reward=reward, discount=discount)
    _check_bars(rho_bar, c_bar)
    log_ratio, r, d, v = _wide(log_rhos, reward, discount, value)
    ratio = log_ratio.exp()
    rho = ratio.clamp(max=rho_bar)
    decay = d * (lambda_ * ratio.clamp(max=c_bar))
    delta = rho * (r + d * v[1:] - v[:-1])
    goes_on = _goes_on(ends, valid)
    correction, corrections = torch.zeros_like(r[0]), []  # v_s - V(x_s)
    after = []  # v_{s+1} - V(x_{s+1})
    for t in range(len(r) - 1, -1, -1):
        after.append(torch.where(goes_on[t], correction, 0.0))
        correction = delta[t] + decay[t] * after[-1]
        corrections.append(correction)
    targets = v[:-1] + torch.stack(corrections[::-1])
    advantage = rho * (r + d * (v[1:] + torch.stack(after[::-1])) - v[:-1])
    return (
        torch.where(valid, targets, 0.0).to(reward.dtype),
        torch.where(valid, advantage, 0.0).to(reward.dtype),
    )


def _goes_on(ends: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """`[T, E]`: whether step t+1 takes up where step t leaves off."""
    later = torch.cat([valid[1:], torch.zeros_like(valid[:1])])
    return valid & ~ends & later


def _wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t if t.device.type == "mps" else t.to(torch.float64) for t in tensors]


def _check(lambda_: float, value: Any, ends: Any, valid: Any, **steps: Any) -> None:
    """Raise ValueError for what does not fit `reward`, arrays and tensors alike."""
    reward = steps["reward"]
    if reward.ndim != 2 or not len(reward):
        raise ValueError(f"reward is {list(reward.shape)}, expected [T, E] with T of 1 or more")
    if str(reward.dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise ValueError(f"reward is {reward.dtype}, expected float32 or float64")
    length, count = reward.shape
    for name, array in {**steps, "value": value, "ends": ends, "valid": valid}.items():
        shape = [length + (name == "value"), count]
        if list(array.shape) != shape:
            raise ValueError(f"{name} is {list(array.shape)}, expected {shape}")
        if name in ("ends", "valid"):
            if str(array.dtype).removeprefix("torch.") != "bool":
                raise ValueError(f"{name} is {array.dtype}, expected bool")
        elif array.dtype != reward.dtype:
            raise ValueError(f"{name} is {array.dtype}, expected {reward.dtype} like reward")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_={lambda_} has to lie in [0, 1]")


def _check_bars(rho_bar: float, c_bar: float) -> None:
    if not 0 < c_bar <= rho_bar:
        raise ValueError(
            f"c_bar={c_bar} has to lie in (0, rho_bar], and rho_bar is {rho_bar}: "
            "V-trace is defined for those"
        )
