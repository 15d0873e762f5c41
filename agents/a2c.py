"""Advantage actor-critic, synchronous: one update per rollout, on all its steps.

Source: Mnih et al. 2016 (arXiv 1602.01783), of which this is OpenAI Baselines' A2C: the actors of
A3C step together instead of each on its own. docs/algorithms/a2c.md lists where it deviates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from playfield.agents.actor_critic import (
    ActorCriticConfig,
    ActorCriticPolicy,
    PolicyGradientConfig,
    build_player,
    build_policy,
    look,
)
from playfield.agents.collector import Collected
from playfield.agents.policy_gradient import (
    entropy,
    explained_variance,
    log_prob,
    normalized,
    policy_gradient_loss,
    value_loss,
)
from playfield.agents.rollout_trainer import RolloutTrainer
from playfield.buffers.returns import gae
from playfield.buffers.rollout import StepBatch, StreamBatch
from playfield.envs.contract import VectorEnv
from playfield.nets.actor_critic import ActorCritic
from playfield.training.optimizers import OptimizerConfig
from playfield.training.spans import span

__all__ = ["A2C", "A2CConfig", "build_policy", "learn_at_once", "losses"]


@dataclass(frozen=True)
class A2CConfig(ActorCriticConfig):
    """A2C's settings. Steps are environment steps, counted over all environments together."""

    num_envs: int = 16
    """Environments stepped together."""
    num_steps: int = 5
    """Steps of each environment per rollout: all that the agent learns from at a time."""
    gae_lambda: float = 1.0
    """Weight of later value errors in an advantage: 0 trusts the next value, 1 only rewards."""
    normalize_advantage: bool = False
    """Bring the advantages of each batch to mean 0 and deviation 1."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            optimizer="rmsprop", learning_rate=7e-4, schedule="linear", adam_eps=1e-5,
            max_grad_norm=0.5,
        )
    )  # fmt: skip
    """How gradients become steps."""


# --- losses ---------------------------------------------------------------------------------------


def losses(
    network: ActorCritic, batch: StepBatch | StreamBatch, config: PolicyGradientConfig
) -> dict[str, torch.Tensor]:
    """The loss (0-d, with a graph) and its parts, of a batch with "advantage" and "return_".

    loss = policy_loss + value_coef * value_loss - entropy_coef * entropy, the value's being half
    the mean squared error (Mnih et al. 2016, section 4, "Asynchronous advantage actor-critic").
    """
    seen = look(network, batch)
    advantage = seen.noted["advantage"]
    if config.normalize_advantage:
        advantage = normalized(advantage)
    policy_loss = policy_gradient_loss(log_prob(seen.logits, seen.action), advantage)
    error = value_loss(seen.value, seen.noted["return_"])
    randomness = entropy(seen.logits)
    return {
        "train/loss": policy_loss + config.value_coef * error - config.entropy_coef * randomness,
        "train/policy_loss": policy_loss,
        "train/value_loss": error,
        "train/entropy": randomness,
        "train/value": seen.value.mean(),
    }


# --- training -------------------------------------------------------------------------------------


def learn_at_once(
    trainer: RolloutTrainer[ActorCritic],
    collected: Collected,
    config: PolicyGradientConfig,
    lambda_: float,
) -> dict[str, torch.Tensor | float]:
    """One update on all steps of a rollout, whose advantages are those of `gae` with `lambda_`."""
    steps, value = collected.trajectory, collected.value
    if not steps.valid.any():
        return {}  # rollouts of a single step can fall on nothing but final observations
    with span("targets"):
        advantage = gae(steps.reward, steps.discount, value, steps.ends, steps.valid, lambda_)
    targets = {"advantage": advantage, "return_": advantage + value[:-1]}
    batches: Iterator[StepBatch | StreamBatch]
    if trainer.network.memory is None:
        batches = trainer.rollout.minibatches(steps, 1, steps.valid.size, **targets)
    else:
        batches = trainer.rollout.sequences(steps, 1, trainer.env.num_envs, **targets)
    with span("sample"):
        (batch,) = batches
    with span("update"):
        found = losses(trainer.network, batch, config)
        norm = trainer.gradient_step.step(found["train/loss"])
    seen, aimed_at = value[:-1][steps.valid], targets["return_"][steps.valid]
    return {
        **{name: part.detach() for name, part in found.items()},
        "train/gradient_norm": norm,
        "train/explained_variance": explained_variance(seen, aimed_at),
    }


class A2C(RolloutTrainer[ActorCritic]):
    """The trainer. One `step` is one rollout and one update."""

    def __init__(
        self,
        config: A2CConfig,
        env: VectorEnv,
        *,
        seed: int,
        device: torch.device,
        steps: int | None = None,
    ) -> None:
        self.config = config
        network, player = build_player(config, env, seed=seed, device=device)
        super().__init__(config, env, network, player, seed=seed, device=device, steps=steps)

    def policy(self) -> ActorCriticPolicy:
        stack = self.rollout.spec.stack
        return ActorCriticPolicy(
            self.network, stack, self.device, greedy=self.config.greedy_evaluation
        )

    def learn(self, collected: Collected) -> dict[str, torch.Tensor | float]:
        return learn_at_once(self, collected, self.config, self.config.gae_lambda)
