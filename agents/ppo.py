"""Proximal policy optimisation.

Source: Schulman et al. 2017 (arXiv 1707.06347). The details that the paper leaves out are those of
OpenAI Baselines, as Huang et al. 2022 ("The 37 Implementation Details of PPO") count them;
docs/algorithms/ppo.md says which, and where this deviates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.agents.actor_critic import (
    ActorCriticConfig,
    ActorCriticPolicy,
    build_player,
    build_policy,
    look,
    look_at_streams,
)
from playfield.agents.collector import Collected
from playfield.agents.policy_gradient import (
    entropy,
    explained_variance,
    log_prob,
    mean_of,
    normalized,
    value_loss,
)
from playfield.agents.rollout_trainer import RolloutTrainer
from playfield.buffers.returns import gae, vtrace
from playfield.buffers.rollout import StepBatch, StreamBatch, Trajectory
from playfield.envs.contract import VectorEnv
from playfield.errors import UserError
from playfield.nets.actor_critic import ActorCritic
from playfield.training.optimizers import OptimizerConfig
from playfield.training.schedules import Linear
from playfield.training.spans import each, span, spanned

__all__ = ["PPO", "PPOConfig", "approximate_kl", "build_policy", "surrogate_loss"]


@dataclass(frozen=True)
class PPOConfig(ActorCriticConfig):
    """PPO's settings. Steps are environment steps, counted over all environments together."""

    epochs: int = 4
    """Times that each rollout is learned from."""
    batch_size: int = 256
    """Steps per update; with a memory, as many whole streams as give about that."""
    clip: float = 0.1
    """How far, as a share, an action's chance may move in one rollout before it stops to pay."""
    anneal_clip: bool = False
    """Let clip fall to 0 in a straight line over the run."""
    value_clip: float | None = None
    """Count a value as moved by no more than that in one rollout; None: don't."""
    target_kl: float | None = None
    """Leave a rollout when the policy has moved by 1.5 times this (nats); None: never."""
    overlap: bool = False
    """Collect the next rollout while learning from this one. The data is then one rollout older
    than the policy, which V-trace corrects. It pays where learning leaves cores idle."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=2.5e-4, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
        )
    )
    """How gradients become steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} has to be 1 or more, not {getattr(self, name)}.")
        for name in ("clip", "value_clip", "target_kl"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} has to be more than 0, not {value}.")


# --- losses ---------------------------------------------------------------------------------------


def surrogate_loss(
    log_prob: torch.Tensor, old_log_prob: torch.Tensor, advantage: torch.Tensor, clip: float
) -> torch.Tensor:
    """-mean(min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A)) (0-d), of `[B]` each.

    ratio = pi(a|s) / pi_old(a|s). Schulman et al. 2017, equation 7.
    """
    if not log_prob.shape == old_log_prob.shape == advantage.shape or log_prob.dim() != 1:
        raise ValueError(
            f"shapes {list(log_prob.shape)}, {list(old_log_prob.shape)} and "
            f"{list(advantage.shape)}, expected [B] three times"
        )
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


def approximate_kl(log_prob: torch.Tensor, old_log_prob: torch.Tensor) -> torch.Tensor:
    """KL(pi_old || pi) (0-d, nats) from samples of pi_old: mean(ratio - 1 - log ratio).

    Never negative, and of less variance than mean(-log ratio) (Schulman 2020, "Approximating KL
    divergence").
    """
    log_ratio = log_prob - old_log_prob
    return (log_ratio.exp() - 1 - log_ratio).mean()


# --- training -------------------------------------------------------------------------------------


def even_share(count: int, size: int) -> int:
    """The size of batches that share `count` items evenly, no more than `size` (or 1) in each.

    Without it a batch of one or two leftovers could move the weights as far as a full one.
    """
    batches = max(1, -(-count // max(1, size)))
    return max(1, -(-count // batches))


class PPO(RolloutTrainer[ActorCritic]):
    """The trainer. One `step` is one rollout, and its epochs of updates."""

    def __init__(
        self,
        config: PPOConfig,
        env: VectorEnv,
        *,
        seed: int,
        device: torch.device,
        steps: int | None = None,
    ) -> None:
        self.config = config
        network, player = build_player(config, env, seed=seed, device=device)
        super().__init__(
            config, env, network, player,
            seed=seed, device=device, steps=steps, overlap=config.overlap,
        )  # fmt: skip
        if config.anneal_clip and steps is None:
            raise UserError("anneal_clip needs the length of the run: give steps.")
        self.clip = Linear(config.clip, 0.0 if config.anneal_clip else config.clip, steps or 0)

    def policy(self) -> ActorCriticPolicy:
        stack = self.rollout.spec.stack
        return ActorCriticPolicy(
            self.network, stack, self.device, greedy=self.config.greedy_evaluation
        )

    def learn(self, collected: Collected) -> dict[str, torch.Tensor | float]:
        aim = self._corrected if self.config.overlap else self._targets
        with span("targets"):
            targets = aim(collected)
        valid = collected.trajectory.valid
        reports: list[dict[str, torch.Tensor]] = []
        for batch in each("sample", self._batches(collected.trajectory, targets)):
            report = self._update(batch)
            if report is None:
                break
            reports.append(report)
        return {
            **mean_of(reports),
            "train/explained_variance": explained_variance(
                targets["old_value"][valid], targets["return_"][valid]
            ),
        }

    @spanned("update")
    def _update(self, batch: StepBatch | StreamBatch) -> dict[str, torch.Tensor] | None:
        """One step of the optimiser; None, and no step, where the policy has moved far enough."""
        config, clip = self.config, self.clip(self.progress)
        seen = look(self.network, batch)
        old_log_prob, advantage = seen.noted["old_log_prob"], seen.noted["advantage"]
        new_log_prob = log_prob(seen.logits, seen.action)
        with torch.no_grad():
            kl = approximate_kl(new_log_prob, old_log_prob)
            clipped = ((new_log_prob - old_log_prob).exp() - 1).abs() > clip
        if config.target_kl is not None and kl.item() > 1.5 * config.target_kl:
            return None
        if config.normalize_advantage:
            advantage = normalized(advantage)
        policy_loss = surrogate_loss(new_log_prob, old_log_prob, advantage, clip)
        error = value_loss(
            seen.value, seen.noted["return_"], seen.noted["old_value"], config.value_clip
        )
        randomness = entropy(seen.logits)
        loss = policy_loss + config.value_coef * error - config.entropy_coef * randomness
        norm = self.gradient_step.step(loss)
        return {
            "train/loss": loss.detach(),
            "train/policy_loss": policy_loss.detach(),
            "train/value_loss": error.detach(),
            "train/entropy": randomness.detach(),
            "train/value": seen.value.detach().mean(),
            "train/approx_kl": kl,
            "train/clip_fraction": clipped.float().mean(),
            "train/gradient_norm": norm,
        }

    def _batches(
        self, trajectory: Trajectory, targets: dict[str, NDArray[np.float32]]
    ) -> Iterator[StepBatch | StreamBatch]:
        epochs, size = self.config.epochs, self.config.batch_size
        if self.network.memory is None:
            share = even_share(int(trajectory.valid.sum()), size)
            return self.rollout.minibatches(trajectory, epochs, share, **targets)
        share = even_share(self.env.num_envs, size // self.config.num_steps)
        return self.rollout.sequences(trajectory, epochs, share, **targets)

    def _targets(self, collected: Collected) -> dict[str, NDArray[np.float32]]:
        """What the updates aim at, by the policy that collected: `[T, E]` each."""
        steps, value = collected.trajectory, collected.value
        advantage = gae(
            steps.reward, steps.discount, value, steps.ends, steps.valid, self.config.gae_lambda
        )
        return {
            "advantage": advantage,
            "return_": advantage + value[:-1],
            "old_value": value[:-1],
            "old_log_prob": steps.extra["log_prob"],
        }

    @torch.no_grad()
    def _corrected(self, collected: Collected) -> dict[str, NDArray[np.float32]]:
        """The same of a rollout that an older policy collected, by the policy of this moment.

        V-trace (Espeholt et al. 2018) corrects the returns for the difference, and the ratio that
        is clipped starts at 1 again: the decoupled objective of Hilton et al. 2022, with V-trace's
        truncated weights. An advantage is what a return has over the value, so where the policies
        are the same it is GAE's; V-trace's own leaves lambda out of its first step. The value of
        the newest observation alone stays the old one.
        """
        steps = collected.trajectory
        value, now = collected.value.copy(), np.zeros_like(steps.reward)
        share = even_share(self.env.num_envs, self.config.batch_size // self.config.num_steps)
        self.network.eval()  # as a player is
        for batch in self.rollout.sequences(steps, 1, share):
            logits, values = look_at_streams(self.network, batch)
            chosen = log_prob(logits.flatten(0, 1), batch.action.flatten())
            columns = batch.index[0].numpy() % self.env.num_envs  # [B], which streams these are
            value[:-1, columns] = values.cpu().numpy()
            now[:, columns] = chosen.view(values.shape).cpu().numpy()
        self.network.train()
        return_, _ = vtrace(
            now - steps.extra["log_prob"], steps.reward, steps.discount, value, steps.ends,
            steps.valid, lambda_=self.config.gae_lambda,
        )  # fmt: skip
        return {
            "advantage": return_ - value[:-1],
            "return_": return_,
            "old_value": value[:-1],
            "old_log_prob": now,
        }
