"""Whether a peer holds what playfield's store holds, and draws it as often as it should."""

from __future__ import annotations

import numpy as np
import torch
from peers.base import ALPHA, Peer
from replay_data import STACK, times_of
from replay_task import spec

from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader


def check(peer: Peer, store: FrameStore, n_step: int) -> None:
    """Raise AssertionError unless what the peer draws is what our store holds of these times."""
    drawn = peer.sample(64)
    times = times_of(drawn.obs[:, -1].cpu().numpy())
    alive = times >= store.head[0] - store.slots + STACK
    kept = torch.from_numpy(alive)
    ours = TransitionReader(store, spec(n_step), int(alive.sum()))(times[alive])
    begun = torch.from_numpy(store.step_in_episode[0, times[alive] % store.slots] >= STACK - 1)
    ended = (ours.discount == 0).cpu()
    comparable = torch.ones_like(ended) if n_step == 1 or peer.cuts_steps else ~ended
    with_obs = comparable if peer.pads else comparable & begun
    with_next = with_obs if peer.keeps_final else with_obs & ~ended
    for name, mine, theirs, where in (
        ("obs", ours.obs, drawn.obs, with_obs),
        ("next_obs", ours.next_obs, drawn.next_obs, with_next),
        ("action", ours.action, drawn.action, comparable),
        ("reward", ours.reward, drawn.reward, comparable),
        ("terminated", ended, drawn.terminated, comparable),
    ):
        both = mine.cpu().double(), theirs.cpu()[kept].reshape(mine.shape).double()
        assert torch.isclose(*both, atol=1e-5)[where].all(), (
            f"{peer.label}, n = {n_step}: {name} differs from what playfield's store holds"
        )
    if drawn.weight is not None:
        assert 0 < drawn.weight.min() <= drawn.weight.max() <= 1 + 1e-6


def check_priorities(peer: Peer, rng: np.random.Generator) -> None:
    """Raise AssertionError unless transitions are drawn as often as their priorities say.

    Leaves random priorities behind.
    """
    priority = set_priorities(peer, rng)
    favoured = np.unique(_numpy(peer.sample(64).index)).astype(np.int64)
    peer.update(favoured, torch.full((len(favoured),), 1e6))
    others = float(priority.double().pow(ALPHA).sum()) * (1 - len(favoured) / peer.stored())
    ours = len(favoured) * 1e6**ALPHA
    expected = ours / (ours + others)
    drawn = [np.isin(_numpy(peer.sample(256).index), favoured) for _ in range(8)]
    share = float(np.mean(drawn))
    assert abs(share - expected) < 0.08, f"{peer.label} draws {share:.2f}, not {expected:.2f}"
    set_priorities(peer, rng)


def set_priorities(peer: Peer, rng: np.random.Generator) -> torch.Tensor:
    """Random priorities for all that is stored."""
    priority = torch.from_numpy(rng.random(peer.stored(), np.float32) + np.float32(1e-3))
    peer.update(np.arange(peer.stored()), priority)
    return priority


def _numpy(index: object) -> np.ndarray:
    return index.cpu().numpy() if isinstance(index, torch.Tensor) else np.asarray(index)
