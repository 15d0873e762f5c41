"""Prefetching: the next batch is drawn, assembled and copied to the learner in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import torch

from playfield.buffers.batch import Batch, BatchT, changed
from playfield.buffers.staging import StagedMemory, copying_stream, flat_pieces, plain_fields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BatchT_co = TypeVar("BatchT_co", bound="DataclassInstance", covariant=True)


class Sampler(Protocol[BatchT_co]):
    """What a `Prefetcher` needs: its batches are dataclasses of tensors on the CPU."""

    @property
    def sample(self) -> Callable[..., BatchT_co]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Prefetcher(Generic[BatchT]):
    """Draws the next batch of a sampler in a thread of its own while the learner does other things.

        prefetcher.start(256)           # goes on in the background
        ...
        batch = prefetcher.take()       # on `device`; waits if it is not ready yet

    The sampler is called once for each `start`, in their order and with their arguments, so its
    draws are the ones it would make without a prefetcher. What it sees is another matter:

    - Frames appended after `start` may be in the batch or not, depending on which thread is faster.
      A loop that is to be repeatable appends nothing between `start` and `take` (or `wait`). To
      choose actions and send them to the environments there is harmless: the newest frame begins no
      transition before it has a successor.
    - Priorities updated after `take` are missing from a batch started before that. Whether the
      learner can afford such a delay is its own choice, made by the place of `start`.
    - From `start` to `take` (or `wait`) the sampler belongs to the thread. Call nothing of it then,
      an update of priorities included.

    A batch is valid until the next `take`. On CUDA, whatever uses it has to be enqueued by then, on
    the stream that is current at that `take` or one that this stream waits for.

    Args:
        sampler: of a store whose frames the CPU holds ("cpu" or "mmap").
        device: "cpu" or a CUDA device. There the batch travels from pinned memory on a stream of
            its own, beside the learner's kernels; neither thread waits for the device.
        batch_type: what the sampler returns; a saved batch comes back as this.

    `close`, or leaving a `with` block, ends the thread. One that was never started has none.
    """

    def __init__(
        self,
        sampler: Sampler[BatchT],
        device: torch.device | str,
        batch_type: type[BatchT] = Batch,  # type: ignore[assignment]
    ) -> None:
        self.sampler = sampler
        self.device = torch.device(device)
        if self.device.type not in ("cpu", "cuda"):
            raise ValueError(f"device: {device}, expected cpu or a CUDA device")
        self._batch_type = batch_type
        self._stream = copying_stream(self.device)
        self._thread = ThreadPoolExecutor(1, "playfield-prefetch")
        self._pending: Future[_Filled[BatchT]] | None = None
        # One is being filled while the learner uses the other.
        self._spare: StagedMemory | None = None
        self._taken: StagedMemory | None = None
        self._closed = False

    @property
    def started(self) -> bool:
        """Whether a batch has been started and not been taken yet."""
        return self._pending is not None

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Begin `sampler.sample(*args, **kwargs)` in the background.

        Raises RuntimeError while another batch is waiting to be taken.
        """
        self._check_open()
        if self._pending is not None:
            raise RuntimeError("the batch that was started before has not been taken")
        self._pending = self._thread.submit(self._draw, args, kwargs)

    def wait(self) -> None:
        """Return once the batch is assembled, and the sampler and its store are free again."""
        if self._pending is not None:
            wait([self._pending])

    def take(self) -> BatchT:
        """The batch that was started, on the device, valid until the next `take`.

        Raises RuntimeError if none was started, and whatever the sampler raised, with the traceback
        of the thread; after that another batch can be started.
        """
        self._check_open()
        if self._pending is None:
            raise RuntimeError("no batch was started")
        self.wait()  # an interrupt here leaves the batch where it is
        pending, self._pending = self._pending, None
        filled = pending.result()
        if self._taken is not None:
            self._taken.release()
        self._taken, self._spare = filled.memory, self._taken
        return filled.memory.hand_over(filled.batch)

    def close(self) -> None:
        """End the thread. A batch that was not taken is dropped; one that was taken stays."""
        self._closed = True
        self._thread.shutdown()
        self._pending = self._spare = self._taken = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The sampler's state, and the batch that was started but not taken, by value.

        By value, because a draw cannot be repeated exactly: by the time of a checkpoint its store
        may hold other frames and its sampler other priorities than at the `start`.
        """
        self.wait()
        pending = None
        # What the thread raised is for `take` to tell; there is no batch to save then.
        if self._pending is not None and self._pending.exception() is None:
            filled = self._pending.result()
            batch = filled.memory.on_cpu(filled.batch)
            batch = changed(batch, torch.Tensor.clone, stays=plain_fields(batch))
            pending = {field.name: getattr(batch, field.name) for field in fields(batch)}
        return {"sampler": self.sampler.state_dict(), "pending": pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was saved: a batch that waits in it is the next to `take`.

        One that waits here is dropped. Raises ValueError, naming the field, for another's state.
        """
        self._check_open()
        self.wait()
        for name in ("sampler", "pending"):
            if name not in state:
                raise ValueError(f"{name}: missing")
        pending = state["pending"]
        if pending is not None:
            expected = {f.name for f in fields(self._batch_type)}
            if odd := sorted(expected.symmetric_difference(pending)):
                raise ValueError(
                    f"pending.{odd[0]}: {'missing' if odd[0] in expected else 'not expected'}"
                )
        self.sampler.load_state_dict(state["sampler"])
        self._pending = None
        if pending is not None:
            self._pending = self._thread.submit(self._fill, self._batch_type(**pending))

    # --- in the thread ---------------------------------------------------------------------------

    def _draw(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Filled[BatchT]:
        return self._fill(self.sampler.sample(*args, **kwargs))

    def _fill(self, batch: BatchT) -> _Filled[BatchT]:
        pieces, sources = flat_pieces(batch)
        if self._spare is None or self._spare.pieces != pieces:
            self._spare = StagedMemory(pieces, self._stream)
        self._spare.fill(sources)
        return _Filled(self._spare, batch)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the prefetcher was closed")


@dataclass(frozen=True, slots=True)
class _Filled(Generic[BatchT]):
    memory: StagedMemory
    batch: BatchT  # the sampler's own, for its kind: the contents are in `memory`
