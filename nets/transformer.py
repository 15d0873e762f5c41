"""A memory that attends to a window of past steps: the gated transformer."""

from __future__ import annotations

import math

import torch
from torch import nn

from playfield.nets.initialization import orthogonal_


class GatedTransformer(nn.Module):
    """GTrXL (Parisotto et al. 2019) as a `nets.memory.Memory`.

    In each layer a step attends to the last `window` steps of its own episode, itself included. The
    state holds what each layer was given in the last `window - 1` of them, and how many there are:
    with L layers and U units, L * (window - 1) * U + 1 numbers. As in Transformer-XL (Dai et al.
    2019) they are inputs, not keys, so they stay useful when the weights move, and no gradient
    reaches the steps before a sequence.

    It computes in float32 whatever comes in, so that many steps at once and one at a time agree.
    """

    def __init__(self, inputs: int, units: int, window: int, layers: int, heads: int) -> None:
        super().__init__()
        if min(window, layers, heads) < 1 or units % heads:
            raise ValueError(
                f"{window=}, {layers=} and {heads=} have to be 1 or more, and "
                f"{units=} a multiple of heads"
            )
        self.features, self.window = units, window
        self.state_size = layers * (window - 1) * units + 1
        self.embedding = nn.Linear(inputs, units)
        self.layers = nn.ModuleList(GatedLayer(units, window, heads) for _ in range(layers))
        orthogonal_(self, 1.0)

    def forward(
        self, features: torch.Tensor, first: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, past = first.shape[1], self.window - 1
        memories = state[:, :-1].reshape(batch, len(self.layers), past, self.features)
        episode = episodes(first, state[:, -1], past)  # [B, past + T]
        seen = visible(episode, self.window)  # [B, T, past + T]
        # Contiguous here and below, because torch's linear layers take another path, with other
        # bits, for transposed input whose gradient nobody needs.
        x = self.embedding(features.float()).transpose(0, 1).contiguous()  # [B, T, U]
        kept = []
        for layer, memory in zip(self.layers, memories.unbind(1), strict=True):
            context = torch.cat((memory, x), 1)  # [B, past + T, U]
            kept.append(context[:, context.shape[1] - past :])
            x = layer(x, context, seen)
        last = episode[:, episode.shape[1] - past :] == episode[:, -1:]  # [B, past]
        kept_flat = torch.stack(kept, 1) * last[:, None, :, None]
        state = torch.cat((kept_flat.flatten(1), last.sum(1, keepdim=True)), 1)
        return x.transpose(0, 1).contiguous(), state


def episodes(first: torch.Tensor, remembered: torch.Tensor, past: int) -> torch.Tensor:
    """Which episode each of `past` remembered steps and T new ones belongs to: `[B, past + T]`.

    Counted from the one that the state is of, which is 0; -1 stands for slots of the memory that
    hold nothing. `first` `[T, B]` bool; `remembered` `[B]` of the slots count, the newest ones.
    """
    new = first.T.long().cumsum(1)
    age = torch.arange(past, 0, -1, device=first.device)  # of the slots: past, ..., 2, 1
    old = -(age > remembered.unsqueeze(1)).long()
    return torch.cat((old, new), 1)


def visible(episode: torch.Tensor, window: int) -> torch.Tensor:
    """Whether each of T steps attends to each slot: bool `[B, T, past + T]`, past = window - 1."""
    distance = distances(episode.shape[1] - window + 1, window, episode.device)
    near = (distance >= 0) & (distance < window)
    return near & (episode[:, None, :] == episode[:, window - 1 :, None])


def distances(steps: int, window: int, device: torch.device) -> torch.Tensor:
    """How many steps each slot lies behind each of T steps: `[T, window - 1 + T]`."""
    step = torch.arange(steps, device=device).unsqueeze(1) + window - 1
    return step - torch.arange(window - 1 + steps, device=device)


class GatedLayer(nn.Module):
    """Attention, then a small network for each step, each behind a norm and in front of a gate."""

    def __init__(self, units: int, window: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(units), Attention(units, window, heads)
        self.attention_gate = Gate(units)
        self.network_norm = nn.LayerNorm(units)
        self.network = nn.Sequential(
            nn.Linear(units, 4 * units), nn.ReLU(), nn.Linear(4 * units, units)
        )
        self.network_gate = Gate(units)

    def forward(self, x: torch.Tensor, context: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """`[B, T, U]`, of steps `x` `[B, T, U]` that see `context` `[B, S, U]`, themselves last."""
        attended = self.attention(self.attention_norm(context), seen)
        x = self.attention_gate(x, attended.relu())
        gated: torch.Tensor = self.network_gate(x, self.network(self.network_norm(x)).relu())
        return gated


class Attention(nn.Module):
    """Attention of the last T of S slots to all that they see, with a learned bias per distance.

    The bias, one per head, stands for Transformer-XL's sinusoids: within a short window it says as
    much, in fewer words (Raffel et al. 2020).
    """

    def __init__(self, units: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query = nn.Linear(units, units, bias=False)
        self.key = nn.Linear(units, units, bias=False)
        self.value = nn.Linear(units, units, bias=False)
        self.output = nn.Linear(units, units)
        self.distance_bias = nn.Parameter(torch.zeros(heads, window))

    def forward(self, context: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        steps = seen.shape[1]
        query = self.query(context[:, context.shape[1] - steps :])
        query, key, value = (
            x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, T or S, U / heads]
            for x in (query, self.key(context), self.value(context))
        )
        distance = distances(steps, self.window, context.device).clamp(0, self.window - 1)
        bias = self.distance_bias[:, distance].masked_fill(~seen.unsqueeze(1), -torch.inf)
        # Not torch's fused attention: it takes another path for a bias that learns, with other
        # bits, so the copy that acts would differ from the network that learns.
        scores = query @ key.mT / math.sqrt(key.shape[-1]) + bias  # [B, heads, T, S]
        mixed = scores.softmax(-1) @ value
        output: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output


class Gate(nn.Module):
    """A GRU's gate in place of a residual sum (GTrXL, section 3.2).

    Its bias of 2 lets little of y through at first, so that an agent learns to react before it
    learns to remember.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units
        self.of_y = nn.Linear(units, 3 * units, bias=False)
        self.of_x = nn.Linear(units, 2 * units, bias=False)
        self.of_reset = nn.Linear(units, units, bias=False)
        self.bias = nn.Parameter(torch.full((units,), 2.0))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        reset_y, update_y, candidate_y = self.of_y(y).chunk(3, -1)
        reset_x, update_x = self.of_x(x).chunk(2, -1)
        reset = (reset_y + reset_x).sigmoid()
        update = (update_y + update_x - self.bias).sigmoid()
        candidate = (candidate_y + self.of_reset(reset * x)).tanh()
        return (1 - update) * x + update * candidate
