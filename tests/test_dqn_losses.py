"""DQN's targets and losses against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from playfield.agents.dqn import q_loss, q_target

NEXT_Q = torch.tensor([[1.0, 3.0], [5.0, 2.0], [7.0, 8.0]])
ONLINE_Q = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
REWARD = torch.tensor([0.5, -1.0, 2.0])
DISCOUNT = torch.tensor([0.9, 0.81, 0.0])


def test_the_target_takes_the_best_next_value():
    target = q_target(REWARD, DISCOUNT, NEXT_Q)
    torch.testing.assert_close(target, torch.tensor([0.5 + 2.7, -1.0 + 0.81 * 5.0, 2.0]))


def test_double_learning_lets_the_online_network_choose_and_the_target_network_rate():
    target = q_target(REWARD, DISCOUNT, NEXT_Q, ONLINE_Q)
    torch.testing.assert_close(target, torch.tensor([0.5 + 0.9, -1.0 + 0.81 * 2.0, 2.0]))


def test_huber_is_the_squared_error_near_zero_and_linear_beyond_one():
    q = torch.tensor([[0.5, 9.0], [9.0, -3.0]])
    action, target = torch.tensor([0, 1]), torch.zeros(2)
    loss, td_error = q_loss(q, action, target, torch.ones(2))
    assert loss.item() == pytest.approx((0.5 * 0.25 + (3.0 - 0.5)) / 2)
    assert td_error.tolist() == [0.5, -3.0]
    squared, _ = q_loss(q, action, target, torch.ones(2), huber=False)
    assert squared.item() == pytest.approx(0.5 * (0.25 + 9.0) / 2)


def test_hubers_gradient_is_the_td_error_clipped_to_one():
    q = torch.tensor([[0.5], [-3.0], [4.0]], requires_grad=True)
    loss, _ = q_loss(q, torch.zeros(3, dtype=torch.int64), torch.zeros(3), torch.ones(3))
    loss.backward()
    torch.testing.assert_close(3 * q.grad.squeeze(1), torch.tensor([0.5, -1.0, 1.0]))


def test_importance_weights_scale_each_loss_and_not_the_reported_error():
    q = torch.tensor([[2.0], [2.0]])
    zeros = torch.zeros(2, dtype=torch.int64)
    weighted, td_error = q_loss(q, zeros, torch.zeros(2), torch.tensor([1.0, 0.5]), huber=False)
    assert weighted.item() == pytest.approx((2.0 + 1.0) / 2)
    assert td_error.tolist() == [2.0, 2.0]


def test_columns_that_would_broadcast_are_refused():
    column = REWARD.unsqueeze(1)
    with pytest.raises(ValueError, match="do not belong together"):
        q_target(column, DISCOUNT, NEXT_Q)
    with pytest.raises(ValueError, match="do not belong together"):
        q_loss(NEXT_Q, torch.zeros(3, dtype=torch.int64), column, torch.ones(3))
