"""DINOv2's transformers, held against loops in float64, published sizes and Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image

from playfield.evaluation.feature_networks import dinov2_features
from playfield.nets.dinov2 import SHAPES, DINOv2, DINOv2Shape

Array = NDArray[np.float64]
SMALL, GATED = DINOv2Shape("small", 128, 2), DINOv2Shape("gated", 192, 2, gated=True)


def filled(network: DINOv2, seed: int = 0) -> DINOv2:
    """`network` with random weights in place of all that begin at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        numbers = torch.randn(tensor.shape, generator=generator)
        state[name] = numbers * (0.1 if tensor.ndim == 2 else 0.5)
    network.load_state_dict(state, assign=True)
    return network.eval()


def on_meta(shape: DINOv2Shape, **options: int) -> DINOv2:
    with torch.device("meta"):
        return DINOv2(shape, **options)


# --- an independent account of the network ---


def layer_norm(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    """One head of 64 channels and one token after the other."""
    tokens, width = x.shape
    query, key, value = np.split(linear(x, weights, f"{name}.qkv"), 3, axis=1)
    mixed = np.zeros_like(x)
    for head in range(width // 64):
        part = slice(64 * head, 64 * head + 64)
        for token in range(tokens):
            score = np.array([query[token, part] @ key[j, part] / 8 for j in range(tokens)])
            share = np.exp(score - score.max())
            mixed[token, part] = share @ value[:, part] / share.sum()
    return linear(mixed, weights, f"{name}.proj")


def mlp(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    if f"{name}.w12.weight" in weights:
        gate, value = np.split(linear(x, weights, f"{name}.w12"), 2, axis=1)
        return linear(gate / (1 + np.exp(-gate)) * value, weights, f"{name}.w3")
    hidden = linear(x, weights, f"{name}.fc1")
    normal = np.vectorize(lambda t: 0.5 * (1 + math.erf(t / math.sqrt(2))))(hidden)
    return linear(hidden * normal, weights, f"{name}.fc2")


def class_token(image: Array, weights: Mapping[str, Array], depth: int) -> Array:
    """The feature of an image `[3, H, W]` whose patches are as many as positions were learned."""
    patches = [
        np.tensordot(weights["patch_embed.proj.weight"], image[:, y : y + 14, x : x + 14], 3)
        + weights["patch_embed.proj.bias"]
        for y in range(0, image.shape[1], 14)
        for x in range(0, image.shape[2], 14)
    ]
    tokens = np.stack([weights["cls_token"][0, 0], *patches]) + weights["pos_embed"][0]
    if "register_tokens" in weights:
        tokens = np.concatenate([tokens[:1], weights["register_tokens"][0], tokens[1:]])
    for block in (f"blocks.{index}" for index in range(depth)):
        changed = attention(layer_norm(tokens, weights, f"{block}.norm1"), weights, f"{block}.attn")
        tokens = tokens + changed * weights[f"{block}.ls1.gamma"]
        changed = mlp(layer_norm(tokens, weights, f"{block}.norm2"), weights, f"{block}.mlp")
        tokens = tokens + changed * weights[f"{block}.ls2.gamma"]
    return layer_norm(tokens[0], weights, "norm")


@pytest.mark.parametrize("shape", [SMALL, GATED])
@pytest.mark.parametrize("registers", [0, 4])
def test_features_are_those_of_an_independent_account(shape: DINOv2Shape, registers: int) -> None:
    network = filled(on_meta(shape, grid=3, registers=registers))
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    images = np.random.default_rng(0).normal(size=(2, 3, 42, 42))
    with torch.no_grad():
        found = network.double()(torch.from_numpy(images)).numpy()
    expected = np.stack([class_token(image, weights, shape.depth) for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-9)


# --- the published networks ---


@pytest.mark.parametrize(
    ("shape", "millions"), list(zip(SHAPES, (22.06, 86.58, 304.37, 1136.48), strict=True))
)
def test_parameters_are_as_many_as_published(shape: DINOv2Shape, millions: float) -> None:
    """As timm's table counts them (`vit_small_patch14_dinov2` and its like)."""
    count = sum(parameter.numel() for parameter in on_meta(shape).parameters())
    assert round(count / 1e6, 2) == millions


def test_names_and_shapes_are_those_of_metas_weights() -> None:
    small = {name: tuple(t.shape) for name, t in on_meta(SHAPES[0]).state_dict().items()}
    assert small["cls_token"] == (1, 1, 384)
    assert small["pos_embed"] == (1, 1370, 384)  # of 518 pixels
    assert small["mask_token"] == (1, 384)
    assert small["patch_embed.proj.weight"] == (384, 3, 14, 14)
    assert small["blocks.11.attn.qkv.weight"] == (1152, 384)
    assert small["blocks.11.mlp.fc1.weight"] == (1536, 384)
    assert small["blocks.0.ls2.gamma"] == small["norm.bias"] == (384,)
    assert len(small) == 3 + 2 + 12 * 14 + 2
    giant = on_meta(SHAPES[3], registers=4).state_dict()
    assert tuple(giant["register_tokens"].shape) == (1, 4, 1536)
    assert tuple(giant["blocks.39.mlp.w12.weight"].shape) == (8192, 1536)
    assert tuple(giant["blocks.39.mlp.w3.weight"].shape) == (1536, 4096)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("registers", [0, 4])
def test_the_network_is_told_from_its_weights(shape: DINOv2Shape, registers: int) -> None:
    with torch.device("meta"):
        found = DINOv2.for_weights(on_meta(shape, registers=registers).state_dict())
    assert found is not None
    assert (found.shape, found.grid, found.registers) == (shape, 37, registers)


def test_weights_of_no_such_network_are_told() -> None:
    state = on_meta(SHAPES[0]).state_dict()
    for name in ("cls_token", "pos_embed", "blocks.5.ls1.gamma"):
        assert DINOv2.for_weights({key: t for key, t in state.items() if key != name}) is None
    assert DINOv2.for_weights({}) is None


# --- positions of fewer patches than were learned ---


def cubic(distance: float) -> float:
    """The kernel of cubic convolution (Keys 1981), a = -3/4: torch's, without a filter."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def test_positions_are_interpolated_with_a_tenth_of_a_patch_to_spare() -> None:
    """As Meta's code does it for 224 pixels: the scale is 16.1 / 37, and not 16 / 37."""
    network = filled(on_meta(DINOv2Shape("narrow", 64, 1)))
    learned = network.pos_embed[0, 1:].detach().double().numpy().reshape(37, 37, 64)
    weights = np.zeros((16, 37))
    for index in range(16):
        place = (index + 0.5) * 37 / 16.1 - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[index, min(max(tap, 0), 36)] += cubic(place - tap)
    expected = np.einsum("iy,jx,yxc->ijc", weights, weights, learned).reshape(256, 64)
    found = network._positions(16, 16)[0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_positions_beside_registers_are_interpolated_with_a_filter() -> None:
    network = filled(on_meta(DINOv2Shape("narrow", 64, 1), registers=4))
    learned = network.pos_embed[0, 1:].detach().numpy().reshape(37, 37, 64)
    found = network._positions(16, 16)[0].detach().numpy().reshape(16, 16, 64)
    for channel in (0, 63):
        image = Image.fromarray(np.ascontiguousarray(learned[..., channel]))
        expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-4)


# --- from a file ---


def test_features_of_bytes_come_through_the_preprocessing(tmp_path: Path) -> None:
    """An image of one colour, of any size, is that colour less the mean, over the deviation."""
    network = filled(on_meta(SHAPES[0]))
    path = tmp_path / "dinov2_vits14.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    features = dinov2_features(path)
    assert (features.name, features.size) == ("dinov2-vits14", 384)
    grey = np.full((1, 1, 8, 8), 51, np.uint8)  # 0.2
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    seen = torch.from_numpy((0.2 - mean) / std).float().view(1, 3, 1, 1).expand(1, 3, 224, 224)
    with torch.no_grad():
        expected = network(seen).numpy()
    found = features(grey)
    assert np.abs(expected).mean() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # The class token sees the image: another colour gives other features.
    assert np.abs(features(grey + np.uint8(100)) - found).max() > 1e-2
