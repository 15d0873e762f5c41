"""TensorBoard's event files: what its pages show, as bytes, and files cut back for a resume.

A file is a row of records (TensorFlow's TFRecord: length, checksum, message, checksum), a message
an `Event` protobuf with a step and a wall time in seconds. Everything here is of the run's own
folder, hyper-parameters included: no sub-runs.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_STRING
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from playfield.atomic import write_atomically
from playfield.training.layouts import Category
from playfield.training.media import Film

#: Files of a run's folder that TensorBoard reads.
PATTERN = "events.out.tfevents.*"
#: A hyper-parameter as TensorBoard shows it.
Setting = bool | float | str
#: How a session ended, in TensorBoard's words.
STATUS = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
#: What there is once in a run. TensorBoard keeps the first that it reads, so a resume cuts it off.
ONCE = frozenset(
    {
        custom_scalar_metadata.CONFIG_SUMMARY_TAG,
        hparams_metadata.EXPERIMENT_TAG,
        hparams_metadata.SESSION_START_INFO_TAG,
        hparams_metadata.SESSION_END_INFO_TAG,
    }
)
_LENGTH = struct.Struct("<QI")  # of the message, and the checksum of these eight bytes
_CHECKSUM = struct.Struct("<I")  # of the message, behind it


# --- events ---------------------------------------------------------------------------------------


def encode(events: Sequence[Event]) -> bytes:
    """The records of `events`."""
    buffer = io.BytesIO()
    records = RecordWriter(buffer)
    for event in events:
        records.write(event.SerializeToString())
    return buffer.getvalue()


def version(wall_time: float) -> Event:
    """What every file begins with."""
    return Event(wall_time=wall_time, file_version="brain.Event:2")


def restart(progress: int, wall_time: float) -> list[Event]:
    """What tells a TensorBoard that is open already to forget all points beyond `progress`.

    It takes the first START of a run for its beginning, and purges at each one after that.
    """
    start = SessionLog(status=SessionLog.START)
    return [Event(wall_time=wall_time, step=progress + 1, session_log=start)] * 2


def scalars(
    step: int,
    wall_time: float,
    values: Mapping[str, float],
    descriptions: Mapping[str, str] | None = None,
) -> Event:
    """A point of each curve in `values`; `descriptions` are shown beside the curves so named."""
    described = descriptions or {}
    summary = Summary()
    for tag, value in values.items():
        one = summary.value.add(tag=tag, simple_value=value)
        if tag in described:
            one.metadata.CopyFrom(scalar_metadata.create_summary_metadata("", described[tag]))
            # Without it TensorBoard's fast loader takes the description away again.
            one.metadata.data_class = DATA_CLASS_SCALAR
    return Event(wall_time=wall_time, step=step, summary=summary)


def picture(step: int, wall_time: float, tag: str, shown: Film) -> Event:
    """A picture, still or moving: TensorBoard hands the bytes to the browser as they are."""
    image = Summary.Image(
        height=shown.height,
        width=shown.width,
        colorspace=3,
        encoded_image_string=shown.encoded,
    )
    value = Summary.Value(tag=tag, image=image)
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[value]))


def histogram(step: int, wall_time: float, tag: str, buckets: NDArray[np.float64]) -> Event:
    """A distribution, as `[K, 3]` of left edge, right edge and count: see `histograms.buckets`."""
    rows, columns = buckets.shape
    shape = TensorShapeProto(
        dim=[TensorShapeProto.Dim(size=rows), TensorShapeProto.Dim(size=columns)]
    )
    content = np.ascontiguousarray(buckets, dtype="<f8").tobytes()
    tensor = TensorProto(dtype=DT_DOUBLE, tensor_shape=shape, tensor_content=content)
    metadata = histogram_metadata.create_summary_metadata(display_name="", description="")
    return _tensor(step, wall_time, tag, tensor, metadata)


def text(step: int, wall_time: float, tag: str, markdown: str) -> Event:
    """Markdown, shown as such."""
    tensor = _string(markdown.encode())
    metadata = text_metadata.create_summary_metadata(display_name="", description="")
    return _tensor(step, wall_time, tag, tensor, metadata)


def hyperparameters(wall_time: float, settings: Mapping[str, Setting]) -> Event:
    """The settings of a run, for a row of TensorBoard's table.

    The row's metrics are the newest points of the run's curves, which TensorBoard looks up itself.
    There is no list of columns ("experiment") on purpose: TensorBoard would take that of whichever
    run it reads first for all of them, and hide what only the others have.
    """
    info = plugin_data_pb2.SessionStartInfo(start_time_secs=wall_time)
    for name, value in settings.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    data = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _hparams(0, wall_time, hparams_metadata.SESSION_START_INFO_TAG, data)


def session_end(step: int, wall_time: float, status: str) -> Event:
    """How the run ended: "finished" or "failed", the keys of `STATUS`."""
    info = plugin_data_pb2.SessionEndInfo(status=STATUS[status], end_time_secs=wall_time)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    return _hparams(step, wall_time, hparams_metadata.SESSION_END_INFO_TAG, data)


def custom_scalars(wall_time: float, layout: Sequence[Category]) -> Event:
    """Which curves TensorBoard's Custom Scalars page draws together."""
    encoded = layout_pb2.Layout(version=0)
    for category in layout:
        group = encoded.category.add(title=category.title, closed=category.closed)
        for band in category.bands:
            series = group.chart.add(title=band.title).margin.series.add()
            series.value, series.lower, series.upper = band.value, band.lower, band.upper
        for chart in category.lines:
            whole = [f"({tag})$" for tag in chart.tags]  # TensorBoard itself matches beginnings
            group.chart.add(title=chart.title).multiline.tag.extend(whole)
    tensor = _string(encoded.SerializeToString())
    metadata = custom_scalar_metadata.create_summary_metadata()
    return _tensor(0, wall_time, custom_scalar_metadata.CONFIG_SUMMARY_TAG, tensor, metadata)


def _string(content: bytes) -> TensorProto:
    return TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[content])


def _hparams(step: int, wall_time: float, tag: str, data: Any) -> Event:
    metadata = hparams_metadata.create_summary_metadata(data)
    return _tensor(step, wall_time, tag, hparams_metadata.NULL_TENSOR, metadata)


def _tensor(
    step: int, wall_time: float, tag: str, tensor: TensorProto, metadata: SummaryMetadata
) -> Event:
    value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[value]))


# --- files ----------------------------------------------------------------------------------------


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, up to its end or to where it is damaged. Raises `OSError`.

    A record that a crash cut short, or that fails a checksum, ends the file here, as it does for
    TensorBoard: nothing behind it can be trusted to begin where it seems to.
    """
    for _, event in _records(path.read_bytes()):
        yield event


def cut_events(path: Path, progress: int) -> int:
    """Remove what lies beyond `progress`, what there is `ONCE`, and all from the first damage on.

    Returns how many bytes there were from the damage to the end; 0 for a whole file. The file is
    replaced only if that changes it, and left alone if no event is in front. A TensorBoard that has
    it open keeps what it has read, and learns from `restart` what to forget. Raises `OSError`.
    """
    content = path.read_bytes()
    kept: list[bytes] = []
    whole = 0  # bytes of whole records
    for record, event in _records(content):
        whole += len(record)
        once = any(value.tag in ONCE for value in event.summary.value)
        if event.step <= progress and not once:
            kept.append(record)
    if whole and sum(map(len, kept)) < len(content):
        write_atomically(path, b"".join(kept))
    return len(content) - whole


@dataclass(frozen=True)
class Damage:
    """Where a file ends for TensorBoard, although more was written or should have been."""

    step: int | None  # of the last event before it; None: there is none
    torn: bool  # the file ends within a record, as it does for a moment while that is written


def find_damage(path: Path) -> Damage | None:
    """The first damage of a file, or an empty file; None for a whole one. Raises `OSError`.

    It goes from record to record by their lengths, and of the messages it reads the last one alone:
    a tenth of a second for ten megabytes of points, whatever the pictures among them weigh. So a
    bit that flipped within a message before is not found; `read_events` would.
    """
    starts, at = [], 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while at + _LENGTH.size <= size:
            file.seek(at)
            head = file.read(_LENGTH.size)
            if len(head) < _LENGTH.size:  # cut by a resume, just now
                return None
            length, checksum = _LENGTH.unpack(head)
            end = at + _LENGTH.size + length + _CHECKSUM.size
            sound = checksum == _length_checksum(head[:8])
            if not sound or end > size:
                break
            starts.append(at)
            at = end
        else:
            sound = True
        torn, whole = sound, size > 0 and at == size
        for start in reversed(starts):
            file.seek(start)
            event = next(_records(file.read(at - start)), None)
            if event is not None:
                return None if whole else Damage(event[1].step, torn)
            at, torn, whole = start, False, False
    return Damage(None, torn)


@lru_cache(maxsize=2**14)  # most records are as long as some before them
def _length_checksum(length: bytes) -> int:
    return int(masked_crc32c(length))


def _records(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """(record, event in it) of each record in front of the first that is damaged."""
    at = 0
    while at + _LENGTH.size <= len(content):
        length, checksum = _LENGTH.unpack_from(content, at)
        begin = at + _LENGTH.size
        end = begin + length + _CHECKSUM.size
        if end > len(content) or checksum != masked_crc32c(content[at : at + 8]):
            return
        message = content[begin : begin + length]
        if _CHECKSUM.unpack_from(content, begin + length) != (masked_crc32c(message),):
            return
        try:
            event = Event.FromString(message)
        except Exception:  # a DecodeError, of a package that is TensorBoard's own affair
            return
        yield content[at:end], event
        at = end
