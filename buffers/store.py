"""The frame store: every frame once, in rings, with what arrived and what was done beside it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import arrivals, windows
from playfield._ext import gather as gather_kernel

if TYPE_CHECKING:
    from playfield.buffers.pages import Page

FORMAT = 1
MOST_ACTIONS = 2**31  # what the column can hold
FRAME_DTYPES = ("uint8", "float32")


class Arrivals(Protocol):
    """What `FrameStore.append` reads of a step of E environments (`envs.contract.VectorStep`)."""

    @property
    def frames(self) -> NDArray[Any]: ...
    @property
    def reward(self) -> NDArray[np.float32]: ...
    @property
    def terminated(self) -> NDArray[np.bool_]: ...
    @property
    def truncated(self) -> NDArray[np.bool_]: ...
    @property
    def life_lost(self) -> NDArray[np.bool_]: ...
    @property
    def first(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True, slots=True)
class Column:
    """A value that an algorithm keeps beside every frame, such as a log-probability or a state."""

    shape: tuple[int, ...] = ()
    dtype: str = "float32"


def gather_threads() -> int:
    """Threads that gather on the CPU: a few of the cores this process may use.

    A batch is some megabytes; beyond four cores, waking another costs more than it brings.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return min(4, len(affinity(0)) if affinity else os.cpu_count() or 1)


class FrameStore:
    """Rings of frames, one per stream, contiguous in time.

    A slot holds a frame, what arrived with it (raw reward, flags, step in episode) and the action
    chosen on seeing it. The successor of a slot is always the next one; the final observation of an
    episode owns a slot that never gets an action, and the slot after it starts the next episode.
    Nothing about n-step returns, discounts, stacks or clipping is stored: those are arguments of
    reading (`buffers.transitions`).

    Args:
        capacity: frames in all streams together, at least; rounded up to a multiple of `streams`.
        streams: one per environment.
        frame_shape: of one frame, `(C, H, W)` or `(D,)`.
        frame_dtype: "uint8" or "float32".
        columns: further values beside each frame, by name; `act` sets them.
        device: where frames live: "cpu", a CUDA device, or "mmap", a file that the system keeps in
            memory as far as it fits. Columns stay on the CPU: they are a thousandth of the bytes,
            and choosing indices needs them there.
        folder: where the file of "mmap" lies while the store lives; None: with the system's
            temporary files. It is a working copy and goes with the store; `save` keeps.
        num_actions: actions are `0 .. num_actions - 1`; a store saved with another number is not
            taken over. None: any.

    Raises ValueError for sizes that make no store and OSError where "mmap" finds too little disk.

    Ids are int64, `time * streams + stream`, and time never restarts, so an id names one frame for
    ever, whether it is still stored or not.

    One thread may write (`append`, `act`, `end_episodes`) while others read through samplers of
    their own: `claimed` runs ahead of every write, and a reader looks at it after reading.
    """

    def __init__(
        self,
        capacity: int,
        streams: int = 1,
        frame_shape: tuple[int, ...] = (1, 84, 84),
        frame_dtype: str = "uint8",
        columns: Mapping[str, Column] | None = None,
        device: torch.device | str = "cpu",
        folder: Path | None = None,
        num_actions: int | None = None,
    ) -> None:
        if capacity < 2 * streams or streams < 1:
            raise ValueError(
                f"a store of {capacity} frames in {streams} streams is too small: every stream "
                "needs two frames or more"
            )
        if frame_dtype not in FRAME_DTYPES:
            raise ValueError(f"frames are {' or '.join(FRAME_DTYPES)}, not {frame_dtype!r}")
        if not frame_shape or min(frame_shape) < 1:
            raise ValueError(f"frame_shape={tuple(frame_shape)} has to be sizes of 1 or more")
        self.streams = streams
        self.slots = -(-capacity // streams)
        self.frame_shape = tuple(frame_shape)
        self.frame_dtype = frame_dtype
        self.columns = dict(columns or {})
        self.num_actions = num_actions
        self.placement = str(device)
        self.device = torch.device("cpu" if self.placement == "mmap" else device)
        self.threads = gather_threads()
        self.read_only = False
        #: Which pages of this very history lie on the disk already, by folder: `save` writes the
        #: others. Kept by `buffers.persistence`.
        self.saved_pages: dict[Path, tuple[Page, ...]] = {}

        shape = (streams, self.slots)
        self.frame_bytes = math.prod(self.frame_shape) * np.dtype(frame_dtype).itemsize
        if self.device.type == "cpu":
            rows = streams * self.slots
            if self.placement == "mmap":
                self._table = _mapped(rows, self.frame_bytes, folder)
            else:
                # numpy, not torch, allocates: it asks the kernel for huge pages, and random reads
                # of a gigabyte through 4 kB pages spend as long in address translation as in
                # copying.
                self._table = np.zeros((rows, self.frame_bytes), np.uint8)
            frames = torch.from_numpy(self._table)
        else:
            frames = torch.zeros(
                (streams * self.slots, self.frame_bytes), dtype=torch.uint8, device=self.device
            )
        self.frame_table = frames  # [streams * slots, frame_bytes] uint8: every frame as a row
        self.frames = frames.view(getattr(torch, frame_dtype)).view(*shape, *self.frame_shape)

        self.head = np.zeros(streams, np.int64)  # time of each stream's next frame
        self.claimed = np.zeros(streams, np.int64)  # `head`, but moved before the write, not after
        self.action = np.full(shape, -1, np.int32)
        self.reward = np.zeros(shape, np.float32)
        self.flags = np.zeros(shape, np.uint8)
        self.step_in_episode = np.zeros(shape, np.int32)
        #: What the kernels read of the columns above.
        self.kernel_columns = windows.Columns(
            self.action, self.reward, self.flags, self.step_in_episode
        )
        self.extra = {
            name: np.zeros((*shape, *column.shape), column.dtype)
            for name, column in self.columns.items()
        }
        self._all_streams = np.arange(streams)

    def __len__(self) -> int:
        """Frames stored now, in all streams together."""
        return int(np.minimum(self.head, self.slots).sum())

    @property
    def capacity(self) -> int:
        """Frames that fit."""
        return self.streams * self.slots

    @property
    def bytes_per_frame(self) -> float:
        """Memory per stored frame in bytes, columns included."""
        columns = sum(column.nbytes for column in self.column_state().values())
        return self.frame_bytes + columns / self.capacity

    # --- writing ---------------------------------------------------------------------------------

    def append(self, step: Arrivals, streams: NDArray[np.int64] | None = None) -> None:
        """Store what arrived in `streams` (in every stream, where None): one frame each.

        A row with `first` begins an episode; any other continues the one before it. Raises
        ValueError for frames of another shape or dtype, and for a row that continues an episode
        that has ended or never began.
        """
        self._check_writable()
        s = self._all_streams if streams is None else np.asarray(streams, np.int64)
        frames = step.frames
        if frames.shape != (len(s), *self.frame_shape) or frames.dtype != self.frame_dtype:
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}, expected {self.frame_dtype} "
                f"{[len(s), *self.frame_shape]}"
            )
        rows = np.empty(len(s), np.int64)
        orphan = arrivals.arrive(
            s, self.head, self.claimed,
            self.action, self.reward, self.flags, self.step_in_episode,
            np.ascontiguousarray(step.reward, np.float32),
            _bytes(step.terminated), _bytes(step.truncated), _bytes(step.life_lost),
            _bytes(step.first), rows,
        )  # fmt: skip
        if orphan >= 0:
            raise ValueError(
                f"stream {s[orphan]} got a frame that continues no episode: the one before it was "
                "final, or there is none; an episode's first frame needs first=True"
            )
        for column in self.extra.values():
            column.reshape(self.capacity, -1)[rows] = 0
        flat = np.ascontiguousarray(frames).reshape(len(s), -1).view(np.uint8)
        if self.device.type == "cpu":
            arrivals.place(self._table, rows, flat)
        else:
            index = self.on_device(torch.from_numpy(rows))
            self.frame_table.index_copy_(0, index, self.on_device(torch.from_numpy(flat)))
        self.head[s] += 1

    def act(
        self,
        actions: NDArray[np.int64],
        streams: NDArray[np.int64] | None = None,
        **extra: NDArray[Any],
    ) -> None:
        """Note the actions chosen on the newest frames, and the declared columns' values with them.

        A final frame gets no action: none is taken there. Its columns are set like any other's,
        such as the value of a final observation, from which a truncated episode bootstraps.
        """
        self._check_writable()
        s = self._all_streams if streams is None else np.asarray(streams, np.int64)
        limit = MOST_ACTIONS if self.num_actions is None else self.num_actions
        wrong = arrivals.act(
            s, self.head, self.flags, np.ascontiguousarray(actions, np.int64), self.action, limit
        )
        if wrong >= 0:
            raise ValueError(
                f"the action of stream {s[wrong]} is {actions[wrong]}, expected 0 to {limit - 1}"
            )
        for name, values in extra.items():
            self.extra[name][s, (self.head[s] - 1) % self.slots] = values

    def end_episodes(self) -> None:
        """End every open episode as truncated at its newest frame: a reset from outside follows."""
        self._check_writable()
        slot = (self.head - 1) % self.slots
        is_open = (self.head > 0) & ((self.flags[self._all_streams, slot] & windows.FINAL) == 0)
        self.flags[self._all_streams[is_open], slot[is_open]] |= windows.TRUNCATED
        self.action[self._all_streams[is_open], slot[is_open]] = -1

    def _check_writable(self) -> None:
        if self.read_only:
            raise ValueError("this store was opened read-only, as a data set")

    # --- reading ---------------------------------------------------------------------------------

    def latest(self, stack: int = 1) -> torch.Tensor:
        """The newest stack of every stream: what a policy acts on.

        Returns `[streams, stack*C, H, W]` (or `[streams, stack*D]`) in the frames' dtype on the
        store's device; frames before the start of the episode are zero. Raises ValueError while a
        stream is empty, and for a stack that its ring is too short for.
        """
        if not 1 <= stack <= self.slots:
            raise ValueError(f"stack={stack} has to lie in 1..{self.slots}, the slots of a stream")
        if not self.head.all():
            raise ValueError(f"stream {int(self.head.argmin())} holds no frame yet")
        rows = np.empty((self.streams, stack), np.int64)
        windows.stack_rows(self._all_streams, self.head - 1, self.step_in_episode, rows)
        return self.gather(rows)

    def gather(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Frames of the given table rows `[B, W]` as `[B, W*C, H, W']`; -1 gives zeros."""
        if self.device.type == "cpu":
            flat = torch.empty((rows.size, self.frame_bytes), dtype=torch.uint8)
            self.gather_into(rows, flat.numpy())
        else:
            index = self.on_device(torch.from_numpy(rows.reshape(-1)))
            flat = self.frame_table.index_select(0, index.clamp_min(0))
            flat.masked_fill_((index < 0).unsqueeze(1), 0)
        return self.as_frames(flat, rows)

    def gather_into(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """`gather` on the CPU into memory that is there: `out` `[B*W, frame_bytes]`."""
        gather_kernel.gather_rows(self._table, rows.reshape(-1), out, self.threads)

    def expect_gather(self, rows: int) -> None:
        """Say that so many rows will be gathered in a moment; its threads wake up meanwhile."""
        if self.device.type == "cpu":
            gather_kernel.expect(rows * self.frame_bytes, self.threads)

    def on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A CPU tensor on the store's device (itself, if that is the CPU), without waiting for it.

        A GPU's driver takes memory that is not pinned into its own before the call returns, so the
        tensor may be written again at once; the rest of the way is in the order of the stream.
        """
        return tensor.to(self.device, non_blocking=True)

    def as_frames(self, flat: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        """A view of gathered bytes `[B*W, frame_bytes]` as frames `[B, W*C, H, W']`."""
        count, width = rows.shape
        channels, *rest = self.frame_shape
        return flat.view(self.frames.dtype).view(count, width * channels, *rest)

    # --- state -----------------------------------------------------------------------------------

    def save(self, path: Path | str, codec: str = "zlib") -> None:
        """Save everything in the folder `path`; saving there again writes only what is new.

        `codec` is "zlib", "raw", or "zstd" or "lz4" where these are installed. The save is there
        whole or not at all: what was saved before stays until it is. Nobody may write to the store
        meanwhile. Raises OSError (a full disk), UserError for a codec that is not there, and
        RuntimeError where the store was written to.
        """
        from playfield.buffers.persistence import save_store

        save_store(self, Path(path), codec=codec)

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: torch.device | str = "cpu",
        *,
        folder: Path | None = None,
        read_only: bool = False,
    ) -> FrameStore:
        """The store saved in the folder `path`; `device` and `folder` as for a new one.

        `read_only=True` opens it as a data set, and writing to it raises ValueError; "mmap" opens
        one that is larger than memory. Raises DamagedFileError, naming file and field, for whatever
        is missing or altered, and UserError where the store does not fit in memory.
        """
        from playfield.buffers.persistence import open_store

        return open_store(Path(path), device=device, working_folder=folder, read_only=read_only)

    def layout(self) -> dict[str, Any]:
        """What another store must have in common with this one to take over its contents."""
        return {
            "format": FORMAT,
            "streams": self.streams,
            "slots": self.slots,
            "frame_shape": list(self.frame_shape),
            "frame_dtype": self.frame_dtype,
            "columns": {
                name: [list(column.shape), np.dtype(column.dtype).name]
                for name, column in self.columns.items()
            },
            "num_actions": self.num_actions,
        }

    def column_state(self) -> dict[str, NDArray[Any]]:
        """Everything but the frames: the rings' heads and columns, by name."""
        return {
            "head": self.head,
            "action": self.action,
            "reward": self.reward,
            "flags": self.flags,
            "step_in_episode": self.step_in_episode,
            **{f"extra.{name}": values for name, values in self.extra.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """The whole store; tensors and arrays are its own, not copies."""
        return {
            "layout": self.layout(),
            "columns": self.column_state(),
            "frames": self.frame_table,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved store. Raises ValueError that names the field that does not fit."""
        for name in ("layout", "columns", "frames"):
            if name not in state:
                raise ValueError(f"{name}: missing")
        self.check_layout(state["layout"])
        frames = torch.as_tensor(state["frames"])
        if frames.shape != self.frame_table.shape or frames.dtype != torch.uint8:
            raise ValueError(
                f"frames: {frames.dtype} {list(frames.shape)}, expected torch.uint8 "
                f"{list(self.frame_table.shape)}"
            )
        self.load_column_state(state["columns"])
        self.frame_table.copy_(frames)

    def check_layout(self, layout: Mapping[str, Any]) -> None:
        """Raise ValueError, naming the field, unless `layout` is this store's own."""
        for name, ours in self.layout().items():
            if layout.get(name) != ours:
                raise ValueError(f"{name}: {layout.get(name)!r}, expected {ours!r}")

    def load_column_state(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Take over saved heads and columns; nothing is taken unless all of them fit."""
        ours = self.column_state()
        for name, own in ours.items():
            if name not in columns:
                raise ValueError(f"{name}: missing")
            saved = np.asarray(columns[name])
            if saved.shape != own.shape or saved.dtype != own.dtype:
                raise ValueError(
                    f"{name}: {saved.dtype} {list(saved.shape)}, "
                    f"expected {own.dtype} {list(own.shape)}"
                )
        if (np.asarray(columns["head"]) < 0).any():
            raise ValueError("head: negative")
        for name, own in ours.items():
            own[...] = columns[name]
        self.claimed[:] = self.head
        self.saved_pages.clear()  # they hold another history


def _bytes(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(flags, np.bool_).view(np.uint8)


def _mapped(rows: int, width: int, folder: Path | None) -> NDArray[np.uint8]:
    """A table `[rows, width]` of zeros in a file without a name, gone when nobody maps it."""
    with tempfile.TemporaryFile(dir=folder, prefix="playfield-frames-") as file:
        # All of it now: a disk that fills up later would kill the process at some write.
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, rows * width)
            else:
                file.truncate(rows * width)
        except OSError as error:
            place = str(folder or tempfile.gettempdir())
            reason = f"no room for {rows * width:,} bytes of frames ({error.strerror})"
            raise OSError(error.errno, reason, place) from None
        return np.memmap(file, np.uint8, "r+", shape=(rows, width))
