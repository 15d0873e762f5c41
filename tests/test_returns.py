"""GAE, λ-returns and V-trace against the sums of their papers, and the torch twins against them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.buffers import returns

# --- the papers' sums, term by term, O(T^2) and more ----------------------------------------------


def steps_from(roll, t, e):
    """Times of the steps that follow t within its episode and the rollout, t itself first."""
    times = [t]
    while not roll["ends"][times[-1], e]:
        after = times[-1] + 1
        if after == len(roll["reward"]) or not roll["valid"][after, e]:
            break
        times.append(after)
    return times


def temporal_difference(roll, t, e):
    value = roll["value"]
    return roll["reward"][t, e] + roll["discount"][t, e] * value[t + 1, e] - value[t, e]


def oracle_gae(roll, t, e, lambda_):
    """Schulman et al. 2016, equation 16: the sum over l of (gamma lambda)^l delta_{t+l}."""
    times = steps_from(roll, t, e)
    return sum(
        math.prod(roll["discount"][u, e] * lambda_ for u in times[:i])
        * temporal_difference(roll, u, e)
        for i, u in enumerate(times)
    )


def n_step_return(roll, t, e, n):
    """Sutton and Barto 2018, equation 7.1."""
    discount, times = roll["discount"], range(t, t + n)
    rewards = sum(math.prod(discount[t:u, e]) * roll["reward"][u, e] for u in times)
    return rewards + math.prod(discount[t : t + n, e]) * roll["value"][t + n, e]


def oracle_lambda_return(roll, t, e, lambda_):
    """Sutton and Barto 2018, equation 12.3."""
    longest = len(steps_from(roll, t, e))
    mixed = sum(
        (1 - lambda_) * lambda_ ** (n - 1) * n_step_return(roll, t, e, n) for n in range(1, longest)
    )
    return mixed + lambda_ ** (longest - 1) * n_step_return(roll, t, e, longest)


def oracle_vtrace_target(roll, s, e, rho_bar, c_bar, lambda_):
    """Espeholt et al. 2018, equation 1, with the c_i of remark 2."""
    ratio, total = np.exp(roll["log_rhos"]), roll["value"][s, e]
    times = steps_from(roll, s, e)
    for i, t in enumerate(times):
        trace = math.prod(lambda_ * min(c_bar, ratio[u, e]) for u in times[:i])
        discount = math.prod(roll["discount"][u, e] for u in times[:i])
        delta = min(rho_bar, ratio[t, e]) * temporal_difference(roll, t, e)
        total += discount * trace * delta
    return total


def oracle_vtrace_advantage(roll, s, e, rho_bar, c_bar, lambda_):
    """Espeholt et al. 2018, section 4.2."""
    successor = roll["value"][s + 1, e]
    if len(steps_from(roll, s, e)) > 1:
        successor = oracle_vtrace_target(roll, s + 1, e, rho_bar, c_bar, lambda_)
    rho = min(rho_bar, math.exp(roll["log_rhos"][s, e]))
    gain = roll["reward"][s, e] + roll["discount"][s, e] * successor - roll["value"][s, e]
    return rho * gain


def everywhere(oracle, roll, *settings):
    out = np.zeros(roll["reward"].shape)
    for t, e in zip(*np.nonzero(roll["valid"]), strict=True):
        out[t, e] = oracle(roll, t, e, *settings)
    return out


def random_roll(rng, length, envs, dtype=np.float64):
    """Steps of random episodes: a final observation's row follows each `ends` and is no step."""
    valid, ends = np.ones((2, length, envs), bool)
    for t in range(length):
        if t:
            valid[t] = ~ends[t - 1]
        ends[t] = valid[t] & (rng.random(envs) < 0.3)
    # A lost life ends a return, and the very next row is a step again; and a row may lack its
    # action for other reasons than an end.
    valid |= rng.random((length, envs)) < 0.1
    valid &= rng.random((length, envs)) > 0.05
    ends &= valid
    terminated = ends & (rng.random((length, envs)) < 0.5)
    return {
        "log_rhos": rng.normal(0, 0.7, (length, envs)).astype(dtype),
        "reward": rng.normal(0, 2, (length, envs)).astype(dtype),
        "discount": np.where(terminated, 0, rng.uniform(0.5, 1, (length, envs))).astype(dtype),
        "value": rng.normal(0, 3, (length + 1, envs)).astype(dtype),
        "ends": ends,
        "valid": valid,
    }


def arguments(roll, *without):
    return [array for name, array in roll.items() if name not in without]


def tensors(roll, device="cpu"):
    return {name: torch.from_numpy(array).to(device) for name, array in roll.items()}


def all_of(module_prefix, roll, lambda_, bars=(1.2, 0.9)):
    """Every function of the module on one roll, by name."""
    plain = arguments(roll, "log_rhos")
    targets, advantage = getattr(returns, f"{module_prefix}vtrace")(
        *arguments(roll), *bars, lambda_
    )
    return {
        "gae": getattr(returns, f"{module_prefix}gae")(*plain, lambda_),
        "lambda_returns": getattr(returns, f"{module_prefix}lambda_returns")(*plain, lambda_),
        "vtrace targets": targets,
        "vtrace advantage": advantage,
    }


def all_oracles(roll, lambda_, bars=(1.2, 0.9)):
    return {
        "gae": everywhere(oracle_gae, roll, lambda_),
        "lambda_returns": everywhere(oracle_lambda_return, roll, lambda_),
        "vtrace targets": everywhere(oracle_vtrace_target, roll, *bars, lambda_),
        "vtrace advantage": everywhere(oracle_vtrace_advantage, roll, *bars, lambda_),
    }


# --- the facts ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 14),
    envs=st.integers(1, 4),
    lambda_=st.sampled_from([0.0, 0.65, 0.95, 1.0]),
)
def test_every_scan_equals_its_papers_sum_in_float64(seed, length, envs, lambda_):
    roll = random_roll(np.random.default_rng(seed), length, envs)
    kernels, twins = all_of("", roll, lambda_), all_of("torch_", tensors(roll), lambda_)
    for name, expected in all_oracles(roll, lambda_).items():
        np.testing.assert_allclose(kernels[name], expected, rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(twins[name], expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_float32_is_rounded_once_because_the_carry_is_float64():
    # 2,000 steps without an end at discount 1: a float32 carry would be off by hundreds of ulps.
    rng = np.random.default_rng(4)
    roll = random_roll(rng, 2000, 2, np.float32)
    roll["ends"][:], roll["valid"][:], roll["discount"][:] = False, True, 1
    wide = {k: a if a.dtype == bool else a.astype(np.float64) for k, a in roll.items()}
    exact, twins = all_of("", wide, 1.0), all_of("torch_", tensors(roll), 1.0)
    for name, result in all_of("", roll, 1.0).items():
        assert result.dtype == np.float32
        np.testing.assert_array_max_ulp(result, exact[name].astype(np.float32), 1)
        np.testing.assert_array_max_ulp(result, twins[name].numpy(), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_twins_agree_with_the_kernels(dtype):
    roll = random_roll(np.random.default_rng(8), 64, 16, dtype)
    twins = all_of("torch_", tensors(roll), 0.95)
    for name, result in all_of("", roll, 0.95).items():
        assert twins[name].numpy().dtype == dtype
        tolerance = 1e-6 if dtype == np.float32 else 1e-13  # exp differs in the last bit
        np.testing.assert_allclose(twins[name].numpy(), result, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_twins_agree_with_the_kernels_on_a_gpu(dtype):
    roll = random_roll(np.random.default_rng(8), 64, 16, dtype)
    twins = all_of("torch_", tensors(roll, "cuda"), 0.95)
    for name, result in all_of("", roll, 0.95).items():
        assert twins[name].device.type == "cuda"
        tolerance = 1e-6 if dtype == np.float32 else 1e-13
        on_cpu = twins[name].cpu().numpy()
        np.testing.assert_allclose(on_cpu, result, rtol=tolerance, atol=tolerance)


def endless(length, reward, gamma, value, time_limit):
    """A constant-reward world that a time limit cuts every `time_limit` steps."""
    place = np.arange(length)[:, None] % (time_limit + 1)
    shape = (length, 1)
    return {
        "reward": np.full(shape, reward),
        "discount": np.full(shape, gamma),
        "value": np.full((length + 1, 1), value),
        "ends": place == time_limit - 1,
        "valid": place < time_limit,
    }


def learnt_value(gamma, cut_is_terminal, lambda_):
    """The value at which the mean λ-return is the value itself."""
    value = 0.0
    for _ in range(400):
        roll = endless(110, 1.0, gamma, value, time_limit=10)
        if cut_is_terminal:
            roll["discount"][roll["ends"]] = 0
        value = returns.lambda_returns(*roll.values(), lambda_)[roll["valid"]].mean()
    return value


@pytest.mark.parametrize("lambda_", [0.0, 0.9])
def test_an_endless_reward_is_worth_r_over_1_minus_gamma_iff_truncation_bootstraps(lambda_):
    assert learnt_value(0.9, False, lambda_) == pytest.approx(1 / (1 - 0.9))
    assert learnt_value(0.9, True, lambda_) < 8


def test_lambda_0_is_the_temporal_difference_and_lambda_1_the_whole_return():
    rewards = np.array([[1.0], [2.0], [4.0]])
    roll = {
        "reward": rewards,
        "discount": np.array([[0.5], [0.5], [0.0]]),
        "value": np.array([[10.0], [20.0], [30.0], [99.0]]),
        "ends": np.array([[False], [False], [True]]),
        "valid": np.ones((3, 1), bool),
    }
    assert returns.gae(*roll.values(), 0.0).T.tolist() == [[1.0, -3.0, -26.0]]
    # 1 + 2/2 + 4/4, 2 + 4/2, 4: the terminal observation's value has no part in them.
    assert returns.lambda_returns(*roll.values(), 1.0).T.tolist() == [[3.0, 4.0, 4.0]]
    assert returns.gae(*roll.values(), 1.0).T.tolist() == [[-7.0, -16.0, -26.0]]


def test_the_lambda_return_is_the_value_plus_the_generalised_advantage():
    roll = random_roll(np.random.default_rng(2), 40, 3)
    both = all_of("", roll, 0.8)
    expected = np.where(roll["valid"], both["gae"] + roll["value"][:-1], 0)
    np.testing.assert_allclose(both["lambda_returns"], expected, atol=1e-12)


def test_vtrace_on_policy_is_the_lambda_return():
    # Espeholt et al. 2018, remark 1: with pi = mu and c_bar >= 1 the target is the n-step Bellman
    # target; with remark 2's lambda it is the λ-return.
    roll = random_roll(np.random.default_rng(3), 40, 3)
    roll["log_rhos"][:] = 0
    for lambda_ in (0.7, 1.0):
        both = all_of("", roll, lambda_, bars=(1.0, 1.0))
        np.testing.assert_allclose(both["vtrace targets"], both["lambda_returns"], atol=1e-12)


def test_a_row_without_a_step_gives_0_and_passes_nothing_on():
    roll = random_roll(np.random.default_rng(6), 30, 4)
    expected = all_of("", roll, 0.9)
    assert not roll["valid"].all()
    for name in ("log_rhos", "reward", "discount"):
        roll[name][~roll["valid"]] = np.nan
    for results in (all_of("", roll, 0.9), all_of("torch_", tensors(roll), 0.9)):
        for name, result in results.items():
            np.testing.assert_allclose(result, expected[name], atol=1e-12)
            assert (np.asarray(result)[~roll["valid"]] == 0).all()


def test_what_is_not_contiguous_is_read_right():
    roll = random_roll(np.random.default_rng(7), 12, 6)
    every_other = {name: array[:, ::2] for name, array in roll.items()}
    for name, result in all_of("", every_other, 0.9).items():
        np.testing.assert_array_equal(result, all_of("", roll, 0.9)[name][:, ::2])


def test_the_twins_give_no_gradient():
    roll = tensors(random_roll(np.random.default_rng(7), 5, 2))
    roll["value"].requires_grad_()
    assert not any(result.requires_grad for result in all_of("torch_", roll, 0.9).values())


@pytest.mark.parametrize("prefix", ["", "torch_"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("value", lambda a: a[:-1]),
        ("discount", lambda a: a[:, :1]),
        ("ends", lambda a: a[1:]),
        ("valid", lambda a: a.astype(np.float64)),
        ("discount", lambda a: a.astype(np.float32)),
        ("reward", lambda a: a.astype(np.int64)),
        ("reward", lambda a: a[:0]),
        ("log_rhos", lambda a: a.T),
    ],
)
def test_an_array_that_does_not_fit_is_refused_by_name(prefix, name, change):
    roll = random_roll(np.random.default_rng(0), 6, 3)
    roll[name] = change(roll[name])
    with pytest.raises(ValueError, match=f"^{name} is "):
        all_of(prefix, tensors(roll) if prefix else roll, 0.9)


def test_settings_outside_their_range_are_refused_by_name():
    roll = random_roll(np.random.default_rng(0), 6, 3)
    with pytest.raises(ValueError, match="lambda_="):
        returns.gae(*arguments(roll, "log_rhos"), 1.5)
    with pytest.raises(ValueError, match="c_bar=2"):
        returns.vtrace(*arguments(roll), 1.0, 2.0)
