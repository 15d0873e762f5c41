"""Random views of stored pictures: shifts, crops and mirror images, made while they are gathered.

Every pixel of a view is a pixel of the frame: nothing is interpolated, uint8 stays uint8. The
choices are numbers of a counter-based generator, and both twins (`_ext/augment.pyx` for frames in
the processor's memory, torch for frames on a device) only copy pixels, so the same seed gives the
same bytes on every placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import augment as augment_kernel
from playfield.buffers.generator import CounterGenerator, scaled
from playfield.buffers.store import FrameStore

#: Random numbers per sample: shift y, shift x, crop y, crop x, flip. All are used up whatever is
#: switched on, so that switching one on leaves the others' choices as they are.
NUMBERS_PER_SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to each sampled picture, in this order: shift, crop, flip.

    Raises ValueError, naming the field, for values that mean nothing.
    """

    shift: int = 0
    """Most pixels by which a picture moves up, down, left and right: it is padded by repeating its
    border and cut back to its size at a uniform offset in 0..2*shift each way (DrQ, Kostrikov,
    Yarats and Fergus 2020, section 4.1, where it is 4 for pictures of 84x84)."""
    flip: bool = False
    """Mirror left to right with probability 1/2. Not for games in which left is not right."""
    crop: tuple[int, int] | None = None
    """Cut out a part of this height and width at a uniform place (RAD, Laskin et al. 2020); whoever
    looks at whole frames, as an acting policy does, has to cut too."""

    def __post_init__(self) -> None:
        if not _is_count(self.shift, 0):
            raise ValueError(f"shift={self.shift!r} has to be a number of pixels, 0 or more")
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip={self.flip!r} has to be True or False")
        if self.crop is not None and not (
            isinstance(self.crop, tuple)
            and len(self.crop) == 2
            and all(_is_count(side, 1) for side in self.crop)
        ):
            raise ValueError(f"crop={self.crop!r} has to be None or (height, width) in pixels")


@dataclass(frozen=True, slots=True)
class Choices:
    """Which view of its frames each of B samples shows; all frames of one stack show the same."""

    dy: NDArray[np.int64]  # [B], where the view begins, in rows of the frame; negative: above it
    dx: NDArray[np.int64]  # [B], the same in columns
    flip: NDArray[np.int64]  # [B], 1 where the view is mirrored
    size: tuple[int, int]  # height and width of the views


class Augmenter:
    """Draws choices and gathers augmented windows of frames.

    Args:
        augmentation: what to do.
        frame_shape: of the stored pictures, `(C, H, W)`.
        seed: of the choices.
        frame_dtype: of the stored pictures; only "uint8" can be augmented.

    Raises ValueError, naming the field, for frames that are no uint8 pictures, and for a shift or a
    crop that does not fit in them.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        frame_shape: tuple[int, ...],
        seed: int,
        frame_dtype: str = "uint8",
    ) -> None:
        if len(frame_shape) != 3 or frame_dtype != "uint8":
            raise ValueError(
                f"augmentation needs uint8 pictures [C, H, W]; these frames are {frame_dtype} "
                f"{list(frame_shape)}"
            )
        channels, height, width = frame_shape
        if augmentation.shift >= min(height, width):
            raise ValueError(
                f"shift={augmentation.shift} moves frames of {height}x{width} out of sight"
            )
        crop = augmentation.crop or (height, width)
        if crop[0] > height or crop[1] > width:
            raise ValueError(f"crop={crop} is larger than frames of {height}x{width}")
        self.augmentation = augmentation
        self.frame_shape = (channels, height, width)
        self.size = crop  # of a view, (h, w)
        self._generator = CounterGenerator(seed, stream=1)  # not its sampler's, of the same seed

    def choices(self, count: int) -> Choices:
        """The choices for the next `count` samples."""
        numbers = self._generator.bits(NUMBERS_PER_SAMPLE * count).reshape(count, -1)
        shift = self.augmentation.shift
        _, height, width = self.frame_shape
        # A crop of a shifted frame is one view: the offsets add up.
        return Choices(
            dy=scaled(numbers[:, 0], 2 * shift + 1)
            - shift
            + scaled(numbers[:, 2], height - self.size[0] + 1),
            dx=scaled(numbers[:, 1], 2 * shift + 1)
            - shift
            + scaled(numbers[:, 3], width - self.size[1] + 1),
            flip=scaled(numbers[:, 4], 2 if self.augmentation.flip else 1),
            size=self.size,
        )

    def gather(
        self, store: FrameStore, rows: NDArray[np.int64], out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Augmented frames of the store's table rows `[B, W]` as uint8 `[B, W*C, h, w]`.

        Each of the B windows gets a choice of its own; -1 gives zeros, as in `FrameStore.gather`.
        `rows` may be a part of wider rows. The result is `out`, where given: memory from
        `empty`, used again by whoever owns it. Raises ValueError for a store of other frames.
        """
        if store.frame_shape != self.frame_shape or store.frame_dtype != "uint8":
            raise ValueError(
                f"the store's frames are {store.frame_dtype} {list(store.frame_shape)}, expected "
                f"uint8 {list(self.frame_shape)}"
            )
        if out is None:
            out = self.empty(rows.shape, store.device)
        choices = self.choices(len(rows))
        if store.device.type != "cpu":
            return augment_frames(store.gather(rows), choices, out)
        augment_kernel.gather_views(
            store.frame_table.numpy(),
            self.frame_shape,
            rows,
            choices.dy,
            choices.dx,
            choices.flip,
            self.size,
            out.view(rows.size, -1).numpy(),
        )
        return out

    def empty(self, window_shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """Memory for what `gather` makes of rows `[B, W]`, given their shape."""
        count, window = window_shape
        shape = (count, window * self.frame_shape[0], *self.size)
        if device.type == "cpu":
            return torch.from_numpy(np.empty(shape, np.uint8))  # numpy gets huge pages, torch none
        return torch.empty(shape, dtype=torch.uint8, device=device)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state: all that decides the choices to come."""
        return self._generator.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same choices. Raises ValueError, naming the field, for another's state."""
        self._generator.load_state_dict(state)


def augmenter_for(
    store: FrameStore, augmentation: Augmentation | None, seed: int
) -> Augmenter | None:
    """The augmenter of a sampler of `store`, if it is to have one; raises what `Augmenter` does."""
    if augmentation is None:
        return None
    return Augmenter(augmentation, store.frame_shape, seed, store.frame_dtype)


def augment_frames(
    frames: torch.Tensor, choices: Choices, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The twin of the kernel: views of `frames` `[B, K, H, W]` uint8 as uint8 `[B, K, h, w]`.

    All K planes of a sample, channels and frames of its stack, are treated alike.
    """
    count, planes, frame_height, frame_width = frames.shape
    height, width = choices.size
    drawn = np.stack([choices.dy, choices.dx, choices.flip])
    dy, dx, flip = (
        torch.from_numpy(drawn).to(frames.device, non_blocking=True).unsqueeze(2)
    )  # each [B, 1]
    x = torch.arange(width, device=frames.device)
    x = torch.where(flip > 0, width - 1 - x, x)  # [B, w]
    y = torch.arange(height, device=frames.device)
    column = (x + dx).clamp_(0, frame_width - 1)
    row = (y + dy).clamp_(0, frame_height - 1)  # [B, h]
    pixel = (row.unsqueeze(2) * frame_width + column.unsqueeze(1)).view(count, 1, height * width)
    views = torch.gather(
        frames.flatten(2),
        2,
        pixel.expand(count, planes, height * width),
        out=None if out is None else out.view(count, planes, height * width),
    )
    return views.view(count, planes, height, width)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
