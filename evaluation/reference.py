"""Features of real images, which stay the same from one evaluation to the next, kept in a cache.

    features/<network>-<key>.safetensors

The key is a hash of the conditions: the pixels themselves, and what tells the network. The file
repeats them beside a checksum, and is believed only if all of it fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from playfield.atomic import make_folder, write_atomically
from playfield.evaluation.features import FeatureNetwork, extract
from playfield.evaluation.images import Features

#: The folder in the cache.
FOLDER = "features"
_FORMAT = 1
#: Bytes of images that are hashed at once.
_BLOCK = 1 << 24


def reference_features(
    network: FeatureNetwork,
    images: NDArray[np.uint8],
    *,
    cache: Path | None,
    warn: Callable[[str], None],
) -> Features:
    """`extract(network, images)`, from the `cache` if they are there, and kept there if not.

    None: without a cache. `warn` is told of a file that is damaged, which is made again, and of a
    cache that can't be written, which is done without.
    """
    if cache is None:
        return extract(network, images)
    conditions = _conditions(network, images)
    path = cache / FOLDER / f"{network.name}-{_sha256(conditions.encode())[:32]}.safetensors"
    array = _kept(path, conditions, (len(images), network.size), warn)
    if array is not None:
        return Features(array, network.name, network.sha256, network.preprocessing)
    features = extract(network, images)
    rows = np.ascontiguousarray(features.array, np.float32)
    metadata = {"conditions": conditions, "sha256": _sha256(rows.tobytes())}
    try:
        make_folder(path.parent)
        write_atomically(path, safetensors.numpy.save({"features": rows}, metadata))
    except OSError as error:
        warn(f"Features are not kept: {path} can't be written ({error.strerror or error}).")
    return features


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Of the shape and the pixels of `images` `[N, C, H, W]`, which may be mapped from a file."""
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    rows = max(1, _BLOCK // max(1, images[:1].nbytes))
    for start in range(0, len(images), rows):
        digest.update(images[start : start + rows].tobytes())
    return digest.hexdigest()


def _conditions(network: FeatureNetwork, images: NDArray[np.uint8]) -> str:
    """Everything that the features follow from, as JSON."""
    return json.dumps(
        {
            "format": _FORMAT,
            "network": network.name,
            "sha256": network.sha256,
            "preprocessing": network.preprocessing,
            "size": network.size,
            "n": len(images),
            "images": images_sha256(images),
        }
    )


def _kept(
    path: Path, conditions: str, shape: tuple[int, int], warn: Callable[[str], None]
) -> NDArray[np.float32] | None:
    """The features `shape` in `path`; None where there are none, or none that can be believed."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            array: NDArray[np.float32] = file.get_tensor("features")
    except (OSError, safetensors.SafetensorError):
        metadata, array = {}, np.empty(0, np.float32)
    fits = (
        metadata.get("conditions") == conditions
        and array.dtype == np.float32
        and array.shape == shape
        and metadata.get("sha256") == _sha256(array.tobytes())
    )
    if not fits:
        warn(f"{path} is damaged: its features are worked out again.")
    return array if fits else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
