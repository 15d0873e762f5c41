"""What the tests of saved stores share: a player that remembers everything, plainly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from playfield.buffers.store import Column, FrameStore

PICTURE = (1, 3, 5)
TERMINATED, TRUNCATED, LIFE_LOST = 1, 2, 4


def new_store(streams=3, slots=40, **other):
    """A small store with a column that an algorithm declares."""
    arguments = {
        "frame_shape": PICTURE,
        "columns": {"log_prob": Column(), "state": Column((2,), "float16")},
        "num_actions": 5,
    }
    return FrameStore(streams * slots, streams, **{**arguments, **other})


class Player:
    """Plays random episodes into `store` and keeps every record of every stream in a list."""

    def __init__(self, store: FrameStore, seed: int = 0) -> None:
        self.store, self.rng = store, np.random.default_rng(seed)
        self.history: list[list[dict]] = [[] for _ in range(store.streams)]

    def play(self, steps: int) -> None:
        rng, count = self.rng, self.store.streams
        for _ in range(steps):
            first = np.array([not h or bool(h[-1]["flags"] & 3) for h in self.history])
            terminated = ~first & (rng.random(count) < 0.1)
            truncated = ~first & ~terminated & (rng.random(count) < 0.1)
            life_lost = rng.random(count) < 0.2
            frames = rng.integers(0, 256, (count, *self.store.frame_shape), np.uint8)
            reward = rng.normal(size=count).astype(np.float32)
            actions = rng.integers(0, 5, count)
            log_prob = rng.normal(size=count).astype(np.float32)
            state = rng.normal(size=(count, 2)).astype(np.float16)
            arrived = SimpleNamespace(
                frames=frames.astype(self.store.frame_dtype), reward=reward, first=first,
                terminated=terminated, truncated=truncated, life_lost=life_lost,
            )  # fmt: skip
            self.store.append(arrived)
            self.store.act(actions, log_prob=log_prob, state=state)
            for s, history in enumerate(self.history):
                final = terminated[s] or truncated[s]
                flags = TERMINATED * terminated[s] + TRUNCATED * truncated[s]
                step = 0 if first[s] else history[-1]["step_in_episode"] + 1
                history.append(
                    {
                        "frame": arrived.frames[s].copy(),
                        "reward": reward[s],
                        "flags": int(flags + LIFE_LOST * life_lost[s]),
                        "step_in_episode": step,
                        "action": -1 if final else actions[s],
                        "log_prob": log_prob[s],
                        "state": state[s],
                    }
                )

    def end_episodes(self) -> None:
        self.store.end_episodes()
        for history in self.history:
            if not history[-1]["flags"] & 3:
                history[-1]["flags"] |= TRUNCATED
                history[-1]["action"] = -1

    def assert_in(self, store: FrameStore, until: int | None = None) -> None:
        """That `store` holds what was played (in the first `until` steps), bit for bit."""
        assert store.layout() == self.store.layout()
        for s, played in enumerate(self.history):
            history = played[:until]
            assert store.head[s] == store.claimed[s] == len(history)
            for time in range(max(0, len(history) - store.slots), len(history)):
                slot, record = time % store.slots, history[time]
                np.testing.assert_array_equal(store.frames[s, slot].cpu().numpy(), record["frame"])
                for name in ("reward", "flags", "step_in_episode", "action"):
                    assert getattr(store, name)[s, slot] == record[name], (name, s, time)
                for name in ("log_prob", "state"):
                    np.testing.assert_array_equal(store.extra[name][s, slot], record[name])


def rewrite_manifest(folder: Path, change) -> None:
    """Let `change` edit the manifest in `folder`, and give it the checksum that fits."""
    path = folder / "store.json"
    content = json.loads(path.read_text())
    change(content)
    content.pop("sha256", None)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}))
