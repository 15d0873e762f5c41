"""Encoders of every kind: their sizes, their norms, and what a copy that acts makes of them."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from playfield.agents.encoders import EncoderConfig, build_encoder
from playfield.errors import UserError
from playfield.nets.actor_critic import ActorCritic
from playfield.nets.dropout import Dropout
from playfield.nets.encoders import MLP, NatureCNN, SmallCNN
from playfield.nets.impala import ImpalaCNN
from playfield.nets.initialization import orthogonal_
from playfield.nets.layers import (
    Conv2d,
    LayerNorm,
    Linear,
    PixelConv2d,
    copy_weights,
    frozen_copy,
)
from playfield.nets.normalization import SpectralNorm, normalized
from playfield.training.state_codec import decode_state, encode_state

SHAPES = {"mlp": (7,), "small": (2, 6, 5), "nature": (2, 44, 36), "impala": (2, 11, 8)}
NORMS = ["none", "layer", "batch", "spectral"]
every_kind = pytest.mark.parametrize("kind", SHAPES)
every_norm = pytest.mark.parametrize("norm", NORMS)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(kind, dtype=torch.float32, **settings):
    encoder, features = build_encoder(EncoderConfig(encoder=kind, **settings), SHAPES[kind], dtype)
    return encoder.to(memory_format=torch.channels_last), features


def observations(kind, batch=5):
    if kind == "mlp":
        return torch.randn(batch, *SHAPES[kind])
    return pixels(batch, *SHAPES[kind])


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def count(network):
    return sum(p.numel() for p in network.parameters())


# --- sizes ----------------------------------------------------------------------------------------


def test_the_nature_cnn_has_the_published_convolutions():
    # (4*8*8+1)*32 + (32*4*4+1)*64 + (64*3*3+1)*64
    assert count(NatureCNN((4, 84, 84))) == 8224 + 32832 + 36928


def test_half_a_nature_cnn_has_half_the_channels():
    encoder = NatureCNN((4, 84, 84), width=0.5)
    assert count(encoder) == (4 * 64 + 1) * 16 + (16 * 16 + 1) * 32 + (32 * 9 + 1) * 32
    assert encoder.features == 32 * 7 * 7


def test_the_impala_network_of_procgen_has_626256_parameters():
    # The agent of Cobbe et al. 2020: 64x64 colour pictures, 256 hidden units, 15 actions, a value.
    encoder = ImpalaCNN((3, 64, 64))
    assert encoder.features == 32 * 8 * 8
    assert count(ActorCritic(encoder, encoder.features, 256, 15)) == 626_256


def test_the_impala_cnn_has_fifteen_convolutions_and_halves_odd_sides_upwards():
    encoder = ImpalaCNN((4, 84, 84), width=2)
    assert sum(isinstance(m, nn.Conv2d) for m in encoder.modules()) == 15
    assert encoder.features == 64 * 11 * 11  # 84 -> 42 -> 21 -> 11


def test_the_impala_cnn_follows_figure_3_of_the_paper():
    encoder = ImpalaCNN((3, 13, 10))
    x = pixels(2, 3, 13, 10)
    convolutions = iter([m for m in encoder.modules() if isinstance(m, nn.Conv2d)])

    def convolve(x):
        layer = next(convolutions)
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    y = x / 255
    for _ in range(3):
        y = F.max_pool2d(convolve(y), 3, stride=2, padding=1)
        for _ in range(2):
            y = y + convolve(convolve(y.relu()).relu())
    assert next(convolutions, None) is None
    torch.testing.assert_close(encoder(x), y.relu().flatten(1))


def test_any_width_leaves_a_channel():
    for encoder in (NatureCNN((1, 36, 36), width=1e-3), SmallCNN((1, 5, 5), width=1e-3)):
        assert min(m.out_channels for m in encoder.modules() if isinstance(m, nn.Conv2d)) == 1
    assert MLP((3,), (64,), width=1e-3).features == 1


@every_kind
@every_norm
def test_features_are_as_many_as_announced(kind, norm):
    encoder, features = build(kind, norm=norm, width=1.5)
    assert encoder(observations(kind)).shape == (5, features)


def test_an_mlp_without_layers_passes_its_observation_on():
    encoder, features = build("mlp", mlp_layers=())
    obs = observations("mlp")
    assert features == 7
    assert torch.equal(encoder(obs), obs)


@pytest.mark.parametrize(
    ("shape", "kind"), [((4, 84, 84), NatureCNN), ((1, 10, 5), SmallCNN), ((3,), MLP)]
)
def test_auto_takes_the_encoder_that_suits(shape, kind):
    assert isinstance(build_encoder(EncoderConfig(), shape, torch.float32)[0], kind)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("mlp", (4, 84, 84), "encoder=mlp is for vectors.* 84x84: choose small, nature"),
        ("impala", (4,), "encoder=impala is for pictures.* 4 numbers: choose mlp"),
        ("nature", (1, 35, 40), "encoder=nature needs pictures of 36x36 or more, not 35x40"),
        ("small", (1, 2, 9), "encoder=small needs pictures of 3x3 .* choose impala"),
        ("auto", (1, 2, 9), "encoder=small needs pictures of 3x3 .* choose impala"),
        ("auto", (5, 5), r"no encoder for observations of shape \(5, 5\)"),
    ],
)
def test_an_encoder_that_does_not_suit_is_refused(kind, shape, message):
    with pytest.raises(UserError, match=message):
        build_encoder(EncoderConfig(encoder=kind), shape, torch.float32)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "layers"), [("nature", (0, 2, 4)), ("small", (0,)), ("mlp", (0,))]
)
@every_norm
def test_layers_keep_the_names_of_saved_runs_under_every_norm(kind, layers, norm):
    names = set(build(kind, norm=norm)[0].state_dict())
    published = {f"layers.{i}.{what}" for i in layers for what in ("weight", "bias")}
    assert names == published if norm == "none" else names > published


# --- precision and copies -------------------------------------------------------------------------


@every_kind
@every_norm
def test_bfloat16_agrees_with_float32_to_its_precision(kind, norm):
    encoder, _ = build(kind, norm=norm)
    rough, _ = build(kind, torch.bfloat16, norm=norm)
    rough.load_state_dict(encoder.state_dict())
    obs = observations(kind, batch=16)
    exact, near = encoder.eval()(obs), rough.eval()(obs)
    assert near.dtype == torch.bfloat16
    # 2^-8 per rounding; up to 15 layers, of which norms keep the scale.
    assert (near.float() - exact).norm() < 0.03 * exact.norm()


@every_kind
@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_copy_computes_the_same_bits_and_follows_its_source(kind, norm, dtype):
    encoder, _ = build(kind, dtype, norm=norm, dropout=0.5)
    copy = frozen_copy(encoder, dtype).eval()
    obs = observations(kind)
    encoder(obs)  # in training mode: the buffers of norms move
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    expected = encoder.eval()(obs)
    assert not torch.equal(copy(obs), expected)
    copy_weights(encoder, copy)
    assert torch.equal(copy(obs), expected)


@every_kind
@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_every_parameter_in_float32_and_its_layout(kind, norm, dtype):
    encoder, _ = build(kind, dtype, norm=norm, dropout=0.1)
    features = encoder(observations(kind))
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in encoder.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and gradient.dtype == torch.float32, name
        # Fused optimisers walk weights and gradients side by side.
        assert gradient.stride() == parameter.stride(), name
        if not (norm == "batch" and name.endswith("bias")):  # the mean takes those out again
            assert gradient.count_nonzero() > 0, name


@every_norm
def test_the_state_of_an_encoder_survives_a_checkpoint(norm):
    encoder, _ = build("impala", norm=norm, dropout=0.5)
    obs = observations("impala")
    encoder(obs)
    restored, _ = build("impala", norm=norm, dropout=0.5)
    restored.load_state_dict(decode_state(*encode_state(dict(encoder.state_dict()))))
    for _ in range(2):
        assert torch.equal(restored(obs), encoder(obs))


# --- the first convolution ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [
        ((1, 4, 84, 84), 8, 4),  # on blocks of pixels
        ((2, 1, 12, 16), 4, 4),
        ((2, 3, 20, 12), 12, 4),
        ((2, 4, 42, 84), 8, 4),  # sides that have no blocks
        ((2, 4, 20, 20), 8, 2),
        ((2, 4, 20, 20), 6, 4),
    ],
)
def test_the_convolution_of_pixels_is_the_plain_one(shape, kernel, stride):
    layer = PixelConv2d(shape[1], 8, kernel, stride).to(memory_format=torch.channels_last)
    x = pixels(*shape)
    plain = F.conv2d(x.double() / 255, layer.weight.double(), layer.bias.double(), stride)
    torch.testing.assert_close(layer(x).double(), plain, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(plain)
    (expected,) = torch.autograd.grad(plain, layer.weight, direction)
    (gradient,) = torch.autograd.grad(layer(x), layer.weight, direction.float())
    torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=1e-4)


def test_pixels_may_lie_anywhere_in_memory():
    layer = PixelConv2d(2, 8, 8, 4)
    memory = pixels(1 + 3 * 2 * 16 * 20)
    odd = memory[1:].view(3, 2, 16, 20)
    expected = layer(odd.clone())
    assert torch.equal(layer(odd), expected)
    assert torch.equal(layer(odd.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(layer(odd[:, :, ::2]), layer(odd[:, :, ::2].clone()))


# --- norms ----------------------------------------------------------------------------------------


def test_layer_norm_normalises_the_channels_of_each_pixel_by_itself():
    norm = LayerNorm(6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    x = torch.randn(2, 6, 3, 4) * 3 + 1
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    expected = np.empty(x.shape)
    for b, h, w in np.ndindex(2, 3, 4):
        pixel = x[b, :, h, w].double().numpy()
        deviation = np.sqrt(np.mean((pixel - pixel.mean()) ** 2) + 1e-6)
        expected[b, :, h, w] = (pixel - pixel.mean()) / deviation * weight + bias
    for layout in (torch.contiguous_format, torch.channels_last):
        given = norm(x.contiguous(memory_format=layout)).detach().numpy()
        np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(norm(x[:, :, 1, 2]).detach(), expected[:, :, 1, 2], atol=1e-5)


def test_layer_norm_leaves_pictures_as_they_lie_in_memory():
    x = torch.randn(2, 8, 3, 4).contiguous(memory_format=torch.channels_last)
    assert LayerNorm(8)(x).is_contiguous(memory_format=torch.channels_last)


def test_batch_norm_uses_the_batch_while_learning_and_its_running_mean_after():
    _, norm = normalized(Conv2d(3, 3, 1), "batch")
    x = torch.randn(64, 3, 4, 4) * 5 + 2
    learning = norm(x)
    torch.testing.assert_close(learning.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(learning.var((0, 2, 3)), torch.ones(3), atol=2e-3, rtol=0)
    # After one batch the means are 0.9 * (0, 1) + 0.1 * those of the batch.
    mean, variance = 0.1 * x.mean((0, 2, 3)), 0.9 + 0.1 * x.var((0, 2, 3))
    shape = (1, 3, 1, 1)
    acting = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    torch.testing.assert_close(norm.eval()(x), acting)


@pytest.mark.parametrize("layer", [Conv2d(3, 8, 3), PixelConv2d(2, 6, 4, 2), Linear(9, 5)])
def test_a_spectral_norm_brings_the_largest_singular_value_to_one(layer):
    layer, _ = normalized(deepcopy(layer), "spectral")
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight) * 3)
    for _ in range(50):
        used = layer.spectral(layer.weight)
    singular = torch.linalg.svdvals(used.flatten(1))
    assert singular[0].item() == pytest.approx(1, abs=0.01)
    true = torch.linalg.svdvals(layer.weight.flatten(1))
    torch.testing.assert_close(singular / singular[0], true / true[0])


def test_a_spectral_norm_does_not_move_when_it_acts_and_moves_after_use_when_it_learns():
    weight = torch.randn(5, 9)
    norm = SpectralNorm(torch.randn(5, 9))
    acting = norm.eval()(weight)
    assert torch.equal(norm(weight), acting)
    assert torch.equal(norm.train()(weight), acting)
    assert not torch.equal(norm(weight), acting)


def test_a_spectral_norm_lets_no_gradient_along_the_weight():
    # W / sigma(W) does not change when W is scaled, so W is orthogonal to its gradient (Euler).
    weight = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    norm = SpectralNorm(weight.detach().float()).double()
    (norm(weight) * torch.randn(5, 9)).sum().backward()
    assert (weight * weight.grad).sum().abs() < 1e-6 < weight.grad.abs().max()


def test_orthogonal_layers_have_spectral_norm_one_from_the_start():
    convolution, _ = normalized(Conv2d(8, 6, 3), "spectral")
    orthogonal_(convolution, math.sqrt(2))
    used = convolution.spectral(convolution.weight)
    torch.testing.assert_close(used, convolution.weight / math.sqrt(2))


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_drops_its_share_and_keeps_the_mean():
    kept = Dropout(0.25)(torch.ones(100_000))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.75])
    # The share of a binomial of 100000 has a deviation of 0.0014.
    assert (kept == 0).float().mean().item() == pytest.approx(0.25, abs=0.007)


def test_each_mask_is_a_new_one():
    dropout = Dropout(0.5)
    ones = torch.ones(64)
    assert not torch.equal(dropout(ones), dropout(ones))


@every_kind
def test_nothing_is_dropped_when_acting(kind):
    encoder, _ = build(kind, dropout=0.5)
    obs = observations(kind)
    everything = encoder.eval()(obs)
    some = encoder.train()(obs)
    dropped = (some == 0) & (everything != 0)
    assert 0.2 < dropped.sum() / (everything != 0).sum() < 0.8
    torch.testing.assert_close(some[~dropped], 2 * everything[~dropped])


# --- accelerators ---------------------------------------------------------------------------------


@pytest.mark.gpu
@every_kind
@every_norm
def test_an_accelerator_gives_the_same_features(kind, norm):
    for dtype, tolerance in ((torch.float32, 1e-2), (torch.bfloat16, 0.05)):
        encoder, _ = build(kind, dtype, norm=norm, dropout=0.5)
        obs = observations(kind)
        expected = encoder.eval()(obs).float()
        there = encoder.cuda()(obs.cuda()).float().cpu()
        assert (there - expected).norm() < tolerance * expected.norm()
        encoder.train()(obs.cuda()).float().sum().backward()


@pytest.mark.parametrize("kind", ["small", "nature", "impala"])
def test_a_centered_encoder_sees_contrasts_and_not_brightness(kind):
    obs = torch.randint(0, 200, (5, *SHAPES[kind]), dtype=torch.uint8)
    plain, centered = build(kind)[0], build(kind, centered=True)[0]
    # Of the first layer alone: IMPALA's pads with black, which brightness does stand out from.
    first = next(m for m in centered.modules() if isinstance(m, PixelConv2d))
    inner = (..., slice(1, -1), slice(1, -1)) if kind == "impala" else ...
    torch.testing.assert_close(first(obs + 50)[inner], first(obs)[inner], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain(obs + 50), plain(obs), rtol=1e-2, atol=1e-2)


def test_a_centered_kernel_gets_no_gradient_along_its_mean_and_keeps_its_shape_and_name():
    layer = PixelConv2d(4, 6, 8, stride=4, centered=True)
    layer(pixels(3, 4, 84, 84)).square().mean().backward()
    slope = layer.weight.grad.mean((1, 2, 3))
    assert slope.abs().max() < 1e-6 * layer.weight.grad.abs().max()
    assert layer.state_dict().keys() == PixelConv2d(4, 6, 8, stride=4).state_dict().keys()


def test_a_centered_convolution_equals_one_with_the_kernel_s_means_taken_off():
    centered = PixelConv2d(4, 6, 8, stride=4, centered=True)
    plain = PixelConv2d(4, 6, 8, stride=4)
    with torch.no_grad():
        weight = centered.weight.numpy().astype(np.float64)
        weight -= weight.reshape(6, -1).mean(1)[:, None, None, None]
        plain.weight.copy_(torch.from_numpy(weight))
        plain.bias.copy_(centered.bias)
    obs = pixels(3, 4, 44, 36)
    torch.testing.assert_close(centered(obs), plain(obs), rtol=1e-5, atol=1e-5)
