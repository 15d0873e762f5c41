"""The replay memories of other libraries, one small class per library and way to set it up.

Each is set up as its own documentation recommends for stacks of Atari frames, and draws batches as
torch tensors, stacks as `[B, 4, H, W]`. What a memory does not have is a reason in `lacks`. A
library is imported when a memory of it is made.
"""

from __future__ import annotations

from peers.base import Peer
from peers.cpprb_buffer import Cpprb, CpprbLean
from peers.sb3 import StableBaselines3, StableBaselines3Lean
from peers.tianshou_buffer import Tianshou, TianshouLean
from peers.torchrl_buffer import TorchRL, TorchRLLean

PEERS: tuple[type[Peer], ...] = (
    StableBaselines3,
    StableBaselines3Lean,
    Cpprb,
    CpprbLean,
    TorchRL,
    TorchRLLean,
    Tianshou,
    TianshouLean,
)
BY_LABEL = {peer.label: peer for peer in PEERS}
#: How `--peers` names libraries.
SHORT = {
    "sb3": "stable-baselines3", "cpprb": "cpprb", "torchrl": "torchrl", "tianshou": "tianshou"
}  # fmt: skip
