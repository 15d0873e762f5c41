"""How much images differ, as a number for a discriminator: groups, batches, and derivatives."""

from __future__ import annotations

import math

import pytest
import torch

from playfield.nets.minibatch_std import MinibatchStd, minibatch_std


def naive(x, group):
    """Image by image, in float64: the deviation of each feature over the image's group."""
    count = max(1, len(x) // group)
    numbers = []
    for image in range(len(x)):
        members = [x[i].double() for i in range(len(x)) if i % count == image % count]
        mean = sum(members) / len(members)
        variance = sum((member - mean) ** 2 for member in members) / len(members)
        numbers.append((variance + 1e-8).sqrt().mean())
    return torch.stack(numbers)


@pytest.mark.parametrize(
    ("batch", "group"), [(8, 4), (8, 8), (8, 3), (7, 4), (10, 4), (11, 2), (3, 4), (1, 4), (5, 1)]
)
def test_it_is_what_a_loop_over_images_finds_in_batches_of_any_size(batch, group):
    x = torch.randn(batch, 3, 4, 5, generator=torch.Generator().manual_seed(batch)) + 5
    torch.testing.assert_close(minibatch_std(x, group), naive(x, group).float())


def test_two_images_that_differ_by_two_have_a_deviation_of_one():
    x = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    torch.testing.assert_close(minibatch_std(x, 2), torch.ones(2))


@pytest.mark.parametrize("batch", [8, 10])
def test_it_is_the_same_for_all_of_a_group_in_any_order_and_knows_nothing_of_other_groups(batch):
    x = torch.randn(batch, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    before = minibatch_std(x, 4)  # two groups: the even images and the odd ones
    assert before[0::2].unique().numel() == before[1::2].unique().numel() == 1
    assert before[0] != before[1]
    shuffled = x.clone()
    shuffled[0::2] = x[0::2].flip(0)
    torch.testing.assert_close(minibatch_std(shuffled, 4), before)
    x[1] += 1
    after = minibatch_std(x, 4)
    assert torch.equal(after[0::2], before[0::2]) and after[1] != before[1]


@pytest.mark.parametrize("batch", range(4, 24))
def test_no_image_is_left_without_another_one(batch):
    x = torch.randn(batch, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert minibatch_std(x, 4).min() > 0.1


@pytest.mark.parametrize("batch", [4, 7])
def test_it_has_two_derivatives(batch):
    x = torch.randn(batch, 1, 2, 1, dtype=torch.float64, requires_grad=True)
    # It computes in float32, so differences have to be wide and tolerances with them.
    settings = {"eps": 1e-2, "atol": 1e-2, "rtol": 1e-2}
    assert torch.autograd.gradcheck(lambda x: minibatch_std(x, 2), x, **settings)
    same = torch.ones(4, 1, 2, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(minibatch_std(same, 4).sum(), same, create_graph=True)
    gradient.square().sum().backward()
    assert gradient.isfinite().all() and same.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_map_gains_one_channel_in_its_own_precision(dtype):
    x = torch.randn(6, 3, 2, 5).to(dtype)
    output = MinibatchStd(3)(x)
    assert output.shape == (6, 4, 2, 5) and output.dtype == dtype
    assert torch.equal(output[:, :3], x)
    expected = minibatch_std(x, 3).to(dtype)
    assert torch.equal(output[:, 3], expected[:, None, None].expand(6, 2, 5))
    assert MinibatchStd(3).extra == 1


def test_a_group_of_zero_leaves_the_map_alone():
    x = torch.randn(2, 3, 2, 2)
    layer = MinibatchStd(0)
    assert layer(x) is x and layer.extra == 0


def test_groups_of_less_than_one_are_refused():
    with pytest.raises(ValueError, match="group=0"):
        minibatch_std(torch.zeros(1, 1, 1, 1), 0)
    with pytest.raises(ValueError, match="group=-1"):
        MinibatchStd(-1)


def test_equal_images_differ_by_nothing():
    assert minibatch_std(torch.ones(4, 1, 2, 2), 4)[0] == pytest.approx(math.sqrt(1e-8))
