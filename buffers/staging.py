"""Staging: the memory where a batch waits for its learner, on the CPU and on the way to a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from playfield.buffers.batch import BatchT, changed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STAYS_ON_CPU = frozenset({"index"})  # the store's ids, which only samplers read


@dataclass(frozen=True, slots=True)
class View:
    """A tensor of a batch, as a view of a flat piece of memory."""

    place: int  # among the batch's tensors
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # in elements


@dataclass(frozen=True, slots=True)
class Piece:
    """Contiguous memory that one or more tensors of a batch are views of.

    The two observations of a one-step transition share all frames but one. Copied piece by piece,
    every byte travels once, and they share those frames on the device too.
    """

    size: int  # in elements
    dtype: torch.dtype
    stays: bool  # on the CPU
    views: tuple[View, ...]


class StagedMemory:
    """Memory for one batch: on the CPU, and where `stream` is given (pinned then) on its GPU too.

    Two events keep it from being overwritten early. `copied`: the pinned memory has been read, so
    the thread that fills it may write there. `released`: the consumer's kernels are done with the
    device's memory, so the copy may write there; the copying stream waits for that, and no thread.

    The caching allocator hands memory out again in the order of the stream that it was allocated
    on, here the copying one, and knows nothing of these events. `record_stream` tells it that the
    consumer's stream works on the memory too, for the time when the last reference to it goes.
    """

    def __init__(self, pieces: list[Piece], stream: torch.cuda.Stream | None) -> None:
        self.pieces, self._stream = pieces, stream
        self._host = [
            torch.empty(piece.size, dtype=piece.dtype, pin_memory=stream is not None)
            for piece in pieces
        ]
        self._memory = self._host
        if stream is not None:
            # Blocking: a thread that waits for it takes no processor time from the others.
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._released = torch.cuda.Event()  # type: ignore[no-untyped-call]
            with torch.cuda.stream(stream):
                self._memory = [
                    host if piece.stays else torch.empty_like(host, device=stream.device)
                    for piece, host in zip(pieces, self._host, strict=True)
                ]

    def fill(self, sources: list[torch.Tensor]) -> None:
        """Copy a batch in, given as `flat_pieces` gives it; the copy to a GPU is enqueued only."""
        if self._stream is not None:
            self._copied.synchronize()
        for host, source in zip(self._host, sources, strict=True):
            # numpy copies without the GIL and without torch's pool of threads, of which every
            # thread that calls torch would start one of its own.
            np.copyto(host.view(torch.uint8).numpy(), source.view(torch.uint8).numpy())
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(self._released)
                for memory, host in zip(self._memory, self._host, strict=True):
                    if memory is not host:
                        memory.copy_(host, non_blocking=True)
                self._copied.record()

    def hand_over(self, batch: BatchT) -> BatchT:
        """`batch` with the tensors of this memory, for what the current stream does from now on."""
        if self._stream is not None:
            consumer = torch.cuda.current_stream(self._stream.device)
            consumer.wait_event(self._copied)
            for memory, host in zip(self._memory, self._host, strict=True):
                if memory is not host:
                    memory.record_stream(consumer)
        return self._viewed(batch, self._memory)

    def release(self) -> None:
        """All that reads the batch has been enqueued on the current stream: it may be refilled."""
        if self._stream is not None:
            self._released.record(torch.cuda.current_stream(self._stream.device))

    def on_cpu(self, batch: BatchT) -> BatchT:
        """`batch` with the tensors of the CPU's half of this memory."""
        return self._viewed(batch, self._host)

    def _viewed(self, batch: BatchT, memories: list[torch.Tensor]) -> BatchT:
        tensors = {
            view.place: memory.as_strided(view.shape, view.stride, view.offset)
            for piece, memory in zip(self.pieces, memories, strict=True)
            for view in piece.views
        }
        in_order = iter(range(len(tensors)))
        return changed(batch, lambda _: tensors[next(in_order)], stays=plain_fields(batch))


def copying_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream of its own on a CUDA device; None for the CPU."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def flat_pieces(batch: DataclassInstance) -> tuple[list[Piece], list[torch.Tensor]]:
    """How the tensors of a batch share memory, and that memory as flat tensors.

    Raises ValueError for a tensor that is not on the CPU.
    """
    groups: dict[tuple[Any, ...], list[tuple[int, torch.Tensor]]] = {}
    for place, (field, tensor) in enumerate(_tensors(batch)):
        if tensor.device.type != "cpu":
            raise ValueError(
                f"{field} is on {tensor.device} already; staging is for batches that the CPU "
                "assembles"
            )
        storage, stays = tensor.untyped_storage(), field in STAYS_ON_CPU
        key = (storage.data_ptr(), storage.nbytes(), tensor.dtype, stays)
        groups.setdefault(key, []).append((place, tensor))
    pieces, sources = [], []
    for (*_, stays), group in groups.items():
        begin = min(_begin(tensor) for _, tensor in group)
        size = max(_begin(tensor) + _extent(tensor) for _, tensor in group) - begin
        if size <= sum(tensor.numel() for _, tensor in group):
            pieces.append(_piece(group, begin, size, stays))
            sources.append(group[0][1].as_strided((size,), (1,), begin))
            continue
        # There is more between them than in them: each by itself.
        for place, tensor in group:
            tensor = tensor.contiguous()
            pieces.append(_piece([(place, tensor)], _begin(tensor), tensor.numel(), stays))
            sources.append(tensor.view(-1))
    return pieces, sources


def plain_fields(batch: DataclassInstance) -> tuple[str, ...]:
    """Names of the fields that hold neither a tensor nor a dict of tensors."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return tuple(name for name, v in values.items() if not isinstance(v, torch.Tensor | dict))


def _tensors(batch: DataclassInstance) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor with its field's name, in the order in which `changed` asks for them."""
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            yield field.name, value
        elif isinstance(value, dict):
            for tensor in value.values():
                yield field.name, tensor


def _piece(group: list[tuple[int, torch.Tensor]], begin: int, size: int, stays: bool) -> Piece:
    views = (View(i, tuple(t.shape), t.stride(), _begin(t) - begin) for i, t in group)
    return Piece(size, group[0][1].dtype, stays, tuple(views))


def _begin(tensor: torch.Tensor) -> int:
    return int(tensor.storage_offset())


def _extent(tensor: torch.Tensor) -> int:
    """Elements from a tensor's first to its last, both included."""
    if not tensor.numel():
        return 0
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)
