"""The terms of policy-gradient losses against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from playfield.agents.policy_gradient import (
    entropy,
    explained_variance,
    log_prob,
    mean_of,
    normalized,
    policy_gradient_loss,
    value_loss,
)
from playfield.agents.ppo import approximate_kl, even_share, surrogate_loss

LN = math.log


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


def test_the_surrogate_takes_the_smaller_of_clipped_and_unclipped_ratio_times_advantage():
    ratio = column(1.5, 1.5, 0.5, 0.5, 1.05)
    advantage = column(1.0, -1.0, 1.0, -1.0, 2.0)
    # min(1.5, 1.1), min(-1.5, -1.1), min(0.5, 0.9), min(-0.5, -0.9), 1.05 * 2
    expected = -(1.1 - 1.5 + 0.5 - 0.9 + 2.1) / 5
    loss = surrogate_loss(ratio.log(), torch.zeros(5), advantage, clip=0.1)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_clipped_ratio_has_no_gradient_where_moving_on_would_pay_and_one_where_going_back_does():
    new = column(LN(1.5), LN(1.5), LN(0.5), LN(0.5)).requires_grad_()
    surrogate_loss(new, torch.zeros(4), column(1.0, -1.0, 1.0, -1.0), clip=0.1).backward()
    np.testing.assert_allclose(new.grad, [0, 1.5 / 4, -0.5 / 4, 0], atol=1e-7)


def test_where_the_policy_has_not_moved_the_surrogate_has_the_policy_gradient():
    old, advantage = column(-0.3, -2.0, -1.1), column(0.5, -2.0, 3.0)
    ours, plain = old.clone().requires_grad_(), old.clone().requires_grad_()
    surrogate_loss(ours, old, advantage, clip=0.2).backward()
    policy_gradient_loss(plain, advantage).backward()
    np.testing.assert_allclose(ours.grad, plain.grad, rtol=1e-6)
    np.testing.assert_allclose(plain.grad, -advantage / 3, rtol=1e-6)


def test_the_policy_gradient_loss_by_hand():
    loss = policy_gradient_loss(column(LN(0.5), LN(0.25)), column(1.0, -2.0))
    assert loss.item() == pytest.approx(-(LN(0.5) - 2 * LN(0.25)) / 2)


def test_the_value_loss_is_half_the_mean_squared_error():
    assert value_loss(column(1.0, 2.0), column(0.0, 5.0)).item() == 0.5 * (1 + 9) / 2


def test_value_clipping_takes_the_larger_of_the_two_errors():
    # Old values 0, clip 0.2. The first moved past the clip towards its return: the clipped error
    # (0.2 - 1)^2 is larger. The second moved away from it: the plain error (1 + 1)^2 is. The third
    # stayed within the clip.
    value, return_ = column(0.9, 1.0, 0.1), column(1.0, -1.0, 1.0)
    loss = value_loss(value, return_, torch.zeros(3), clip=0.2)
    assert loss.item() == pytest.approx(0.5 * (0.64 + 4.0 + 0.81) / 3)


def test_a_clipped_value_learns_nothing_from_the_step_that_moved_it_too_far():
    value = column(0.9, 1.0).requires_grad_()
    value_loss(value, column(1.0, -1.0), torch.zeros(2), clip=0.2).backward()
    np.testing.assert_allclose(value.grad, [0.0, 2.0 / 2])


def test_entropy_of_known_policies_in_nats():
    certain = torch.tensor([[100.0, 0.0, 0.0]])
    uniform = torch.zeros(1, 3)
    skewed = torch.tensor([[LN(0.5), LN(0.25), LN(0.25)]])
    assert entropy(certain).item() == pytest.approx(0, abs=1e-6)
    assert entropy(uniform).item() == pytest.approx(LN(3))
    assert entropy(skewed).item() == pytest.approx(1.5 * LN(2))
    assert entropy(torch.cat([uniform, skewed])).item() == pytest.approx((LN(3) + 1.5 * LN(2)) / 2)


def test_log_probabilities_are_float32_whatever_the_logits_are():
    logits, action = torch.tensor([[0.0, LN(3.0)], [5.0, 5.0]]), torch.tensor([1, 0])
    np.testing.assert_allclose(log_prob(logits, action), [LN(0.75), LN(0.5)], rtol=1e-6)
    half = log_prob(logits.bfloat16(), action)
    assert half.dtype == torch.float32
    assert half[1].item() == pytest.approx(LN(0.5), rel=1e-6)


def test_approximate_kl_by_hand_and_never_negative():
    # Ratios 2 and 1/2: (2 - 1 - ln 2 + 1/2 - 1 + ln 2) / 2.
    kl = approximate_kl(column(LN(2), LN(0.5)), torch.zeros(2))
    assert kl.item() == pytest.approx(0.25)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=100)).float()
    assert all(approximate_kl(x, torch.zeros(1)) >= 0 for x in noise.split(1))


def test_approximate_kl_is_the_divergence_on_average():
    # Over all actions of the old policy, weighted with its chances, it is KL(old || new) exactly.
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    log_ratio = column(*np.log(new / old))
    each = [approximate_kl(x, torch.zeros(1)).item() for x in log_ratio.split(1)]
    assert np.dot(old, each) == pytest.approx((old * np.log(old / new)).sum(), abs=1e-6)


def test_advantages_are_normalised_by_the_unbiased_deviation():
    advantage = normalized(column(1.0, 2.0, 6.0))
    np.testing.assert_allclose(advantage, (np.array([1, 2, 6]) - 3) / math.sqrt(7), rtol=1e-6)
    assert normalized(column(5.0)).tolist() == [5.0]  # a deviation needs two
    assert normalized(column(2.0, 2.0)).tolist() == [0.0, 0.0]


def test_explained_variance_is_one_for_perfect_values_and_zero_for_a_constant():
    return_ = np.array([1, 2, 3, 6], np.float32)
    assert explained_variance(return_, return_) == 1
    assert explained_variance(return_ + 5, return_) == 1  # it is about the spread
    assert explained_variance(np.full(4, 9, np.float32), return_) == 0
    assert explained_variance(-return_, return_) == pytest.approx(-3)  # Var(2R) = 4 Var(R)


def test_explained_variance_is_a_number_where_there_is_nothing_to_explain():
    constant, nothing = np.ones(3, np.float32), np.zeros(0, np.float32)
    assert explained_variance(constant * 2, constant) == 0
    assert explained_variance(nothing, nothing) == 0


def test_columns_that_would_broadcast_are_refused():
    flat, tall = torch.zeros(3), torch.zeros(3, 1)
    for call in (
        lambda: surrogate_loss(flat, flat, tall, 0.1),
        lambda: surrogate_loss(tall, tall, tall, 0.1),
        lambda: policy_gradient_loss(flat, tall),
        lambda: value_loss(tall, flat),
        lambda: value_loss(flat, flat, tall, 0.1),
    ):
        with pytest.raises(ValueError, match=r"\[B\]"):
            call()


def test_reports_are_averaged_by_name():
    reports = [{"a": torch.tensor(1.0), "b": torch.tensor(0.0)}, {"a": torch.tensor(4.0)}]
    reports[1]["b"] = torch.tensor(2.0)
    assert {name: x.item() for name, x in mean_of(reports).items()} == {"a": 2.5, "b": 1.0}
    assert mean_of([]) == {}


@pytest.mark.parametrize(
    ("count", "size", "share"),
    [(1024, 256, 256), (1000, 256, 250), (769, 256, 193), (257, 256, 129), (5, 256, 5), (7, 0, 1)],
)
def test_batches_share_a_rollout_evenly(count, size, share):
    assert even_share(count, size) == share
    last = count % share or share
    assert -(-count // share) == -(-count // max(size, 1))  # no more batches than full ones need
    assert share - last < -(-count // share)
