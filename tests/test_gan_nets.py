"""Generators and discriminators: which images they take, and what their numbers depend on."""

from __future__ import annotations

import pytest
import torch
from random_weights import randomized
from torch import nn

from playfield.generative.gan_networks import (
    GANNetConfig,
    build_discriminator,
    build_generator,
)
from playfield.generative.objective import ImageSpec
from playfield.nets.conditional_norm import ConditionalBatchNorm
from playfield.nets.dcgan import Doubling
from playfield.nets.initialization import fan_in_normal_
from playfield.nets.layers import Conv2d, used_weight
from playfield.nets.mlp_gan import MLPDiscriminator, MLPGenerator
from playfield.nets.r3gan import ResidualBlock, residual_blocks
from playfield.nets.resampling import smoothed, smoothly_doubled, smoothly_halved

IMAGE_NETS = ["dcgan", "resnet", "r3gan"]
NETS = [*IMAGE_NETS, "mlp"]
SIZES = [(8, 8), (9, 13), (28, 28), (32, 48)]
every_net = pytest.mark.parametrize("net", NETS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
#: Discriminators in which an image is seen by itself.
ALONE = [
    *((net, "none") for net in NETS),
    *((net, "layer") for net in ("dcgan", "resnet", "mlp")),
    *((net, "spectral") for net in ("dcgan", "resnet", "mlp")),
]


@pytest.fixture(autouse=True)
def seeded_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def spec(shape=(3, 9, 13), classes=10):
    return ImageSpec(*shape, tuple(map(str, range(classes))))


def config(net, **settings):
    usual = {
        "latent": 6,
        "generator_channels": 8,
        "discriminator_channels": 8,
        "group_channels": 8,
        "class_features": 5,
    }
    return GANNetConfig(net=net, **{**usual, **settings})


def generator(net, shape=(3, 9, 13), classes=10, dtype=torch.float32, **settings):
    return build_generator(config(net, **settings), spec(shape, classes), dtype)


def discriminator(net, shape=(3, 9, 13), classes=10, dtype=torch.float32, **settings):
    return build_discriminator(config(net, **settings), spec(shape, classes), dtype)


def inputs(shape=(3, 9, 13), count=3, latent=6, seed=1):
    """Latents, images and the labels -1, 0, 1, …"""
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(count, latent, generator=source)
    return z, torch.randn(count, *shape, generator=source), torch.arange(count) % 4 - 1


def penalty(network, x, label):
    """The mean squared slope of the logits (R1 without its factor), with a graph."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(network(x, label).sum(), x, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


# --- images of all kinds --------------------------------------------------------------------------


def check_images(net, shape, classes):
    paints, tells = generator(net, shape, classes), discriminator(net, shape, classes)
    z, _, label = inputs(shape)
    images = paints(z, label)
    assert images.shape == (3, *shape) and images.dtype == torch.float32
    logits = tells(images, label)
    assert logits.shape == (3,) and logits.dtype == torch.float32
    (logits.sum() + penalty(tells, images, label)).backward()
    for network in (paints, tells):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("net", IMAGE_NETS)
def test_images_of_any_size_and_number_of_channels_are_painted_and_judged(net, size, classes):
    for channels in (1, 2, 3, 4):
        check_images(net, (channels, *size), classes)


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 1, 1), (1, 8, 8)])
def test_points_and_small_images_need_no_convolution(shape, classes):
    check_images("mlp", shape, classes)


@pytest.mark.slow
@pytest.mark.parametrize("net", IMAGE_NETS)
def test_images_of_128_pixels_are_painted_and_judged(net):
    check_images(net, (3, 128, 128), 10)


@pytest.mark.parametrize("net", ["dcgan", "resnet"])
def test_a_tanh_keeps_images_in_their_range(net):
    paints = randomized(generator(net), deviation=1.0)
    assert paints(inputs()[0], inputs()[2]).abs().max() <= 1


@pytest.mark.parametrize("net", IMAGE_NETS)
@pytest.mark.parametrize("planes", [1, 3])
def test_convolutions_compute_in_channels_last(net, planes):
    shape = (planes, 8, 8)
    networks = generator(net, shape, start_size=2), discriminator(net, shape, start_size=2)
    seen = []
    for network in networks:
        for module in network.modules():
            if isinstance(module, Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    z, x, label = inputs(shape)
    networks[0](z, label), networks[1](x, label)
    # By the strides: torch calls a map of one pixel or of one channel contiguous in both formats.
    assert len(seen) >= 4 and all(x.stride(1) == 1 for x in seen)


# --- as many parameters as worked out by hand -----------------------------------------------------


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_dcgan_has_the_parameters_of_its_layers():
    shape, settings = (3, 16, 16), {"latent": 10, "channel_mult": (1, 2)}
    # 16 and 8 pixels lie above the start of 4: maps of 8x8x8 and 16x4x4.
    paints = 10 * 16 * 4 * 4 + 2 * 16 + (16 * 8 * 16) + 2 * 8 + (8 * 3 * 16 + 3)
    tells = (3 * 8 * 16 + 8) + (8 * 16 * 16 + 16) + 2 * 16 + (16 * 4 * 4 + 1)
    assert parameters(generator("dcgan", shape, 0, **settings)) == paints == 5043
    settings["discriminator_norm"] = "batch"
    assert parameters(discriminator("dcgan", shape, 0, **settings)) == tells == 2745
    classes = 10 * 2 * (16 + 8) - 2 * (16 + 8)
    assert parameters(generator("dcgan", shape, 10, **settings)) == paints + classes
    assert parameters(discriminator("dcgan", shape, 10, **settings)) == tells + 10 * 16 * 4 * 4


def test_sngan_has_the_parameters_of_its_layers():
    shape, settings = (3, 16, 16), {"latent": 10, "start_size": 8}

    def conv(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + outputs

    block = 2 * 16 + conv(16, 8, 3) + 2 * 8 + conv(8, 8, 3) + conv(16, 8, 1)
    paints = (10 + 1) * 16 * 8 * 8 + block + 2 * 8 + conv(8, 3, 3)
    tells = conv(3, 16, 3) + conv(16, 16, 3) + conv(3, 16, 1) + 2 * conv(16, 16, 3) + 16 + 1
    assert parameters(generator("resnet", shape, 0, **settings)) == paints == 13_427
    assert parameters(discriminator("resnet", shape, 0, **settings)) == tells == 7489
    assert parameters(discriminator("resnet", shape, 10, **settings)) == tells + 10 * 16


def test_r3gan_has_the_parameters_of_its_layers():
    settings = {"latent": 10, "start_size": 8, "group_channels": 4, "class_features": 6}
    shape = (3, 16, 16)

    def block(channels):
        wide = 2 * channels
        return 2 * channels * wide + wide * 4 * 9 + 2 * wide

    both = block(8) + block(16) + 8 * 16 + 3 * 8 + 16 * 8 * 8  # 1x1 convolutions, and the basis
    assert parameters(generator("r3gan", shape, 0, **settings)) == both + 10 * 16 == 4440
    assert parameters(discriminator("r3gan", shape, 0, **settings)) == both + 16 + 1 == 4297
    with_classes = both + 2 * 10 * 16 + 5 * 10
    assert parameters(generator("r3gan", shape, 5, **settings)) == with_classes
    with_classes = both + 16 * 6 + (6 + 1) + 5 * 6
    assert parameters(discriminator("r3gan", shape, 5, **settings)) == with_classes


def test_layers_of_points_have_the_parameters_of_their_products():
    paints = MLPGenerator((2, 1, 1), latent=4, width=8, depth=3)
    tells = MLPDiscriminator((2, 1, 1), width=8, depth=3)
    assert parameters(paints) == (4 + 1) * 8 + 2 * (8 + 1) * 8 + (8 + 1) * 2 == 202
    assert parameters(tells) == (2 + 1) * 8 + 2 * (8 + 1) * 8 + (8 + 1) == 177


# --- what an image depends on ---------------------------------------------------------------------


@every_net
@every_dtype
@pytest.mark.parametrize("planes", [1, 3])
def test_a_latent_becomes_the_same_image_in_batches_of_any_size(net, dtype, planes):
    settings = {"generator_channels": 32, "channel_mult": (1, 2), "dtype": dtype}
    paints = randomized(generator(net, (planes, 12, 9), **settings)).eval()
    z, _, label = inputs(count=20)
    with torch.no_grad():
        together = paints(z, label)
        for size in (1, 2, 7):
            parts = zip(z.split(size), label.split(size), strict=True)
            assert torch.equal(torch.cat([paints(*part) for part in parts]), together), size


@every_net
def test_every_class_is_painted_otherwise_and_no_label_is_not_class_0(net):
    paints, (z, _, _) = randomized(generator(net)).eval(), inputs()
    none, zero, one = (paints(z, torch.full((3,), label)) for label in (-1, 0, 1))
    assert min((a - b).abs().amax() for a, b in ((none, zero), (none, one), (zero, one))) > 1e-3


@pytest.mark.parametrize("net", ["dcgan", "resnet"])
def test_without_a_label_an_image_is_painted_with_gain_1_and_bias_0(net):
    paints, plain = randomized(generator(net)), generator(net, classes=0)
    # The plain one's gains and biases stay what they begin with.
    plain.load_state_dict(paints.state_dict(), strict=False)
    z, none = inputs()[0], torch.full((3,), -1)
    torch.testing.assert_close(paints(z, none), plain(z, none))


@every_net
def test_a_label_beyond_the_classes_is_an_error(net):
    z, x, _ = inputs()
    with pytest.raises(IndexError):
        generator(net)(z, torch.full((3,), 10))
    with pytest.raises(IndexError):
        discriminator(net)(x, torch.full((3,), 10))


@every_net
def test_networks_without_classes_look_at_no_label(net):
    paints, tells = generator(net, classes=0).eval(), discriminator(net, classes=0)
    z, x, label = inputs()
    assert torch.equal(paints(z, label), paints(z, label.flip(0) + 7))
    assert torch.equal(tells(x, label), tells(x, label.flip(0) + 7))


@pytest.mark.parametrize(
    ("net", "norm"), [*((net, "none") for net in NETS), ("dcgan", "spectral"), ("resnet", "layer")]
)
def test_a_class_adds_an_inner_product_to_the_logit_of_no_class(net, norm):
    tells = randomized(discriminator(net, discriminator_norm=norm)).eval()
    x, label = inputs()[1], torch.tensor([4, 0, 9])
    vectors = tells.head.classes.weight
    if norm == "spectral":
        vectors = used_weight(tells.head.classes)
    by_class = torch.stack([vectors[y] @ f for y, f in zip(label, tells.features(x), strict=True)])
    torch.testing.assert_close(tells(x, label) - tells(x, -torch.ones_like(label)), by_class)
    assert by_class.abs().min() > 1e-4


@pytest.mark.parametrize(("net", "norm"), ALONE)
def test_an_image_is_judged_by_itself_without_batch_norm(net, norm):
    # WGAN-GP and R1 take each image's gradient; it has to be of that image's logit alone.
    tells = discriminator(net, discriminator_norm=norm)
    _, x, label = inputs()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(tells(x, label)[0], x)
    assert slope[0].abs().max() > 0 and slope[1:].eq(0).all()


@pytest.mark.parametrize(
    ("net", "settings"),
    [
        ("dcgan", {"discriminator_norm": "batch", "start_size": 2}),  # not behind the first layer
        *((net, {"minibatch_std_group": 3}) for net in NETS),
    ],
)
def test_an_image_is_judged_along_with_others_by_what_the_batch_says(net, settings):
    tells = discriminator(net, **settings)
    _, x, label = inputs()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(tells(x, label)[0], x)
    assert slope[1].abs().max() > 0


# --- learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("net", "norm"), [*ALONE, ("dcgan", "batch")])
def test_the_penaltys_gradient_is_that_of_its_differences(net, norm, monkeypatch):
    # In float64 throughout, the head as well, along a random direction of all parameters.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    settings = {"discriminator_norm": norm, "minibatch_std_group": 2}
    tells = randomized(discriminator(net, (1, 9, 10), 3, **settings)).double().eval()
    tells.dtype = torch.float64
    _, x, label = inputs((1, 9, 10))
    weights = list(tells.parameters())
    direction = [torch.randn_like(p) for p in weights]
    penalty(tells, x.double(), label).backward()
    moved = [(p.grad, d) for p, d in zip(weights, direction, strict=True) if p.grad is not None]
    slope = sum((gradient * d).sum().item() for gradient, d in moved)
    values = []
    for step in (1e-7, -2e-7):
        torch._foreach_add_([p.data for p in weights], direction, alpha=step)
        values.append(penalty(tells, x.double(), label).item())
    assert (values[0] - values[1]) / 2e-7 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(("net", "norm"), [*ALONE, ("dcgan", "batch")])
def test_every_parameter_of_a_discriminator_learns_under_any_norm(net, norm):
    tells = discriminator(net, discriminator_norm=norm, start_size=2)
    _, x, label = inputs()
    tells(x, label).square().sum().backward()
    for name, parameter in tells.named_parameters():
        assert parameter.grad is not None, name


@every_net
def test_images_have_two_derivatives_by_the_latent(net):
    paints = randomized(generator(net))
    z, _, label = inputs()
    z.requires_grad_()
    (slope,) = torch.autograd.grad(paints(z, label).square().sum(), z, create_graph=True)
    slope.square().sum().backward()
    assert z.grad.isfinite().all() and z.grad.abs().max() > 0


@every_net
@pytest.mark.parametrize("autocast", [True, False])
def test_gradients_in_bfloat16_reach_every_parameter_in_float32(net, autocast):
    dtype = torch.float32 if autocast else torch.bfloat16
    paints = randomized(generator(net, dtype=dtype))
    tells = randomized(discriminator(net, dtype=dtype, minibatch_std_group=3))
    z, x, label = inputs()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        images = paints(z, label)
        loss = tells(images, label).sum() + tells(x, label).square().sum()
    assert images.dtype == loss.dtype == torch.float32
    loss.backward()
    for network in (paints, tells):
        for name, parameter in network.named_parameters():
            assert parameter.grad.dtype == torch.float32, name
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@every_net
def test_a_network_is_as_exact_as_its_dtype_says_at_each_pass(net):
    tells = discriminator(net)
    _, x, label = inputs()
    exact = tells(x, label)
    tells.dtype = torch.bfloat16
    rough = tells(x, label)
    tells.dtype = torch.float32
    assert torch.equal(tells(x, label), exact)
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max() + 0.05


# --- norms ----------------------------------------------------------------------------------------


def spectral_weights(network):
    return [(m, m.spectral) for m in network.modules() if hasattr(m, "spectral")]


@pytest.mark.parametrize("net", ["dcgan", "resnet", "mlp"])
def test_fifty_passes_bring_all_largest_singular_values_to_one(net):
    tells = discriminator(net, discriminator_norm="spectral")
    layers = spectral_weights(tells)
    weights = [m for m in tells.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == len(weights) + 1  # the classes' vectors
    for layer, _ in layers:
        # Weights that the norms know nothing of. Two values that are almost the same would take
        # power iteration thousands of steps to tell apart, so the largest stands out by a fifth.
        u, values, v = torch.linalg.svd(torch.randn(layer.weight.flatten(1).shape), False)
        values[0] *= 1.2
        layer.weight.data.copy_((u * values @ v).view_as(layer.weight))
    _, x, label = inputs(count=2)
    for _ in range(50):
        tells(x, label)
    tells.eval()
    for layer, norm in layers:
        largest = torch.linalg.svdvals(norm(layer.weight.detach()).flatten(1)).max()
        assert largest == pytest.approx(1, abs=1e-3)


def test_spectral_norms_move_with_each_pass_while_learning_and_never_in_eval():
    tells = randomized(discriminator("resnet", discriminator_norm="spectral"), deviation=0.5)
    _, x, label = inputs(count=2)

    def vectors():
        return [norm.v.clone() for _, norm in spectral_weights(tells)]

    before = vectors()
    tells.eval()(x, label)
    assert all(map(torch.equal, before, vectors()))
    tells.train()(x, label)
    # A matrix of one row has but one direction, and is there at once.
    assert sum(not torch.equal(a, b) for a, b in zip(before, vectors(), strict=True)) > 5


def test_a_class_begins_with_gain_1_and_bias_0_and_learns_its_own():
    norm = ConditionalBatchNorm(3, classes=2)
    x = 4 + 2 * torch.randn(5, 3, 4, 4)
    label = torch.tensor([0, 1, -1, 1, 0])
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    normal = (x - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, label), normal)
    with torch.no_grad():
        norm.gain.weight[1] = torch.tensor([1.0, 0.0, -2.0])
        norm.bias.weight[1] = torch.tensor([0.5, 3.0, 0.0])
    expected = normal.clone()
    for image in (1, 3):
        expected[image, 0] = 2 * normal[image, 0] + 0.5
        expected[image, 1] = normal[image, 1] + 3
        expected[image, 2] = -normal[image, 2]
    torch.testing.assert_close(norm(x, label), expected)


def test_without_classes_a_norm_learns_one_gain_for_all():
    norm = ConditionalBatchNorm(3, classes=0)
    assert {name for name, _ in norm.named_parameters()} == {"norm.weight", "norm.bias"}
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(norm(x, torch.tensor([0, 5])), norm(x, torch.tensor([-1, -1])))


# --- DCGAN and SNGAN ------------------------------------------------------------------------------


def test_a_transposed_convolution_doubles_and_keeps_the_variance():
    doubled = Doubling(64, 64, bias=True)(torch.randn(4, 64, 8, 8))
    assert doubled.shape == (4, 64, 16, 16)
    # At the border products are missing.
    assert doubled[:, :, 2:-2, 2:-2].var().item() == pytest.approx(1, rel=0.1)


def test_a_residual_discriminator_sums_over_all_places():
    tells = discriminator("resnet")
    seen = []
    tells.minibatch_std.register_forward_hook(lambda _, __, output: seen.append(output))
    features = tells.features(inputs()[1])
    assert seen[0].shape[2:] == (5, 7)
    by_hand = sum(seen[0][:, :, i, j] for i in range(5) for j in range(7))
    torch.testing.assert_close(features, by_hand)
    assert features.min() >= 0


# --- R3GAN ----------------------------------------------------------------------------------------


def test_blocks_begin_as_the_identity():
    block = ResidualBlock(8, group_channels=4, expansion=2, every=3)
    x = torch.randn(2, 8, 5, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("blocks", [2, 8, 32])
def test_the_variance_of_a_deep_network_stays_within_a_factor_of_e(blocks):
    # With its last layer drawn like others each of L blocks adds 1/L of what comes in: (1 + 1/L)^L.
    network = residual_blocks(32, blocks, group_channels=16, expansion=2, every=blocks)
    for block in network:
        fan_in_normal_(block.last, 1.0)
    x = torch.randn(8, 32, 12, 12)
    growth = (network(x)[:, :, 4:-4, 4:-4].var() / x.var()).item()
    assert growth == pytest.approx((1 + 1 / blocks) ** blocks, rel=0.35)


@pytest.mark.parametrize("blocks", [1, 6])
@pytest.mark.parametrize("size", [(8, 8), (32, 32)])
def test_r3gans_first_images_and_logits_are_of_the_order_of_one(size, blocks):
    settings = {"latent": 64, "generator_channels": 32, "discriminator_channels": 32}
    settings |= {"blocks": blocks, "channel_mult": (1,)}
    z, x, label = inputs((3, *size), count=32, latent=64)
    images = generator("r3gan", (3, *size), **settings)(z, label)
    logits = discriminator("r3gan", (3, *size), **settings)(x, label)
    assert 0.2 < images.std() < 3
    assert 0.02 < logits.std() < 3


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 3), (2, 1)])
def test_doubling_interpolates_linearly_between_the_middles_of_pixels(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    height, width = size
    expected = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(smoothly_doubled(x, (2 * height, 2 * width)), expected)


@pytest.mark.parametrize("size", [(6, 8), (2, 4)])
def test_halving_takes_means_of_four_with_binomial_weights(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    weights = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    expected = torch.zeros(2, 3, size[0] // 2, size[1] // 2, dtype=torch.float64)
    for row in range(size[0] // 2):
        for column in range(size[1] // 2):
            window = padded[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            expected[:, :, row, column] = (window * torch.outer(weights, weights)).sum((2, 3))
    torch.testing.assert_close(smoothly_halved(x), expected)


@pytest.mark.parametrize("size", [(9, 13), (1, 1), (2, 1)])
def test_resampling_keeps_brightness_and_takes_odd_sizes_up(size):
    x = torch.full((1, 2, *size), 0.75)
    small = smoothly_halved(x)
    assert list(small.shape[2:]) == [-(-side // 2) for side in size]
    for image in (smoothed(x), small, smoothly_doubled(small, size)):
        torch.testing.assert_close(image, torch.full_like(image, 0.75))
    assert smoothly_doubled(small, size).shape == x.shape


# --- accelerators ---------------------------------------------------------------------------------


@pytest.mark.gpu
@every_net
def test_an_accelerator_paints_and_judges_alike(net):
    paints, tells = randomized(generator(net)).eval(), randomized(discriminator(net)).eval()
    z, x, label = inputs()
    images, logits, slope = paints(z, label), tells(x, label), penalty(tells, x, label)
    paints.cuda(), tells.cuda()
    z, x, label = z.cuda(), x.cuda(), label.cuda()
    assert (paints(z, label).cpu() - images).norm() < 1e-2 * images.norm()
    assert (tells(x, label).cpu() - logits).abs().max() < 1e-2 * logits.abs().max() + 1e-2
    assert penalty(tells, x, label).item() == pytest.approx(slope.item(), rel=2e-2)
