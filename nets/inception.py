"""Inception-v3 as the FID has always used it: TensorFlow's network of December 2015.

Szegedy et al. 2015 ("Rethinking the Inception architecture"), figure 5 to 7, with 1008 classes. It
differs from torchvision's in how blocks pool: averages leave out what lies beyond the border, and
the last block takes the maximum. Modules have the names of the weights that were carried over, in
pytorch-fid's file (`pt_inception-2015-12-05-6726825d.pth`) as in torch-fidelity's (`weights-…`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

#: Pixels per side of what it sees.
SIZE = 299
#: Features of an image, "pool3".
FEATURES = 2048


class FIDInception(nn.Module):
    """Images `[B, 3, 299, 299]` float32, (bytes - 128) / 128, to features `[B, 2048]`, 0 or more.

    In `eval()`, where it has to be used, images are seen each by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = ReductionA(288)
        self.Mixed_6b = BlockB(768, 128)
        self.Mixed_6c = BlockB(768, 160)
        self.Mixed_6d = BlockB(768, 160)
        self.Mixed_6e = BlockB(768, 192)
        self.Mixed_7a = ReductionB(768)
        self.Mixed_7b = BlockC(1280, _average)
        self.Mixed_7c = BlockC(FEATURES, _maximum)
        self.fc = nn.Linear(FEATURES, 1008)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(memory_format=torch.channels_last)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)  # [B, 64, 73, 73]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)  # [B, 192, 35, 35]
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6a(x)  # [B, 768, 17, 17]
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7a(x)  # [B, 1280, 8, 8]
        x = self.Mixed_7c(self.Mixed_7b(x))
        return x.mean((2, 3))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Features `[B, 2048]` to logits `[B, 1008]` of TensorFlow's classes of ImageNet."""
        logits: torch.Tensor = self.fc(features)
        return logits


class ConvNorm(nn.Module):
    """A convolution without bias, a batch norm and a ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class BlockA(nn.Module):
    """Figure 5, at 35×35; one 5×5 convolution has stayed."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 64, 1)
        self.branch5x5_1 = ConvNorm(channels, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(channels, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(_average(x))), 1)


class BlockB(nn.Module):
    """Figure 6, at 17×17: convolutions of 7×7 as pairs of 1×7 and 7×1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        row, column = _seven_wide, _seven_high
        self.branch1x1 = ConvNorm(channels, 192, 1)
        self.branch7x7_1 = ConvNorm(channels, width, 1)
        self.branch7x7_2 = row(width, width)
        self.branch7x7_3 = column(width, 192)
        self.branch7x7dbl_1 = ConvNorm(channels, width, 1)
        self.branch7x7dbl_2 = column(width, width)
        self.branch7x7dbl_3 = row(width, width)
        self.branch7x7dbl_4 = column(width, width)
        self.branch7x7dbl_5 = row(width, 192)
        self.branch_pool = ConvNorm(channels, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(_average(x))), 1)


class BlockC(nn.Module):
    """Figure 7, at 8×8, with branches that fork once more; `pool` feeds the last one."""

    def __init__(self, channels: int, pool: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = ConvNorm(channels, 320, 1)
        self.branch3x3_1 = ConvNorm(channels, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvNorm(channels, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvNorm(channels, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        )
        return torch.cat(branches, 1)


class ReductionA(nn.Module):
    """Figure 10: from 35×35 to 17×17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)), 1)


class ReductionB(nn.Module):
    """Likewise from 17×17 to 8×8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(channels, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(channels, 192, 1)
        self.branch7x7x3_2 = _seven_wide(192, 192)
        self.branch7x7x3_3 = _seven_high(192, 192)
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch3x3_2(self.branch3x3_1(x))
        double = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        double = self.branch7x7x3_4(double)
        return torch.cat((single, double, F.max_pool2d(x, 3, stride=2)), 1)


def _seven_wide(channels: int, width: int) -> ConvNorm:
    return ConvNorm(channels, width, (1, 7), padding=(0, 3))


def _seven_high(channels: int, width: int) -> ConvNorm:
    return ConvNorm(channels, width, (7, 1), padding=(3, 0))


def _average(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)
