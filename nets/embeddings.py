"""What a network is told beside an image: how noisy it is, its class, how it was changed."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.layers import RowLinear, used_weight


def sinusoids(level: torch.Tensor, features: int) -> torch.Tensor:
    """Numbers `[B]` as float32 `[B, features]`: the cosines of each, then the sines.

    Frequencies fall in equal ratios from 1 to 1/10000 (Vaswani et al. 2017, as in DDPM and EDM).
    They suit numbers that differ by 1 or more, or a range of some units; a time in [0, 1] has to be
    scaled up, or all its embeddings are about the same.
    """
    if features < 2 or features % 2:
        raise ValueError(f"{features=} has to be even: a cosine and a sine for each frequency")
    half = features // 2
    # In float64 where there is one: a processor's vectors round float32 sinusoids otherwise than
    # what is left over at the end, so one row would depend on the number of rows.
    dtype = torch.float32 if level.device.type == "mps" else torch.float64
    exponent = torch.arange(half, dtype=dtype, device=level.device) / max(half - 1, 1)
    angle = level.to(dtype).unsqueeze(1) * torch.exp(-math.log(10_000) * exponent)  # [B, half]
    return torch.cat((angle.cos(), angle.sin()), 1).float()


class LabelEmbedding(nn.Module):
    """A learned vector for each class; labels below 0 stand for none and give zeros.

    So "no label" is no class, and in particular not class 0. int64 `[B]` to float32
    `[B, features]`; a label of `classes` or more is an error.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, label: torch.Tensor) -> torch.Tensor:
        vectors = F.embedding(label.clamp(min=0), used_weight(self))
        return vectors.masked_fill((label < 0).unsqueeze(1), 0)


class ConditionEmbedding(nn.Module):
    """Noise level, label and augmentation in one vector: float32 `[B, features]`.

    Their embeddings, of `inner` numbers each, are added and go through two layers with SiLU, as in
    EDM (Karras et al. 2022, appendix F). All of it is float32: bfloat16 would tell no noise level
    from another that differs by a hundredth, and these layers are small.

    `classes=0` makes a network that looks at no label, `augment_numbers=0` one that is told of no
    augmentation. Without `augment` images count as not changed, which is what zeros say.
    """

    def __init__(self, inner: int, features: int, classes: int, augment_numbers: int) -> None:
        super().__init__()
        self.inner = inner
        self.label = LabelEmbedding(classes, inner) if classes else None
        # Without a bias: an image that was not changed adds nothing.
        self.augment = RowLinear(augment_numbers, inner, bias=False) if augment_numbers else None
        self.layers = nn.Sequential(
            RowLinear(inner, features), nn.SiLU(), RowLinear(features, features), nn.SiLU()
        )

    def forward(
        self, level: torch.Tensor, label: torch.Tensor, augment: torch.Tensor | None = None
    ) -> torch.Tensor:
        embedding = sinusoids(level, self.inner)
        if self.label is not None:
            embedding = embedding + self.label(label)
        if augment is not None:
            if self.augment is None:
                raise ValueError("augment: this network was built without augment_numbers")
            embedding = embedding + self.augment(augment)
        features: torch.Tensor = self.layers(embedding)
        return features
