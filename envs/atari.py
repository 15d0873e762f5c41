"""Atari games on ALE's own C++ vector environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from playfield.envs.contract import EnvSpec, VectorStep
from playfield.envs.exchange import Exchange, check_num_envs
from playfield.envs.names import atari_games, atari_id
from playfield.envs.protocols import MACHADO2018, AtariProtocol
from playfield.envs.seeds import env_seeds
from playfield.errors import UserError

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

SCREEN_HEIGHT, SCREEN_WIDTH = 210, 160


class AtariVector:
    """E copies of one game: frames uint8 `[E, 1, 84, 84]`, or 3 channels under a colour protocol.

    `game` is a ROM name such as "ms_pacman". The emulators run on `threads` threads of their own
    (at most E; the cores of this process's affinity when None) between `send` and `recv`, without
    the GIL. `render` adds a twin of environment 0 in colour for `render()`, at the cost of one more
    emulator; without it, pictures are grey.

    The last frame of a game repeats the one before it, also where `max_frames` cuts it: ALE stops a
    step at its last frame before it captures the screen.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        protocol: AtariProtocol = MACHADO2018,
        *,
        threads: int | None = None,
        render: bool = False,
    ) -> None:
        if game not in atari_games():
            raise UserError(
                f"{game!r} is not the ROM name of an Atari game for one player; "
                "`playfield list envs` shows them."
            )
        if threads is not None and threads < 1:
            raise UserError(f"{game}: threads must be 1 or more, not {threads}.")
        check_num_envs(game, num_envs)
        threads = min(threads or _affinity_cores(), num_envs)
        size = protocol.frame_size
        self.num_envs = num_envs
        self._emulators = _emulators(game, num_envs, protocol, threads, protocol.grey, (size, size))
        self._twin = (
            _emulators(game, 1, protocol, 1, False, (SCREEN_HEIGHT, SCREEN_WIDTH))
            if render
            else None
        )
        actions = tuple(action.name for action in self._emulators.ale.get_action_set())
        self.spec = EnvSpec(
            id=atari_id(game, protocol.name),
            frame_shape=(1 if protocol.grey else 3, size, size),
            frame_dtype="uint8",
            num_actions=len(actions),
            action_meanings=actions,
            frames_per_step=protocol.frame_skip,
            protocol=_recorded(game, protocol, actions),
        )
        self._exchange = Exchange(self.spec.id, num_envs, len(actions))
        self._over = np.zeros(num_envs, np.bool_)  # [E], the next row is a reset observation
        self._lives = np.zeros(num_envs, np.int64)  # [E], after the newest step
        self._picture: NDArray[np.uint8] | None = None  # [H, W, 3] of environment 0

    def reset(self, seed: int) -> VectorStep:
        """Start every game anew; each environment draws from a seed of its own under `seed`."""
        self._discard_running()
        self._exchange.reset()
        seeds = env_seeds(seed, self.num_envs)
        frames, info = self._emulators.reset(seed=seeds)
        self._show(frames, self._twin.reset(seed=seeds[:1])[0] if self._twin else None)
        self._over = np.zeros(self.num_envs, np.bool_)
        self._lives = info["lives"].astype(np.int64)
        nothing = np.zeros(self.num_envs, np.bool_)
        return VectorStep(
            frames=_channels_first(frames),
            reward=np.zeros(self.num_envs, np.float32),
            terminated=nothing,
            truncated=nothing.copy(),
            life_lost=nothing.copy(),
            first=np.ones(self.num_envs, np.bool_),
            lives=self._lives.copy(),
        )

    def send(self, actions: ArrayLike) -> None:
        """Start a step with `actions` `[E]`; see `VectorEnv` for what is refused."""
        checked = self._exchange.send(actions)
        self._emulators.send(checked)
        if self._twin:
            self._twin.send(checked[:1])

    def recv(self) -> VectorStep:
        """Wait for the running step and hand it over."""
        self._exchange.recv()
        frames, reward, terminated, truncated, info = self._emulators.recv()
        self._show(frames, self._twin.recv()[0] if self._twin else None)
        first = self._over
        lives = info["lives"].astype(np.int64)
        step = VectorStep(
            frames=_channels_first(frames),
            reward=reward.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=life_lost(self._lives, lives, ends_or_starts=terminated | first),
            first=first,
            lives=lives,
        )
        self._over = terminated | truncated
        self._lives = lives.copy()
        return step

    def step(self, actions: ArrayLike) -> VectorStep:
        self.send(actions)
        return self.recv()

    def render(self) -> NDArray[np.uint8]:
        """Environment 0 as `[210, 160, 3]` in colour, or `[84, 84, 3]` in the agent's own grey."""
        if self._picture is None:
            raise RuntimeError(f"{self.spec.id}: render() before reset()")
        return self._picture.copy()

    def close(self) -> None:
        """Stop the emulators and their threads. Closing twice is harmless."""
        if hasattr(self, "_emulators"):
            self._discard_running()
            self._exchange.close()
            # The C++ destructor joins the threads; nothing else stops them.
            self._twin = None
            del self._emulators

    def _discard_running(self) -> None:
        if self._exchange.running:
            self._exchange.recv()
            self._emulators.recv()
            if self._twin:
                self._twin.recv()

    def _show(self, frames: NDArray[np.uint8], twin_frames: NDArray[np.uint8] | None) -> None:
        picture = frames[0, 0] if twin_frames is None else twin_frames[0, 0]  # [H, W] or [H, W, 3]
        self._picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def life_lost(
    before: NDArray[np.int64], lives: NDArray[np.int64], ends_or_starts: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Where a life was lost and the game goes on: `[E]`, from the lives before and after a step.

    No lives left is not a lost life: either the game is over, or it shows 0 for its last life (as
    Q*bert does for a while). A bonus life raises the count, and a new game starts with its own.
    """
    return (lives > 0) & (lives < before) & ~ends_or_starts


def _emulators(
    game: str,
    num_envs: int,
    protocol: AtariProtocol,
    threads: int,
    grey: bool,
    size: tuple[int, int],
) -> AtariVectorEnv:
    """ALE's vector environment, every parameter explicit: its defaults differ by entry point."""
    from ale_py import ALEInterface, LoggerMode
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    ALEInterface.setLoggerMode(LoggerMode.Error)  # no banner; errors still reach stderr
    height, width = size
    try:
        return AtariVectorEnv(
            game,
            num_envs,
            batch_size=0,  # all E, in order
            num_threads=threads,  # ALE's own default ignores affinity
            thread_affinity_offset=-1,
            max_num_frames_per_episode=protocol.max_frames,
            repeat_action_probability=protocol.repeat_action_probability,
            full_action_space=protocol.full_action_space,
            continuous=False,
            continuous_action_threshold=0.5,
            # SAME_STEP's final_obs is uninitialised memory for environments that did not end.
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=height,
            img_width=width,
            grayscale=grey,
            stack_num=1,  # the frame store stacks
            frameskip=protocol.frame_skip,
            maxpool=protocol.max_pool,
            # ALE draws 0 to noop_max - 1 and takes the FIRE off; here noop_max itself is possible.
            noop_max=protocol.noop_max + 1,
            episodic_life=False,  # would reset the whole game at each lost life
            life_loss_info=False,  # would raise `terminated` with no reset following
            reward_clipping=False,  # would lose the score
            use_fire_reset=protocol.fire_reset,
        )
    except OSError as error:
        raise UserError(f"The ROM of {game!r} can't be read: {error}") from error


def _recorded(game: str, protocol: AtariProtocol, actions: tuple[str, ...]) -> dict[str, Any]:
    from importlib.metadata import version

    return protocol.as_dict() | {
        "game": game,
        "actions": list(actions),
        "reward_clipping": False,
        "noop_distribution": f"uniform over 0..{protocol.noop_max} emulator frames",
        "fire_pressed": protocol.fire_reset and "FIRE" in actions,
        "ale_py": version("ale-py"),
    }


def _channels_first(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ALE's `[E, 1, H, W]` as it is, `[E, 1, H, W, 3]` as `[E, 3, H, W]`. ALE never reuses them."""
    if frames.ndim == 4:
        return frames
    return np.ascontiguousarray(np.moveaxis(frames[:, 0], -1, 1))


def _affinity_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
