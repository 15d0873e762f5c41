"""The benchmark of DCGANs: the networks that are compared, and what is asked of the result."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmark_scripts import quick, script

from playfield.generative.gan_losses import LOSSES
from playfield.generative.gan_presets import DCGAN
from playfield.generative.objective import NO_LABEL

needs_torchgan = pytest.mark.skipif(
    importlib.util.find_spec("torchgan") is None,
    reason="the comparison is with torchgan, which is not installed (extra `bench`)",
)
needs_mimicry = pytest.mark.skipif(
    importlib.util.find_spec("torch_mimicry") is None,
    reason="the comparison is with mimicry, which is not installed (pip install --no-deps)",
)
# What old libraries import, and how, is theirs.
theirs = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def gan_training() -> ModuleType:
    return script("gan_training")


@pytest.fixture(scope="module")
def gan_peers() -> ModuleType:
    return script("gan_peers")


IMAGES = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(16, 3, 2, 2)


@pytest.fixture(autouse=True)
def same_weights_each_time() -> Iterator[None]:
    """The peers draw theirs from torch's own generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def our_players(gan_training: ModuleType, net: str) -> Any:
    """Our two networks, in float32."""
    return gan_training.Playfield(gan_training.Peer("playfield", net), IMAGES.numpy(), 2)


@needs_torchgan
@theirs
def test_with_torchgans_weights_ours_paint_and_judge_as_torchgan_does(
    gan_training: ModuleType, gan_peers: ModuleType
) -> None:
    ours = our_players(gan_training, "dcgan")
    theirs = gan_peers.TorchGAN(IMAGES, 2, "float32")
    with torch.no_grad():
        first, *doubling = theirs.generator.model
        # A transposed convolution of one pixel is a matrix.
        ours.generator.input.weight.copy_(first[0].weight.flatten(1).T)
        for layer, their in zip(ours.generator.layers, doubling, strict=True):
            layer.weight.copy_(their[0].weight)
        ours.generator.layers[-1].bias.copy_(doubling[-1][0].bias)
        for layer, their in zip(ours.discriminator.layers, theirs.discriminator.model, strict=True):
            layer[0].weight.copy_(their[0].weight)
        ours.discriminator.layers[0][0].bias.copy_(theirs.discriminator.model[0][0].bias)
        head = ours.discriminator.head.linear
        head.weight.copy_(theirs.discriminator.disc[0].weight.flatten(1))
        head.bias.zero_()

        z, label = torch.randn(16, 100), torch.full((16,), NO_LABEL)
        images = theirs.generator(z)
        torch.testing.assert_close(ours.generator(z, label), images, rtol=0, atol=1e-5)
        logits = theirs.judge(images)
        assert logits.std() > 0.1  # in a fresh network, and so the comparison says something
        torch.testing.assert_close(ours.judge(images), logits, rtol=1e-4, atol=1e-4)


@needs_torchgan
@theirs
def test_torchgan_plays_for_our_loss_with_our_adam(
    gan_training: ModuleType, gan_peers: ModuleType
) -> None:
    theirs = gan_peers.TorchGAN(IMAGES, 2, "float32")
    real, fake, loss = torch.randn(9), torch.randn(9), LOSSES[DCGAN.loss]
    torch.testing.assert_close(
        theirs.discriminator_loss(real, fake), loss.discriminator(real, fake).mean()
    )
    torch.testing.assert_close(theirs.generator_loss(fake), loss.generator(real, fake).mean())
    ours = our_players(gan_training, "dcgan").trainer
    for mine, its in (
        (ours.generator_step.optimizer, theirs.generator_adam),
        (ours.discriminator_step.optimizer, theirs.discriminator_adam),
    ):
        for name in ("lr", "betas", "eps", "weight_decay"):
            assert mine.param_groups[0][name] == its.param_groups[0][name]


@needs_mimicry
@theirs
def test_mimicrys_networks_are_ours_but_for_a_matrix_in_the_discriminator(
    gan_training: ModuleType, gan_peers: ModuleType
) -> None:
    ours = our_players(gan_training, "resnet")
    theirs = gan_peers.Mimicry(IMAGES, 2, "float32")

    def shapes(network: Any) -> list[torch.Size]:
        return sorted(p.shape for p in network.parameters())

    assert shapes(ours.generator) == shapes(theirs.generator)
    # Our third block halves its map, so its skip connection has a layer.
    more = [torch.Size([64]), torch.Size([64, 64, 1, 1])]
    assert shapes(ours.discriminator) == sorted(shapes(theirs.discriminator) + more)


def test_multiply_adds_of_a_generator_are_those_of_its_layers(gan_training: ModuleType) -> None:
    found = gan_training.size(our_players(gan_training, "dcgan"), 2)
    # Each layer has its weights times the pixels that they are used at: of its input if it doubles.
    doubling = 256 * 128 * 16 * 4**2 + 128 * 64 * 16 * 8**2 + 64 * 3 * 16 * 16**2
    halving = 3 * 64 * 16 * 16**2 + 64 * 128 * 16 * 8**2 + 128 * 256 * 16 * 4**2
    assert found["generator_multiply_adds"] == 100 * 4096 + doubling
    assert found["discriminator_multiply_adds"] == halving + 4096


def test_networks_that_differ_are_not_compared(
    gan_training: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    size = {f"{n}_{w}": 100.0 for n in ("generator", "discriminator")
            for w in ("parameters", "multiply_adds")}  # fmt: skip
    names = "playfield (dcgan), float32", "torchgan, float32"
    gan_training.refuse_unequal({names[0]: size, names[1]: size}, ["torchgan"])
    with pytest.raises(SystemExit):
        larger = {**size, "discriminator_multiply_adds": 115.0}
        gan_training.refuse_unequal({names[0]: size, names[1]: larger}, ["torchgan"])
    assert "our discriminator's multiply-adds" in capsys.readouterr().err


def test_a_peer_that_nobody_has_is_named(
    gan_training: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gan_training.installed("stylegan")
    assert "no peer stylegan" in capsys.readouterr().err


@needs_torchgan
@pytest.mark.slow
def test_gans_are_compared_with_the_same_networks(tmp_path: Path) -> None:
    record = quick("gan_training", tmp_path, "--peers", "torchgan")
    ours, theirs = (record["sizes"][f"{n}, float32"] for n in ("playfield (dcgan)", "torchgan"))
    for network in ("generator", "discriminator"):
        name = f"{network}_multiply_adds"
        assert ours[name] == theirs[name]
        name = f"{network}_parameters"
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
    for rate in record["summary"].values():
        assert rate["median"] > 0
    assert [target["wanted"] for target in record["targets"]] == [1.0, 1.0]
    assert "torchgan" in record["versions"]
