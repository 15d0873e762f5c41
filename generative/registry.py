"""The models that paint by name. Nothing is imported before it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from playfield.generative.painter_config import PainterConfig


@dataclass(frozen=True)
class Painter:
    """A family's name, and the place of its config."""

    name: str
    summary: str
    module: str
    config_name: str
    taught: bool = False  # begins with a trained model, and learns from it
    discriminator: bool = False  # a second network learns, which judges what the first one paints
    no_teacher: str = ""  # why nothing can be taught by one of these; "": it can

    def load_config_type(self) -> type[PainterConfig]:
        """The frozen dataclass of its settings."""
        return cast("type[PainterConfig]", getattr(import_module(self.module), self.config_name))


PAINTERS = {
    painter.name: painter
    for painter in (
        Painter(
            "diffusion",
            "Denoising diffusion: EDM (2022), or DDPM with noise, image or v predicted",
            "playfield.generative.diffusion",
            "DiffusionConfig",
        ),
        Painter(
            "flow",
            "Flow matching on straight paths (2023)",
            "playfield.generative.flow",
            "FlowConfig",
        ),
        Painter(
            "reflow",
            "A trained flow made straighter, on pairs of its own (rectified flow, 2023)",
            "playfield.generative.reflow",
            "ReflowConfig",
            taught=True,
        ),
        Painter(
            "consistency",
            "A trained diffusion model tuned to paint in one step or two (2024)",
            "playfield.generative.consistency",
            "ConsistencyConfig",
            taught=True,
            no_teacher="a consistency model, which is at its end: begin with the run that it was "
            "tuned from",
        ),
        Painter(
            "gan",
            "Two networks against each other: R3GAN (2024), hinge, WGAN-GP and others",
            "playfield.generative.gan",
            "GANConfig",
            discriminator=True,
            no_teacher="a GAN, whose generator takes no noise away step by step: begin with a run "
            "of diffusion or flow",
        ),
    )
}
