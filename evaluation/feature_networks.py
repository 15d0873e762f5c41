"""The networks whose features images are compared by, as a user names them.

    random            fixed random convolutions; no file, the same everywhere
    inception:FILE    the FID's Inception-v3, images resized without artefacts
    inception-tf1:FILE    the same with TensorFlow 1's resizing, as in the first published FIDs
    dinov2:FILE       a DINOv2 ViT of any size

`classifier:RUN`, a classifier of this project, is opened by the commands, which know runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from playfield.buffers.generator import CounterGenerator
from playfield.errors import UserError
from playfield.evaluation.features import FeatureNetwork, TorchFeatures
from playfield.evaluation.foreign_weights import load_into, read_weights
from playfield.evaluation.resize import as_rgb, bicubic, tensorflow_bilinear
from playfield.nets import dinov2, inception
from playfield.nets.random_features import RandomFeatures

Device = torch.device | str

RANDOM = "random"
#: Of the random network. Another one would give other features under the same name.
_SEED = 20_150_212


def feature_network(words: str, channels: int, device: Device = "cpu") -> FeatureNetwork:
    """The network that `words` name, for images of `channels` channels.

    Raises `UserError` for other words, and for a file that holds no such network.
    """
    kind, _, file = words.partition(":")
    if words == RANDOM:
        return random_features(channels, device)
    if kind not in _FROM_FILE or not file:
        kinds = ", ".join(f"{kind}:FILE" for kind in _FROM_FILE)
        raise UserError(
            f"--features has to be {RANDOM}, classifier:RUN or one of {kinds}, not {words!r}."
        )
    return _FROM_FILE[kind](Path(file).expanduser(), device)


def random_features(channels: int, device: Device = "cpu") -> TorchFeatures:
    """Fixed random convolutions for images of `channels` channels: 256 features."""
    generator = CounterGenerator(_SEED)
    network = RandomFeatures(channels, lambda count: torch.from_numpy(generator.uniforms(count)))

    def prepare(images: torch.Tensor) -> torch.Tensor:
        if images.shape[1] != channels:
            raise UserError(
                f"Random features of images of {channels} channels were asked for, and these have "
                f"{images.shape[1]}: compare images of one kind."
            )
        return images.float().div(127.5).sub(1)

    return TorchFeatures(
        RANDOM,
        weights_sha256(network),
        "bytes / 127.5 - 1",
        network.size,
        network.eval().to(device),
        prepare,
        device,
    )


def inception_features(
    path: Path, device: Device = "cpu", *, tensorflow_resize: bool = False
) -> TorchFeatures:
    """The FID's Inception-v3 with the weights in `path`: 2,048 features.

    `tensorflow_resize` enlarges images as the first FIDs did it, to compare with published ones;
    it is no better in any other respect.
    """
    weights, sha256 = read_weights(path)
    with torch.device("meta"):
        network = inception.FIDInception()
    load_into(network, weights, path, "Inception-v3 as the FID uses it")
    resize = tensorflow_bilinear if tensorflow_resize else bicubic

    def prepare(images: torch.Tensor) -> torch.Tensor:
        return resize(as_rgb(images), inception.SIZE).sub(128).div(128)

    filter_name = "TensorFlow 1's bilinear" if tensorflow_resize else "antialiased bicubic"
    return TorchFeatures(
        "inception",
        sha256,
        f"grey as RGB, {filter_name} to 299x299 in float32, (bytes - 128) / 128",
        inception.FEATURES,
        _ready(network, device),
        prepare,
        device,
        _block(device),
    )


def dinov2_features(path: Path, device: Device = "cpu") -> TorchFeatures:
    """The DINOv2 ViT whose weights are in `path`: 384, 768, 1,024 or 1,536 features."""
    weights, sha256 = read_weights(path)
    with torch.device("meta"):
        network = dinov2.DINOv2.for_weights(weights)
    if network is None:
        raise UserError(
            f"{path} holds no DINOv2: expected cls_token, pos_embed and blocks as in Meta's "
            "ViT-S, B, L or g with patches of 14."
        )
    load_into(network, weights, path, f"DINOv2 {network.shape.name}")
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1) * 255
        for values in (dinov2.MEAN, dinov2.STD)
    )

    def prepare(images: torch.Tensor) -> torch.Tensor:
        return bicubic(as_rgb(images), dinov2.SIZE).sub(mean).div(std)

    return TorchFeatures(
        f"dinov2-{network.shape.name}",
        sha256,
        "grey as RGB, antialiased bicubic to 224x224 in float32, ImageNet's mean and deviation",
        network.shape.width,
        _ready(network, device),
        prepare,
        device,
        _block(device),
    )


def weights_sha256(network: nn.Module) -> str:
    """Of names, shapes and float32 values of everything in the `state_dict` of `network`."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _block(device: Device) -> int:
    """Images at once for a large network: few on a processor, which has work enough with them."""
    return 4 if torch.device(device).type == "cpu" else 64


def _ready(network: nn.Module, device: Device) -> nn.Module:
    return network.eval().requires_grad_(False).to(device)


def _tensorflow_inception(path: Path, device: Device) -> TorchFeatures:
    return inception_features(path, device, tensorflow_resize=True)


_FROM_FILE: dict[str, Callable[[Path, Device], TorchFeatures]] = {
    "inception": inception_features,
    "inception-tf1": _tensorflow_inception,
    "dinov2": dinov2_features,
}
