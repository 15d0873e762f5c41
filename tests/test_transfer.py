"""Weights that begin as another run's, and an encoder that stays as it is while the rest learns."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import STEPS, TINY, CommandLine, catch_run, playfield
from torch import nn

from playfield import envs
from playfield.agents.dqn import DQN, DQNConfig
from playfield.agents.ppo import PPO, PPOConfig
from playfield.commands.origin import Source, begin
from playfield.errors import UserError
from playfield.nets.layers import frozen_copy
from playfield.training.checkpoint import newest_intact, save_checkpoint
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import OptimizerConfig, build_optimizer
from playfield.training.run import Run
from playfield.training.transfer import Transfer, freeze, transfer

__all__ = ["catch_run", "playfield"]  # fixtures

CPU = torch.device("cpu")
CATCH, CORRIDOR = "playfield/Catch-v0", "playfield/Corridor-v0"
#: Settings that train PPO on a small world in about a second.
TINY_PPO = (
    *("--num-envs", "2", "--hidden", "8", "--num-steps", "16", "--batch-size", "16"),
    *("--epochs", "1", "--schedule", "constant", "--threads", "1", "--evaluate-episodes", "0"),
    *("--log-every", "20", "--device", "cpu"),
)
#: More steps than there will be: a run that only plays, so its weights are still the first ones.
NO_UPDATES = ("--learning-starts", "1000")


class Counter(nn.Module):
    """Counts its passes in training mode, as a norm gathers statistics and a dropout draws."""

    gathered: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gathered", torch.zeros(()))
        self.drawn = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.gathered += 1
            self.drawn += 1
        return x

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.drawn)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.drawn = int(state)


def network(inputs: int = 3, actions: int = 2, head: str = "head") -> nn.Sequential:
    """An encoder of two layers, one of them a norm, and a head."""
    encoder = nn.Sequential(nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.ReLU())
    return nn.Sequential(OrderedDict([("encoder", encoder), (head, nn.Linear(4, actions))]))


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: Any, second: Any, part: str = "") -> bool:
    """Whether all weights in `part` are equal to the last bit, and there are some."""
    names = {name for name in (*first, *second) if name.startswith(part)}
    return bool(names) and all(torch.equal(first[name], second[name]) for name in names)


# --- what fits ---


def test_what_fits_is_taken_to_the_last_bit_running_statistics_included() -> None:
    source, target = network(), network()
    source(torch.randn(8, 3))  # statistics that are not those of a new norm
    moved = transfer(source.state_dict(), target, "all", source_name="it")
    assert moved == Transfer(tuple(source.state_dict()), {})
    assert same(source.state_dict(), target.state_dict())
    with torch.no_grad():
        source.get_submodule("head").bias.add_(1)  # type: ignore[operator]
    assert not same(source.state_dict(), target.state_dict()), "the memory is its own"


def test_another_number_of_actions_leaves_the_head_out_whole() -> None:
    source, target = network(actions=2), network(actions=5)
    before = copied(target)
    moved = transfer(source.state_dict(), target, "all", source_name="it")
    assert moved.left_out == {
        "head.weight": "[2, 4] there, [5, 4] here",
        "head.bias": "[2] there, [5] here",
    }
    assert same(source.state_dict(), target.state_dict(), "encoder.")
    assert same(before, target.state_dict(), "head.")


def test_a_bias_does_not_come_without_its_weight() -> None:
    source, target = network(inputs=3), network(inputs=7)
    before = copied(target)
    moved = transfer(source.state_dict(), target, "all", source_name="it")
    assert moved.left_out == {
        "encoder.0.weight": "[4, 3] there, [4, 7] here",
        "encoder.0.bias": "goes with encoder.0.weight",  # [4] on both sides
    }
    assert same(before, target.state_dict(), "encoder.0.")
    assert same(source.state_dict(), target.state_dict(), "encoder.1.")


def test_a_layer_that_only_one_side_has_is_said_to_be_missing_on_the_other() -> None:
    moved = transfer(network(head="q").state_dict(), network(head="policy"), "all", source_name="")
    assert moved.left_out == {
        "policy.weight": "missing there",
        "policy.bias": "missing there",
        "q.weight": "missing here",
        "q.bias": "missing here",
    }


def test_with_the_encoder_alone_heads_are_not_looked_at() -> None:
    source, target = network(), network()
    before = copied(target)
    moved = transfer(source.state_dict(), target, "encoder", source_name="it")
    assert moved.left_out == {}
    assert {name.partition(".")[0] for name in moved.taken} == {"encoder"}
    assert same(source.state_dict(), target.state_dict(), "encoder.")
    assert same(before, target.state_dict(), "head.")


def test_a_weight_comes_without_the_norm_that_it_had() -> None:
    source, target = nn.Linear(3, 4), nn.Linear(3, 4)
    source.norm = Counter()
    moved = transfer(source.state_dict(), target, "all", source_name="it")
    assert moved == Transfer(("weight", "bias"), {"norm.gathered": "missing here"})
    assert torch.equal(source.weight, target.weight)


def test_the_draws_of_a_generator_are_no_weights() -> None:
    source, target = Counter(), Counter()
    source(torch.zeros(1))
    moved = transfer(source.state_dict(), target, "all", source_name="it")
    assert moved == Transfer(("gathered",), {})
    assert (target.gathered, target.drawn) == (1, 0)


def test_a_layout_in_memory_of_its_own_changes_no_weight() -> None:
    source, target = nn.Conv2d(3, 5, 2), nn.Conv2d(3, 5, 2)
    target.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    transfer(source.state_dict(), target, "all", source_name="it")
    assert same(source.state_dict(), target.state_dict())
    assert target.weight.is_contiguous(memory_format=torch.channels_last)


def test_where_nothing_fits_nothing_changes_and_the_source_is_named() -> None:
    source, target = nn.Linear(3, 4), nn.Linear(3, 5)
    before = copied(target)
    with pytest.raises(UserError, match=r"network of run 'x' fits: weight \(\[4, 3\] there, \[5"):
        transfer(source.state_dict(), target, "all", source_name="run 'x'")
    assert same(before, target.state_dict())
    with pytest.raises(UserError, match="encoder of it fits: it has no weights"):
        transfer(source.state_dict(), target, "encoder", source_name="it")


# --- what stays ---


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "adam", "adamw", "radam"])
def test_decay_and_momentum_move_no_frozen_weight(kind: Any, device: str) -> None:
    learner = network().to(device)
    freeze(learner, "encoder")
    config = OptimizerConfig(optimizer=kind, learning_rate=0.1, weight_decay=0.1, momentum=0.9)
    optimizer = build_optimizer(config, learner)
    gradient_step = GradientStep(optimizer, learner.named_parameters(), max_norm=1.0)
    before = copied(learner)
    for _ in range(3):
        learner.train()
        norm = gradient_step.step(learner(5 + torch.randn(8, 3, device=device)).square().mean())
    assert norm > 0
    assert same(before, learner.state_dict(), "encoder.")
    after = learner.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in ("head.weight", "head.bias"))


def test_a_frozen_norm_evaluates_in_any_mode_and_in_copies() -> None:
    learner = network()
    learner(torch.randn(8, 3))
    x = torch.randn(6, 3)
    with torch.no_grad():
        expected = learner.eval()(x)
        assert not torch.allclose(learner.train()(x), expected), "a norm that learns looks at x"
        transfer(copied(learner), learner, "all", source_name="it")
        freeze(learner, "encoder")
        expected = learner.eval()(x)
        statistics = copied(learner)
        for module in (learner.train(), frozen_copy(learner, torch.float32).train()):
            torch.testing.assert_close(module(x), expected)
            assert same(statistics, module.state_dict())


def test_what_a_frozen_part_gathers_stands_still() -> None:
    seeing, deciding = Counter(), Counter()
    learner = nn.Sequential(OrderedDict(encoder=nn.Sequential(seeing), head=deciding))
    freeze(learner, "encoder")
    learner.train()
    learner(torch.zeros(1))
    assert (seeing.gathered, deciding.gathered) == (0, 1)


def test_freezing_nothing_leaves_everything_to_learn() -> None:
    learner = network()
    freeze(learner, "none")
    assert all(p.requires_grad for p in learner.parameters())


# --- trainers ---


def dqn(seed: int) -> tuple[DQN, nn.Module]:
    """A fresh trainer, and the copy of its network that it learns or acts with."""
    config = DQNConfig(num_envs=2, hidden=8, buffer_size=100, precision="float32")
    trainer = DQN(config, envs.make(CATCH, 2), seed=seed, device=CPU)
    return trainer, trainer.target


def ppo(seed: int) -> tuple[PPO, nn.Module]:
    config = PPOConfig(num_envs=2, hidden=8, num_steps=4, precision="float32")
    trainer = PPO(config, envs.make(CATCH, 2), seed=seed, device=CPU, steps=100)
    return trainer, trainer.player.actor  # type: ignore[attr-defined]


@pytest.mark.parametrize("build", [dqn, ppo])
def test_the_networks_copies_begin_with_the_same_weights(build: Any, catch_run: Path) -> None:
    (teacher, _), (trainer, copy) = build(1), build(2)
    run = Run.open(str(catch_run), catch_run.parent)
    source = Source(run, 120, copied(teacher.network))
    assert not same(source.weights, copy.state_dict())
    origin = begin(trainer, source, "all", "none")
    assert origin is not None and origin.taken == tuple(source.weights)
    assert same(source.weights, trainer.network.state_dict())
    assert same(source.weights, copy.state_dict())
    teacher.env.close()
    trainer.env.close()


# --- the command line ---


def weights(folder: Path, key: str = "online") -> dict[str, torch.Tensor]:
    """Those in the run's newest checkpoint."""
    checkpoint = newest_intact(folder / "checkpoints", pytest.fail, stores=False)
    assert checkpoint is not None
    found: dict[str, torch.Tensor] = checkpoint.state["trainer"][key]
    return found


def init(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())["init"]


def test_a_run_begins_with_all_weights_of_one_of_its_kind(
    playfield: CommandLine, catch_run: Path
) -> None:
    train = ("train", "dqn", *TINY, *NO_UPDATES, "--steps", "40", "--seed", "5", "--run", "second")
    result = playfield(*train, "--init-from", "catch")
    assert result.code == 0
    assert f"6 tensors of run 'catch' (dqn on {CATCH}, step {STEPS})." in result.out
    assert same(weights(catch_run), weights(playfield.root / "second"))
    copy = weights(playfield.root / "second", "target")  # in what it computes in
    rounded = {name: tensor.to(copy[name].dtype) for name, tensor in weights(catch_run).items()}
    assert same(rounded, copy)


def test_another_game_takes_the_encoder_which_stays_frozen_over_a_resume(
    playfield: CommandLine, catch_run: Path
) -> None:
    options = ("--env", CORRIDOR, "--freeze", "encoder", "--checkpoint-every", "80")
    train = ("train", "dqn", *TINY, *options, "--init-from", str(catch_run))
    result = playfield(*train, "--steps", "80", "--run", "stopped")
    folder, taught = playfield.root / "stopped", weights(catch_run)
    left_out = {
        # Catch has 10x5 pixels and 3 actions, the corridor 3x10 pixels and 2 actions; the
        # convolution of 3x3 to 16 channels leaves 16*8*3 and 16*1*8 features.
        "head.layers.0.weight": "[8, 384] there, [8, 128] here",
        "head.layers.0.bias": "goes with head.layers.0.weight",
        "head.layers.2.weight": "[3, 8] there, [2, 8] here",
        "head.layers.2.bias": "[3] there, [2] here",
    }
    assert init(folder) == {
        "run": "catch",
        "progress": STEPS,
        "parts": "all",
        "freeze": "encoder",
        "taken": ["encoder.layers.0.weight", "encoder.layers.0.bias"],
        "left_out": left_out,
    }
    for name, reason in left_out.items():
        assert f"  {name}: {reason}\n" in result.out
    assert "The encoder is frozen.\n" in result.out
    early = weights(folder)
    assert same(early, taught, "encoder.")
    assert playfield("resume", "stopped", "--steps", "160").code == 0
    late = weights(folder)
    assert same(late, taught, "encoder.")
    assert not any(torch.equal(late[name], early[name]) for name in left_out)
    assert playfield(*train, "--steps", "160", "--run", "whole").code == 0
    assert same(late, weights(playfield.root / "whole"))


def test_without_a_source_a_frozen_encoder_keeps_its_random_weights(playfield: CommandLine) -> None:
    train = ("train", "dqn", *TINY, "--steps", "80")
    assert playfield(*train, *NO_UPDATES, "--run", "fresh").code == 0
    result = playfield(*train, "--freeze", "encoder", "--run", "frozen")
    assert "The encoder is frozen, at random.\n" in result.out
    fresh, frozen = weights(playfield.root / "fresh"), weights(playfield.root / "frozen")
    assert same(fresh, frozen, "encoder.") and not same(fresh, frozen, "head.")
    assert init(playfield.root / "fresh") is None
    assert init(playfield.root / "frozen")["run"] is None


def test_encoders_pass_between_algorithms(playfield: CommandLine, catch_run: Path) -> None:
    frozen = ("--freeze", "encoder", "--steps", "60")
    train = ("train", "ppo", "--env", CATCH, *TINY_PPO, *frozen, "--init-from", "catch")
    assert playfield(*train, "--run", "policy").code == 0
    folder, taught = playfield.root / "policy", weights(catch_run)
    assert same(weights(folder, "network"), taught, "encoder.")
    missing = {name for name, why in init(folder)["left_out"].items() if why == "missing here"}
    assert missing == {name for name in taught if name.startswith("head.")}

    assert playfield("resume", "policy", "--steps", "120").code == 0
    assert same(weights(folder, "network"), taught, "encoder.")

    back = ("train", "dqn", *TINY, *frozen, "--init-from", "policy", "--init-parts", "encoder")
    assert playfield(*back, "--run", "back").code == 0
    assert same(weights(playfield.root / "back"), taught, "encoder.")
    assert init(playfield.root / "back")["left_out"] == {}


def test_weights_are_taken_without_the_replay(playfield: CommandLine, catch_run: Path) -> None:
    shutil.rmtree(catch_run / "checkpoints" / "pages")
    train = ("train", "dqn", *TINY, *NO_UPDATES, "--steps", "20", "--run", "second")
    assert playfield(*train, "--init-from", "catch").code == 0
    assert same(weights(catch_run), weights(playfield.root / "second"))


def test_a_dry_run_shows_where_weights_would_come_from(playfield: CommandLine) -> None:
    options = ("--init-from", "catch", "--init-parts", "encoder", "--freeze", "encoder")
    shown = json.loads(playfield("train", "dqn", *TINY, *options, "--dry-run").out)
    assert (shown["init_from"], shown["init_parts"], shown["freeze"]) == (
        "catch", "encoder", "encoder",
    )  # fmt: skip


# --- what a user can get wrong ---


def damage(folder: Path) -> None:
    for file in folder.glob("checkpoints/*/state.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")


def remove_checkpoints(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")


def rename_algorithm(folder: Path) -> None:
    manifest = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**manifest, "algorithm": "dqm"}))


def save_no_weights(folder: Path) -> None:
    save_checkpoint(folder / "checkpoints", 999, {"trainer": {"progress": 999}}, {})


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (damage, "no intact checkpoint"),
        (remove_checkpoints, "ended before the first one"),
        (rename_algorithm, "did you mean dqn?"),
        (save_no_weights, "'online' is missing"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_and_no_run_begins(
    playfield: CommandLine, catch_run: Path, spoil: Any, named: str
) -> None:
    spoil(catch_run)
    train = ("train", "dqn", *TINY, "--steps", "40", "--run", "second")
    assert named in playfield.refuses(*train, "--init-from", "catch")
    assert not (playfield.root / "second").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--init-from", "cacth"), "did you mean catch"),
        (("--init-from", ""), "no run ''"),
        (("--init-parts", "encoder"), "--init-from"),
        (("--init-from", "catch", "--init-parts", "head"), "--init-parts"),
        (("--init-from", "catch", "--freeze", "all"), "--freeze"),
        (
            ("--init-from", "catch", "--init-parts", "encoder", "--env", "CartPole-v1"),
            "Nothing of the encoder of run 'catch' fits: encoder.layers.0.weight "
            "([16, 1, 3, 3] there, [64, 4] here)",
        ),
    ],
)
def test_a_wrong_word_about_the_source_is_told_and_no_run_begins(
    playfield: CommandLine, catch_run: Path, options: tuple[str, ...], named: str
) -> None:
    train = ("train", "dqn", *TINY, "--steps", "40", "--run", "second")
    assert named in playfield.refuses(*train, *options)
    assert not (playfield.root / "second").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"freeze": "heads"}, "init: freeze"),
        ({"left_out": {"head.weight": 3}}, "head.weight should be str"),
        ({"frozen": True}, "unknown field 'frozen'"),
    ],
)
def test_an_edited_origin_stops_a_resume(
    playfield: CommandLine, catch_run: Path, change: dict[str, Any], named: str
) -> None:
    origin = {
        "run": None, "progress": None, "parts": "all", "freeze": "none", "taken": [], "left_out": {}
    }  # fmt: skip
    manifest = json.loads((catch_run / "run.json").read_text())
    (catch_run / "run.json").write_text(json.dumps({**manifest, "init": {**origin, **change}}))
    assert named in playfield.refuses("resume", "catch", "--steps", "200")
