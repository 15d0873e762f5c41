"""A data set: images in the frame store, with their labels beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.buffers.store import Column, FrameStore
from playfield.generative.objective import NO_LABEL, ImageSpec

#: The store's column that holds labels.
LABEL = "label"
#: Of images that are looked at in one go.
BLOCK_BYTES = 1 << 20
#: Of the choice of some images to stand for all.
SPREAD_SEED = 0


@dataclass(frozen=True)
class ImageData:
    """Images to learn from: a store whose frames are the images."""

    name: str  # the spec that opens it again
    store: FrameStore
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, …; empty: no labels
    damaged: tuple[str, ...] = ()  # files that could not be read, each with the reason

    def __len__(self) -> int:
        return len(self.store)

    @property
    def spec(self) -> ImageSpec:
        channels, height, width = self.store.frame_shape
        return ImageSpec(channels, height, width, self.classes)

    def images(self) -> NDArray[np.uint8]:
        """All images `[N, C, H, W]`, stream by stream; a view of the store where it has one."""
        frames = self.store.frames.cpu().numpy()
        sizes = np.minimum(self.store.head, self.store.slots)
        if len(sizes) == 1:
            return frames[0, : sizes[0]]
        return np.concatenate([frames[s, :size] for s, size in enumerate(sizes)])

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """The same images in the same order, some `[B, C, H, W]` at a time: never all in memory."""
        count = max(1, BLOCK_BYTES // self.store.frame_bytes)
        sizes = np.minimum(self.store.head, self.store.slots)
        for stream, size in enumerate(sizes.tolist()):
            for begin in range(0, size, count):
                end = min(begin + count, size)
                yield self.store.frames[stream, begin:end].cpu().numpy()

    def spread(self, most: int) -> NDArray[np.uint8]:
        """`most` of the images `[N, C, H, W]`, drawn from all; all where there are no more.

        The same ones each time, in their order: whether classes lie one after the other or come in
        turn, each is there about as often as in the data. Of images on the disk only those chosen
        are read; where all are, what lies there stays there.
        """
        if most >= len(self):
            return self.images()
        parts = [
            self.store.frames[stream, torch.from_numpy(chosen).to(self.store.frames.device)].cpu()
            for stream, chosen in enumerate(self._split(_drawn(len(self), most)))
        ]
        return torch.cat(parts).numpy()

    def spread_labels(self, most: int) -> NDArray[np.int64]:
        """The labels of `spread(most)`."""
        return self.labels()[_drawn(len(self), most)]

    def _split(self, chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Sorted numbers of images, as places in each of the streams."""
        ends = np.minimum(self.store.head, self.store.slots).cumsum()
        parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
        return [part - begin for part, begin in zip(parts, [0, *ends[:-1]], strict=True)]

    def labels(self) -> NDArray[np.int64]:
        """Their labels `[N]`, `NO_LABEL` where there are none."""
        if LABEL not in self.store.extra:
            return np.full(len(self), NO_LABEL)
        column = self.store.extra[LABEL]
        sizes = np.minimum(self.store.head, self.store.slots)
        return np.concatenate([column[s, :size] for s, size in enumerate(sizes)])

    def std(self) -> float:
        """Standard deviation of all their numbers, as signals in [-1, 1]."""
        counts = np.zeros(256, np.int64)
        for block in self.blocks():
            counts += np.bincount(block.reshape(-1), minlength=256)
        values = np.arange(256) / 127.5 - 1
        mean = np.average(values, weights=counts)
        return float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))

    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels and labels: two data sets with one are the same."""
        shape = (len(self), *self.store.frame_shape)
        digest = hashlib.sha256(repr((shape, self.classes)).encode())
        for block in self.blocks():
            digest.update(np.ascontiguousarray(block).data)
        digest.update(self.labels().astype("<i8").tobytes())
        return digest.hexdigest()


class ImageWriter:
    """Puts images into a store one after the other, each an episode of its own.

    Args:
        count: images that fit, 2 or more.
        shape: of each, `(C, H, W)`.
        device: where the frames live, as for `FrameStore`: "cpu", "mmap" or a CUDA device.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, int, int],
        *,
        device: str = "cpu",
        folder: Path | None = None,
    ) -> None:
        self.store = FrameStore(
            count, 1, shape, columns={LABEL: Column((), "int64")}, device=device, folder=folder
        )

    def add(self, image: NDArray[np.uint8], label: int = NO_LABEL) -> None:
        """Append one image `[C, H, W]`."""
        self.store.append(_arrival(image[None]))
        # A final frame has no action; what `act` leaves is the label.
        self.store.act(_NO_ACTION, label=np.array([label]))


def images_from_arrays(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    *,
    device: str = "cpu",
) -> ImageData:
    """A data set of `images` `[N, C, H, W]`, with `labels` `[N]` into `classes`."""
    writer = ImageWriter(len(images), (images.shape[1], *images.shape[2:]), device=device)
    for index, image in enumerate(images):
        writer.add(image, NO_LABEL if labels is None else int(labels[index]))
    return ImageData(name, writer.store, tuple(classes))


_NO_ACTION = np.zeros(1, np.int64)
_ZERO = np.zeros(1, np.float32)
_NO, _YES = np.zeros(1, np.bool_), np.ones(1, np.bool_)


def _drawn(count: int, most: int) -> NDArray[np.int64]:
    """`most` of `0 .. count - 1` without replacement, sorted; all where there are no more.

    Evenly spaced ones would be of a few classes only, where classes come in turn.
    """
    if most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(SPREAD_SEED).choice(count, most, replace=False))


def _arrival(frames: NDArray[np.uint8]) -> Any:
    """An episode of one frame: it begins and ends there."""
    return SimpleNamespace(
        frames=frames, reward=_ZERO, terminated=_YES, truncated=_NO, life_lost=_NO, first=_YES
    )
