"""How an agent sees what an environment does: stacks, discounts, clipped rewards, lost lives."""

from __future__ import annotations

from typing import Protocol

from playfield.buffers.transitions import TransitionSpec
from playfield.envs.contract import EnvSpec


class TransitionConfig(Protocol):
    """The settings of an agent that decide it."""

    @property
    def stack(self) -> int | None: ...
    @property
    def gamma(self) -> float: ...
    @property
    def reward_clip(self) -> float: ...
    @property
    def life_loss_terminal(self) -> bool | None: ...


def stack_for(config: TransitionConfig, spec: EnvSpec) -> int:
    """Frames per observation: as the config says, or 4 for pictures of 36x36 or more, else 1."""
    if config.stack is not None:
        return config.stack
    return 4 if len(spec.frame_shape) == 3 and min(spec.frame_shape[1:]) >= 36 else 1


def transitions_for(config: TransitionConfig, spec: EnvSpec, n_step: int = 1) -> TransitionSpec:
    """What the agent learns from in this environment, life loss as its protocol has it if unset."""
    life_loss = config.life_loss_terminal
    if life_loss is None:
        life_loss = bool(spec.protocol.get("life_loss_terminal", False))
    return TransitionSpec(
        stack=stack_for(config, spec),
        n_step=n_step,
        gamma=config.gamma,
        reward_clip=config.reward_clip,
        life_loss_terminal=life_loss,
    )
