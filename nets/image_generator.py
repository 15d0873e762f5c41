"""What generators of all kinds have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from playfield.nets.embeddings import LabelEmbedding


class ImageGenerator(nn.Module, ABC):
    """Latents `[B, latent]` float32 and labels int64 `[B]` to images `[B, C, H, W]` float32.

    Images are signals in about [-1, 1]. A label below 0 is none; one of more classes than there are
    is an IndexError. `dtype` is what `paint`, which is left to each kind, computes in.

    In `eval()` a latent becomes the same image, bit for bit, in batches of any size on a processor.
    """

    def __init__(self, latent: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.latent, self.dtype = latent, dtype

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if len(z) == 1 and z.device.type == "cpu" and not self.training:
            # A processor convolves a single image by another program, with other roundings.
            return self._images(torch.cat((z, z)), torch.cat((label, label)))[:1]
        return self._images(z, label)

    def _images(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        images = self.paint(z, label)
        return images.to(torch.float32, memory_format=torch.contiguous_format)

    @abstractmethod
    def paint(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The images, in any dtype and memory format."""


class LabelledLatent(nn.Module):
    """A latent with the embedding of its label behind it, as one vector of `features` numbers.

    The embedding has as many numbers as the latent, drawn as the latent is: so at first both say as
    much. Without a label it is zeros.
    """

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.label = LabelEmbedding(classes, latent) if classes else None
        self.features = 2 * latent if classes else latent

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return z if self.label is None else torch.cat((z, self.label(label)), 1)
