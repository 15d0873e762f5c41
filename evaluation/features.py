"""Images as rows of numbers that a network makes of them, to compare sets of images by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from playfield.evaluation.images import Features

#: Images that are handed to a network at once, unless it is said otherwise.
BATCH = 128


class FeatureNetwork(Protocol):
    """A network, fixed for good, with what it takes to tell its features from others."""

    @property
    def name(self) -> str:
        """What it is, such as "inception"."""

    @property
    def sha256(self) -> str:
        """Of its weights."""

    @property
    def preprocessing(self) -> str:
        """What is done to the bytes before the network sees them, in words."""

    @property
    def size(self) -> int:
        """Numbers per image, D."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features `[B, D]` of images `[B, C, H, W]`, each by itself, whatever is beside it.

        Raises `UserError` for images that are not such as the network takes.
        """


@dataclass(frozen=True, eq=False)
class TorchFeatures:
    """A `FeatureNetwork` of torch: bytes, prepared, through `module`.

    On a processor an image has the same features bit for bit in any company: how a product is
    rounded depends on how many rows it has, so the network always sees `block` images, black ones
    where there are no more. On a GPU products are of float32 as well, not of TF32.
    """

    name: str
    sha256: str
    preprocessing: str
    size: int
    module: nn.Module  # in `eval()`: [B, …] float32 to [B, D]
    prepare: Callable[[torch.Tensor], torch.Tensor]  # uint8 [B, C, H, W] to what `module` takes
    device: torch.device | str = "cpu"
    block: int = 16

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = [self._features(block) for block in torch.split(torch.tensor(images), self.block)]
        result: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
        return result

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        filled = F.pad(images, (0, 0) * 3 + (0, self.block - len(images)))
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            features: torch.Tensor = self.module(self.prepare(filled.to(self.device)))
        return features[: len(images)].float()


def extract(
    network: FeatureNetwork, images: NDArray[np.uint8], batch_size: int = BATCH
) -> Features:
    """The features of `images` `[N, C, H, W]`, which may be mapped from a file.

    `batch_size` images at a time are read and handed to the network; the result does not depend on
    it. Raises ValueError for what are no images, and what the network raises.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(
            f"images: {images.dtype} of shape {list(images.shape)}, expected uint8 [N, C, H, W], "
            "not empty"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} has to be 1 or more")
    rows = np.empty((len(images), network.size), np.float32)
    for start in range(0, len(images), batch_size):
        end = start + batch_size
        rows[start:end] = network(images[start:end])
    return Features(rows, network.name, network.sha256, network.preprocessing)
