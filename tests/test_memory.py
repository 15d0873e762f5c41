"""Memories: many steps at once are as many single ones, and no episode knows of another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from playfield.agents.encoders import MemoryConfig, build_memory
from playfield.nets.actor_critic import ActorCritic
from playfield.nets.encoders import MLP
from playfield.nets.layers import copy_weights, frozen_copy
from playfield.nets.recurrent import Recurrent
from playfield.nets.transformer import GatedTransformer

STEPS, BATCH, INPUTS, UNITS, WINDOW, LAYERS, HEADS = 13, 3, 5, 8, 4, 2, 2
KINDS = ("lstm", "gru", "transformer")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(kind, window=WINDOW, layers=LAYERS):
    """A memory whose every parameter differs from where it starts, and matters."""
    config = MemoryConfig(kind, UNITS, window, layers, HEADS)
    memory = build_memory(config, INPUTS)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return memory


def sequence(steps=STEPS, batch=BATCH, inputs=INPUTS):
    """Features, and beginnings of episodes: at no common step, in a row, and nowhere."""
    first = torch.zeros(steps, batch, dtype=torch.bool)
    first[5, 0] = first[6, 0] = first[9, 0] = first[4, 1] = True
    return torch.randn(steps, batch, inputs), first


def lived(memory, steps=6):
    """A state in mid-episode."""
    nothing = torch.zeros(BATCH, memory.state_size)
    never = torch.zeros(steps, BATCH, dtype=torch.bool)
    return memory(torch.randn(steps, BATCH, INPUTS), never, nothing)[1].detach()


# --- what holds for every memory ------------------------------------------------------------------


def test_there_need_be_no_memory():
    assert build_memory(MemoryConfig(), INPUTS) is None


@every_kind
def test_outputs_and_states_have_the_shapes_of_the_contract(kind):
    memory = build(kind)
    x, first = sequence()
    output, state = memory(x.bfloat16(), first, torch.zeros(BATCH, memory.state_size))
    assert output.shape == (STEPS, BATCH, memory.features)
    assert state.shape == (BATCH, memory.state_size)
    assert output.dtype == state.dtype == torch.float32
    sizes = {"lstm": 2 * UNITS, "gru": UNITS, "transformer": LAYERS * (WINDOW - 1) * UNITS + 1}
    assert memory.state_size == sizes[kind]


@every_kind
@pytest.mark.parametrize("window", [1, 2, WINDOW, 2 * STEPS])
def test_many_steps_at_once_are_as_many_single_steps(kind, window):
    memory = build(kind, window)
    x, first = sequence()
    before = state = lived(memory)
    with torch.inference_mode():  # as agents act
        singly = []
        for step in range(STEPS):
            output, state = memory(x[step : step + 1], first[step : step + 1], state)
            singly.append(output)
    output, state_after = memory(x, first, before)  # as they learn
    torch.testing.assert_close(output, torch.cat(singly), atol=1e-5, rtol=0)
    torch.testing.assert_close(state_after, state, atol=1e-5, rtol=0)


@every_kind
def test_a_sequence_may_be_cut_anywhere(kind):
    memory = build(kind)
    x, first = sequence()
    before = lived(memory)
    whole, after = memory(x, first, before)
    for cut in range(1, STEPS):
        begin, state = memory(x[:cut], first[:cut], before)
        stored = torch.from_numpy(state.detach().numpy().copy())  # as beside a frame
        end, state = memory(x[cut:], first[cut:], stored)
        torch.testing.assert_close(torch.cat((begin, end)), whole, atol=1e-5, rtol=0)
        torch.testing.assert_close(state, after, atol=1e-5, rtol=0)


@every_kind
def test_an_episode_begins_as_from_a_state_of_zeros(kind):
    memory = build(kind)
    x, first = sequence()
    first[0] = True
    zeros = torch.zeros(BATCH, memory.state_size)
    expected, expected_state = memory(x, first, zeros)
    output, state = memory(x, first, lived(memory))
    assert torch.equal(output, expected)
    assert torch.equal(state, expected_state)
    first[0] = False
    assert torch.equal(memory(x, first, zeros)[0], expected)
    assert not torch.allclose(memory(x, first, lived(memory))[0], expected, atol=1e-3)


@every_kind
def test_nothing_from_before_an_episode_reaches_into_it(kind):
    memory = build(kind)
    x, first = sequence()
    first[8] = True
    expected = memory(x, first, lived(memory))
    x[:8] = torch.randn_like(x[:8])
    output, state = memory(x, first, lived(memory))
    torch.testing.assert_close(output[8:], expected[0][8:])
    torch.testing.assert_close(state, expected[1])


@every_kind
def test_later_steps_change_no_earlier_output_and_padding_nothing(kind):
    memory = build(kind)
    x, first = sequence()
    before = lived(memory)
    unpadded, state = memory(x[:7], first[:7], before)
    x[7:] = 1e3
    padded, _ = memory(x, first, before)
    torch.testing.assert_close(padded[:7], unpadded)
    assert not torch.allclose(memory(x[:8], first[:8], before)[1], state)


@every_kind
def test_padding_brings_no_gradient(kind):
    memory = build(kind)
    x, first = sequence()
    before = lived(memory)
    valid = torch.arange(STEPS)[:, None] < torch.tensor([STEPS, 7, 4])
    padded = memory(x, first, before)[0][valid].square().sum()
    expected = sum(
        memory(x[:n, [b]], first[:n, [b]], before[[b]])[0].square().sum()
        for b, n in enumerate((STEPS, 7, 4))
    )
    for got, wanted in zip(
        torch.autograd.grad(padded, list(memory.parameters())),
        torch.autograd.grad(expected, list(memory.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


@every_kind
def test_environments_side_by_side_do_not_meet(kind):
    memory = build(kind)
    x, first = sequence()
    before = lived(memory)
    expected = memory(x, first, before)[0]
    x[:, 1] = before[1] = 7.0
    before[1, -1] = 1
    output = memory(x, first, before)[0]
    torch.testing.assert_close(output[:, ::2], expected[:, ::2])


@every_kind
def test_gradients_reach_every_parameter_and_go_back_in_time(kind):
    memory = build(kind)
    x, first = sequence()
    x.requires_grad_()
    output, _ = memory(x, first, torch.zeros(BATCH, memory.state_size))
    (output[-1] * torch.randn_like(output[-1])).sum().backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in memory.parameters())
    assert x.grad[-3, 2].count_nonzero()  # within the window
    assert not x.grad[:9, 0].count_nonzero()  # the episode of environment 0 begins at step 9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_kind
def test_the_copy_that_acts_computes_the_same_bits(kind, dtype):
    memory = build(kind)
    network = ActorCritic(MLP((4,), dtype=dtype), 64, INPUTS, 3, memory)
    copy = frozen_copy(network, dtype).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    copy_weights(network, copy)
    obs, (_, first), state = torch.randn(STEPS, BATCH, 4), sequence(), lived(memory)
    acting, learning = copy.unroll(obs, first, state), network.unroll(obs, first, state)
    assert all(torch.equal(a, b) for a, b in zip(acting, learning, strict=True))


# --- recurrent ------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_lstm(weights, x, h, c):
    """One step of Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000."""
    gates = weights["weight_ih_l0"] @ x + weights["bias_ih_l0"]
    gates = gates + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def naive_gru(weights, x, h):
    """One step of Cho et al. 2014, with the reset after the product as in cuDNN."""
    r_x, z_x, n_x = np.split(weights["weight_ih_l0"] @ x + weights["bias_ih_l0"], 3)
    r_h, z_h, n_h = np.split(weights["weight_hh_l0"] @ h + weights["bias_hh_l0"], 3)
    z = sigmoid(z_x + z_h)
    return (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_recurrent_memory_follows_its_equations(kind):
    memory = build(kind)
    weights = {n: p.detach().double().numpy() for n, p in memory.cells.named_parameters()}
    x, first = sequence()
    before = lived(memory)
    output, state = memory(x, first, before)
    for b in range(BATCH):
        carried = before[b].double().numpy()
        for t in range(STEPS):
            if first[t, b]:
                carried = np.zeros_like(carried)
            step = x[t, b].double().numpy()
            if kind == "lstm":
                carried = np.concatenate(naive_lstm(weights, step, *np.split(carried, 2)))
            else:
                carried = naive_gru(weights, step, carried)
            np.testing.assert_allclose(output[t, b].detach(), carried[:UNITS], atol=1e-5)
        np.testing.assert_allclose(state[b].detach(), carried, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_weights_begin_orthogonal_and_biases_at_zero_but_where_the_state_is_kept(kind):
    parameters = dict(Recurrent(kind, INPUTS, UNITS).cells.named_parameters())
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight = parameters[name]
        columns = weight.shape[1]
        torch.testing.assert_close(weight.T @ weight, torch.eye(columns), atol=1e-5, rtol=0)
    bias = parameters["bias_ih_l0"].detach() + parameters["bias_hh_l0"].detach()
    expected = torch.zeros_like(bias)
    expected[UNITS : 2 * UNITS] = 1  # the second gate of either: forget, update
    assert torch.equal(bias, expected)


# --- transformer ----------------------------------------------------------------------------------


def naive_layer(layer, steps):
    """GTrXL's equations for the last of `steps`, each a float64 vector, all of which it sees."""

    def norm(module, x):
        scaled = (x - x.mean()) / np.sqrt(x.var() + module.eps)
        return scaled * weight(module) + module.bias.detach().double().numpy()

    def weight(module):
        return module.weight.detach().double().numpy()

    def linear(module, x):
        return weight(module) @ x + module.bias.detach().double().numpy()

    def gate(module, x, y):
        w_r, w_z, w_g = np.split(weight(module.of_y), 3)
        u_r, u_z = np.split(weight(module.of_x), 2)
        r = sigmoid(w_r @ y + u_r @ x)
        z = sigmoid(w_z @ y + u_z @ x - module.bias.detach().double().numpy())
        return (1 - z) * x + z * np.tanh(w_g @ y + weight(module.of_reset) @ (r * x))

    attention = layer.attention
    normed = [norm(layer.attention_norm, x) for x in steps]
    per_head = UNITS // HEADS
    mixed = []
    for head in range(HEADS):
        rows = slice(head * per_head, (head + 1) * per_head)
        query = weight(attention.query)[rows] @ normed[-1]
        bias = attention.distance_bias[head].detach().double().numpy()
        scores = np.array(
            [
                query @ (weight(attention.key)[rows] @ x) / np.sqrt(per_head) + bias[distance]
                for distance, x in enumerate(reversed(normed))
            ]
        )
        shares = np.exp(scores) / np.exp(scores).sum()
        values = [weight(attention.value)[rows] @ x for x in reversed(normed)]
        mixed.append(sum(s * v for s, v in zip(shares, values, strict=True)))
    attended = linear(attention.output, np.concatenate(mixed))
    x = gate(layer.attention_gate, steps[-1], np.maximum(attended, 0))
    hidden = np.maximum(linear(layer.network[0], norm(layer.network_norm, x)), 0)
    return gate(layer.network_gate, x, np.maximum(linear(layer.network[2], hidden), 0))


def test_the_transformer_follows_its_equations_on_each_window_of_an_episode():
    memory = build("transformer")
    x, first = (tensor[:11] for tensor in sequence())  # ends in the second step of an episode
    output, state = memory(x, first, torch.zeros(BATCH, memory.state_size))
    embedding = memory.embedding
    for b in range(BATCH):
        given = [[] for _ in memory.layers]  # what each layer was given in this episode
        for t in range(len(x)):
            if first[t, b]:
                given = [[] for _ in memory.layers]
            step = embedding(x[t, b]).detach().double().numpy()
            for layer, before in zip(memory.layers, given, strict=True):
                before.append(step)
                step = naive_layer(layer, before[-WINDOW:])
            np.testing.assert_allclose(output[t, b].detach(), step, atol=1e-4)
        remembered = min(len(given[0]), WINDOW - 1)
        assert state[b, -1] == remembered
        slots = state[b, :-1].detach().view(LAYERS, WINDOW - 1, UNITS)
        for layer, before in enumerate(given):
            empty = [np.zeros(UNITS)] * (WINDOW - 1 - remembered)
            expected = empty + before[len(before) - remembered :]
            np.testing.assert_allclose(slots[layer], expected, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_transformer_sees_a_window_back_in_each_layer(layers):
    memory = build("transformer", layers=layers)
    x = torch.randn(STEPS, 1, INPUTS, requires_grad=True)
    never = torch.zeros(STEPS, 1, dtype=torch.bool)
    output, _ = memory(x, never, torch.zeros(1, memory.state_size))
    output[-1].square().sum().backward()
    reached = x.grad.abs().amax((1, 2)) > 0
    reach = layers * (WINDOW - 1) + 1
    assert reached.tolist() == [t >= STEPS - reach for t in range(STEPS)]


def test_the_gates_of_the_transformer_are_nearly_shut_at_first():
    memory = GatedTransformer(INPUTS, UNITS, WINDOW, 1, HEADS)
    for gate in (memory.layers[0].attention_gate, memory.layers[0].network_gate):
        # With nothing to add, sigmoid(-2) = 0.12 of the candidate comes in.
        x = torch.zeros(1, UNITS)
        torch.testing.assert_close(gate(x, x), x)
        assert torch.equal(gate.bias, torch.full((UNITS,), 2.0))


def test_heads_that_cannot_share_the_units_are_refused():
    with pytest.raises(ValueError, match="units=8 a multiple of heads"):
        GatedTransformer(INPUTS, 8, WINDOW, 1, 3)


@pytest.mark.gpu
@every_kind
def test_an_accelerator_remembers_the_same(kind):
    memory = build(kind)
    x, first = sequence()
    before = lived(memory)
    expected, state = memory(x, first, before)
    output, there = memory.cuda()(x.cuda(), first.cuda(), before.cuda())
    torch.testing.assert_close(output.cpu(), expected, atol=1e-2, rtol=0)
    torch.testing.assert_close(there.cpu(), state, atol=1e-2, rtol=0)
