"""Encoders and heads: shapes, precision, and the arithmetic that layers promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.encoders import MLP, NatureCNN, SmallCNN, encoder_for
from playfield.nets.layers import PixelConv2d, copy_weights, frozen_copy
from playfield.nets.q_heads import DuelingHead, QHead, QNetwork


def pixels(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def nature_network(dtype=torch.float32):
    encoder = NatureCNN((4, 84, 84), dtype)
    return QNetwork(encoder, QHead(encoder.features, 512, 6))


def test_the_nature_network_has_the_published_number_of_parameters():
    # 8224 + 32832 + 36928 in the convolutions, 1606144 hidden, 3078 for six actions.
    assert sum(p.numel() for p in nature_network().parameters()) == 1_687_206


def test_bytes_are_scaled_to_one_exactly_once():
    layer = PixelConv2d(4, 8, 3, stride=1)
    x = pixels(2, 4, 9, 9)
    plain = F.conv2d(x.float() / 255, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), plain)


def test_bfloat16_agrees_with_float32_to_its_precision():
    network = nature_network()
    x = pixels(8, 4, 84, 84)
    exact = network(x)
    network.encoder.layers[0].compute_dtype = torch.bfloat16
    rough = network(x)
    assert rough.dtype == torch.float32
    # bfloat16 has 8 bits: a relative error of 2^-8 per rounding, over four layers.
    assert (rough - exact).abs().max() < 0.02 * exact.abs().max()
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_copy_computes_the_same_bits_and_follows_its_source(dtype):
    network = nature_network(dtype)
    frozen = frozen_copy(network, dtype)
    x = pixels(3, 4, 84, 84)
    assert torch.equal(frozen(x), network(x))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.01)
    assert not torch.equal(frozen(x), network(x))
    copy_weights(network, frozen)
    assert torch.equal(frozen(x), network(x))
    assert not any(p.requires_grad for p in frozen.parameters())


def test_gradients_and_parameters_stay_float32_in_bfloat16_training():
    network = nature_network(torch.bfloat16)
    network(pixels(2, 4, 84, 84)).sum().backward()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in network.parameters()} == {torch.float32}


def test_dueling_advantages_have_mean_zero():
    head = DuelingHead(5, 8, 4)
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(head(features).mean(1, keepdim=True), head.value(features))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((4, 84, 84), NatureCNN), ((1, 36, 40), NatureCNN), ((1, 10, 5), SmallCNN), ((3,), MLP)],
)
def test_the_encoder_suits_the_observation(shape, kind):
    encoder = encoder_for(shape)
    assert isinstance(encoder, kind)
    x = torch.ones(2, *shape) if len(shape) == 1 else pixels(2, *shape)
    assert encoder(x).shape == (2, encoder.features)


@pytest.mark.parametrize("shape", [(4, 84), (1, 2, 9), ()])
def test_an_observation_that_no_encoder_suits_is_refused(shape):
    with pytest.raises(ValueError, match="no encoder for observations"):
        encoder_for(shape)


def test_the_nature_cnn_refuses_frames_that_it_would_reduce_to_nothing():
    with pytest.raises(ValueError, match="30x84 are too small"):
        NatureCNN((4, 30, 84))


def test_modules_are_channels_last_when_asked():
    network = nature_network().to(memory_format=torch.channels_last)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
