"""How much the images of a batch differ, told to a discriminator that sees one at a time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def minibatch_std(x: torch.Tensor, group: int) -> torch.Tensor:
    """Deviation over the images of a group, mean of all features: `[B, C, H, W]` to float32 `[B]`.

    All images of a group are given the same number (Karras et al. 2018, section 3; in groups as in
    StyleGAN). A batch falls into `B // group` groups, at least one: image i is in group i modulo
    their number, as StyleGAN has it. Where `group` does not divide the batch, groups are larger by
    an image or more, and none is left with a single one, whose deviation of 0 would give it away.
    """
    if group < 1:
        raise ValueError(f"{group=} has to be 1 or more")
    batch = len(x)
    groups = max(1, batch // group)
    rows = -(-batch // groups)
    # The last row may be shorter: what fills it up counts nowhere.
    fill = rows * groups - batch
    members = F.pad(x.float().flatten(1), (0, 0, 0, fill)).view(rows, groups, -1)  # [R, G, CHW]
    counted = torch.arange(rows * groups, device=x.device).view(rows, groups, 1) < batch
    sizes = counted.sum(0)  # [G, 1]
    mean = members.sum(0) / sizes
    variance = (members - mean).square().mul(counted).sum(0) / sizes  # [G, CHW]
    # Inside the root, as StyleGAN has it: at 0 a root has no derivative, and penalties need two.
    deviation = (variance + 1e-8).sqrt().mean(1)  # [G]
    return deviation.repeat(rows)[:batch]


class MinibatchStd(nn.Module):
    """A feature map and one more channel with `minibatch_std`: `[B, C, H, W]` to `[B, C+1, H, W]`.

    `group=0` leaves the map as it is. `extra` is the number of channels that it adds.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        if group < 0:
            raise ValueError(f"{group=} has to be 0 or more")
        self.group = group
        self.extra = min(1, group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.group:
            return x
        deviation = minibatch_std(x, self.group).to(x.dtype)
        channel = deviation[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat((x, channel), 1)
