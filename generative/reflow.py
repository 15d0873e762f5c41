"""Rectified flow's second stage (Liu et al. 2023): the paths of a trained flow made straight.

A flow's own paths bend, so a solver needs many steps along them. Reflow trains a flow anew on
pairs of a noise and the image that the first flow leads it to. The straight lines between the two
hardly cross, and few steps, or one, follow them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from playfield.errors import UserError
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.flow import Flow, FlowObjectiveConfig
from playfield.generative.flow_samplers import flow_midpoint
from playfield.generative.objective import (
    Denoiser,
    Draw,
    Family,
    Losses,
    Network,
    Objective,
    Velocity,
)
from playfield.generative.teacher import Teacher
from playfield.generative.time_grids import flow_times


@dataclass(frozen=True)
class Reflow(Objective):
    """A flow's training on the pairs of another one's; times are t.

    Of the images that it is given only the labels count, and what `augment` says of them does not:
    the image of each pair is painted in training, from the pair's noise and for its label.
    """

    teacher: Velocity  # of a trained flow in evaluation mode, best with its averaged weights
    flow: Flow = field(default_factory=Flow)
    steps: int = 16  # of the midpoint method from noise to image: two network calls each

    def __post_init__(self) -> None:
        flow_times(self.steps)  # raises UserError for less than one step

    # Samplers ask the straightened flow what they ask any flow.
    @property
    def family(self) -> Family:
        return "flow"

    @property
    def sigma_min(self) -> float:
        return self.flow.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.flow.sigma_max

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
        return self.flow.draw(shape, generator)

    def judge(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        draw: Draw,
    ) -> Losses:
        return self.flow.judge(network, self.paint(draw.noise, label), label, None, draw)

    @torch.no_grad()
    def paint(self, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The images `[B, C, H, W]` that the teacher's flow leads `noise` of that shape to."""
        image = flow_midpoint(self.teacher, noise, flow_times(self.steps), label)
        return image.to(noise.dtype)

    def velocity(self, network: Network, augment: torch.Tensor | None = None) -> Velocity:
        """The network as dx/dt, as for `Flow`."""
        return self.flow.velocity(network, augment)

    def denoiser(self, network: Network, augment: torch.Tensor | None = None) -> Denoiser:
        return self.flow.denoiser(network, augment)


@dataclass(frozen=True)
class ReflowConfig(DenoiserConfig):
    """The settings of a flow that learns from another one's pairs. Steps are images."""

    objective: FlowObjectiveConfig = field(default_factory=FlowObjectiveConfig)
    """What it learns."""
    pair_steps: int = 16
    """Steps, of two evaluations each, in which the first flow paints the image of each noise."""

    @property
    def asks_teacher(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pair_steps < 1:
            raise UserError(f"pair_steps has to be 1 or more, not {self.pair_steps}.")

    def build_objective(self, std: float, teacher: Teacher | None) -> Flow | Reflow:
        """Training asks the first flow; without it, what the model means is a flow."""
        flow = self.objective.build()
        if teacher is None or teacher.network is None:
            return flow
        if not isinstance(teacher.objective, Flow):
            raise UserError(
                "reflow straightens a flow, and the model to begin with is none: give a run of "
                "`playfield train flow`."
            )
        velocity = teacher.objective.velocity(teacher.network)
        return Reflow(velocity, flow, self.pair_steps)
