"""DINOv2's vision transformers with patches of 14 pixels (Oquab et al. 2023), S, B, L and g.

Modules have the names of Meta's weights (`dinov2_vits14_pretrain.pth` and its like), with or
without registers (Darcet et al. 2023, `…_reg4_pretrain.pth`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

#: Pixels per side of a patch, and of what features are taken of.
PATCH, SIZE = 14, 224
#: Channels of an attention head, in all four.
HEAD = 64
#: Of ImageNet's images, in 0..1, by channel.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DINOv2Shape:
    """What tells one of the networks from another. `gated`: its MLPs are SwiGLUs."""

    name: str
    width: int
    depth: int
    gated: bool = False

    @property
    def hidden(self) -> int:
        """Units in an MLP: four times the width, two thirds of that if half of them are gates."""
        return 4 * self.width * 2 // 3 if self.gated else 4 * self.width


SHAPES = (
    DINOv2Shape("vits14", 384, 12),
    DINOv2Shape("vitb14", 768, 12),
    DINOv2Shape("vitl14", 1024, 24),
    DINOv2Shape("vitg14", 1536, 40, gated=True),
)


class DINOv2(nn.Module):
    """Images `[B, 3, H, W]` float32 less `MEAN` over `STD` to features `[B, width]`.

    They are the class token after the last norm. H and W are multiples of 14. `grid` is the number
    of patches per side that positions were learned for, 37 in Meta's weights; for others they are
    interpolated as Meta's code does it, in one way for networks with `registers` and in another
    for those without.
    """

    def __init__(self, shape: DINOv2Shape, *, grid: int = 37, registers: int = 0) -> None:
        super().__init__()
        width = shape.width
        self.shape, self.grid, self.registers = shape, grid, registers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of use in training alone
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    @classmethod
    def for_weights(cls, weights: Mapping[str, torch.Tensor]) -> Self | None:
        """A network, its weights yet to be loaded, of the shape that `weights` are of, if any."""
        width = _size(weights, "cls_token", 2)
        depth = sum(name.startswith("blocks.") and name.endswith(".ls1.gamma") for name in weights)
        grid = max(_size(weights, "pos_embed", 1) - 1, 0) ** 0.5
        found = [shape for shape in SHAPES if (shape.width, shape.depth) == (width, depth)]
        if not found or grid != int(grid) or not grid:
            return None
        return cls(found[0], grid=int(grid), registers=_size(weights, "register_tokens", 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = (side // PATCH for side in x.shape[2:])
        tokens = self.patch_embed(x) + self._positions(height, width)
        begin = self.cls_token + self.pos_embed[:, :1]
        if self.registers:
            begin = torch.cat((begin, self.register_tokens), 1)
        tokens = torch.cat((begin.expand(len(x), -1, -1), tokens), 1)
        for block in self.blocks:
            tokens = block(tokens)
        features: torch.Tensor = self.norm(tokens[:, 0])
        return features

    def _positions(self, height: int, width: int) -> torch.Tensor:
        """`[1, height * width, C]`."""
        learned = self.pos_embed[:, 1:]
        if (height, width) == (self.grid, self.grid):
            return learned
        image = learned.view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        if self.registers:
            image = F.interpolate(image, (height, width), mode="bicubic", antialias=True)
        else:
            # A tenth of a patch too much, against roundings, has stayed in the scale ever since.
            scale = [(side + 0.1) / self.grid for side in (height, width)]
            image = F.interpolate(image, scale_factor=scale, mode="bicubic")
        return image.flatten(2).transpose(1, 2)


class PatchEmbedding(nn.Module):
    """Images to tokens `[B, patches, width]`, row by row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class Block(nn.Module):
    """Attention and an MLP, each normalised before and scaled by channel after."""

    def __init__(self, shape: DINOv2Shape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = Attention(shape.width)
        self.ls1 = Scale(shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = GatedMLP(shape) if shape.gated else MLP(shape)
        self.ls2 = Scale(shape.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class Attention(nn.Module):
    """Of all tokens to all, in heads of 64 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(tokens).unflatten(2, (3, -1, HEAD))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, T, 64]
        mixed = F.scaled_dot_product_attention(query, key, value)
        output: torch.Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return output


class Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens * self.gamma


class MLP(nn.Module):
    """One hidden layer of GELUs."""

    def __init__(self, shape: DINOv2Shape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return output


class GatedMLP(nn.Module):
    """One hidden layer of linear units, each with a gate: SwiGLU (Shazeer 2020)."""

    def __init__(self, shape: DINOv2Shape) -> None:
        super().__init__()
        self.w12 = nn.Linear(shape.width, 2 * shape.hidden)
        self.w3 = nn.Linear(shape.hidden, shape.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=2)
        output: torch.Tensor = self.w3(F.silu(gate) * value)
        return output


def _size(weights: Mapping[str, torch.Tensor], name: str, dim: int) -> int:
    """The size of a tensor of three dimensions along one of them; 0 where there is none such."""
    tensor = weights.get(name)
    return 0 if tensor is None or tensor.ndim != 3 else tensor.shape[dim]
