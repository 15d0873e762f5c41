"""The trainer of models that paint: its batches, gradients, labels, averages and state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trainer import manifest
from killed_painters import Crash, assert_same_moments, go, weights

from playfield.commands.stored_painter import new_trainer
from playfield.errors import UserError
from playfield.generative.augmentation import ImageAugmentation
from playfield.generative.consistency import ConsistencyConfig
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.denoiser_trainer import NOISE_BANDS, by_noise
from playfield.generative.diffusion import DiffusionConfig, DiffusionObjectiveConfig
from playfield.generative.flow import FlowConfig
from playfield.generative.images import ImageData, images_from_arrays
from playfield.generative.networks import NetConfig
from playfield.generative.objective import NO_LABEL
from playfield.generative.reflow import ReflowConfig
from playfield.generative.teacher import Teacher
from playfield.training.ema import EMAConfig
from playfield.training.optimizers import OptimizerConfig
from playfield.training.run import Run

CPU = torch.device("cpu")
NET = NetConfig(base_channels=8, channel_mult=(1, 2), blocks=1)
SMALL: dict[str, Any] = {
    "batch_size": 16,
    "net": NET,
    "precision": "float32",
    "optimizer": OptimizerConfig(learning_rate=1e-3, warmup_steps=50),
    "ema": EMAConfig(ema_half_life=100),
}
STEPS = 400


@pytest.fixture(scope="module")
def data() -> ImageData:
    """80 images of 6x5 pixels in four classes, which say how bright they are."""
    rng = np.random.default_rng(3)
    labels = np.arange(80) % 4
    images = (60 * labels[:, None, None, None] + rng.integers(0, 40, (80, 1, 6, 5))).astype(
        np.uint8
    )
    return images_from_arrays("test", images, labels, list("abcd"))


def trainer_of(config: DenoiserConfig, data: ImageData, teacher: Teacher | None = None) -> Any:
    return new_trainer(config, data, teacher, seed=7, device=CPU, steps=STEPS)


class Exact(torch.nn.Module):
    """A network in float64, so that sums taken in another order differ in the last digits only."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel = torch.nn.Parameter(
            torch.randn(1, 1, 3, 3, generator=generator, dtype=torch.float64)
        )

    def forward(self, x: torch.Tensor, level: torch.Tensor, *_: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x.double(), self.kernel, padding=1).tanh()
        return y * (1 + level.double()[:, None, None, None])


def test_parts_of_a_batch_give_the_gradient_of_the_whole(data: ImageData) -> None:
    gradients = []
    for micro_batch in (None, 5, 1):
        trainer = trainer_of(DiffusionConfig(**SMALL, micro_batch=micro_batch), data)
        trainer.network = trainer.compiled = Exact()
        found: list[Any] = []
        for part in trainer._parts(found):
            part.backward()
        assert sum(len(each.loss) for each in found) == 16
        gradients.append(trainer.network.kernel.grad)
    for parts in gradients[1:]:
        torch.testing.assert_close(parts, gradients[0], rtol=1e-10, atol=1e-10)


def test_a_label_is_lost_image_by_image_and_as_often_as_asked(data: ImageData) -> None:
    trainer = trainer_of(DiffusionConfig(**SMALL, label_dropout=0.25), data)
    label = torch.arange(4).repeat(1000)
    shown = trainer._shown_labels({"label": label}, 4000, torch.Generator().manual_seed(0))
    lost = shown == NO_LABEL
    assert abs(lost.float().mean() - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert (shown[~lost] == label[~lost]).all()
    # Not batch by batch: in every ten images some are lost and some kept.
    assert 0 < lost.view(-1, 40).float().mean(1).min() < lost.view(-1, 40).float().mean(1).max() < 1


def test_without_labels_the_network_knows_no_classes(data: ImageData) -> None:
    trainer = trainer_of(DiffusionConfig(**SMALL, conditional=False), data)
    assert trainer.spec.classes == ()
    shown = trainer._shown_labels({"label": torch.arange(4)}, 4, torch.Generator())
    assert (shown == NO_LABEL).all()


def test_images_without_a_label_are_learned_from_beside_others() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(32) % 3 - 1
    mixed = images_from_arrays(
        "mixed", rng.integers(0, 256, (32, 2, 4, 7), np.uint8), labels, ["a", "b"]
    )
    trainer = trainer_of(DiffusionConfig(**SMALL, label_dropout=0.0), mixed)
    shown: list[int] = []
    trainer.network.register_forward_hook(lambda _, given, __: shown.extend(given[2].tolist()))
    losses = [float(trainer.step()["train/loss"]) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert sorted(shown) == sorted(labels)  # one epoch


def test_losses_are_shared_out_by_noise_and_none_is_lost() -> None:
    loss = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    shares = by_noise(loss, torch.tensor([0.01, 0.1, 0.3, 5.0, float("inf")]))
    totals = {name: (float(s.total), int(s.count)) for name, s in shares.items()}
    assert list(totals) == list(NOISE_BANDS)
    below, from_01, from_05, above = totals.values()
    assert (below, from_01, from_05, above) == ((1.0, 1), (6.0, 2), (0.0, 0), (8.0, 1))


def test_the_average_follows_the_weights_and_paints(data: ImageData) -> None:
    trainer = trainer_of(DiffusionConfig(**SMALL), data)
    trainer.step()
    torch.testing.assert_close(weights(trainer.averages.ema.network), weights(trainer.network))
    for _ in range(10):
        trainer.step()
    assert not torch.equal(weights(trainer.averages.ema.network), weights(trainer.network))
    assert not trainer.averages.ema.network.training


def test_the_warm_up_counts_images(data: ImageData) -> None:
    # 50 images of warm-up in batches of 16: the rates at 0, 16, 32, 48 and 64 images.
    trainer = trainer_of(DiffusionConfig(**SMALL), data)
    rates = [trainer.step()["train/learning_rate"] for _ in range(5)]
    assert rates == pytest.approx([0.0, 1e-3 * 16 / 50, 1e-3 * 32 / 50, 1e-3 * 48 / 50, 1e-3])


@pytest.mark.parametrize("kind", [DiffusionConfig, FlowConfig])
def test_the_loss_falls(kind: Any, data: ImageData) -> None:
    trainer = trainer_of(kind(**{**SMALL, "optimizer": OptimizerConfig(learning_rate=3e-3)}), data)
    losses = [float(trainer.step()["train/loss"]) for _ in range(120)]
    assert np.mean(losses[-30:]) < 0.6 * np.mean(losses[:10])


@pytest.mark.gpu
def test_a_compiled_network_learns_what_the_plain_one_does(data: ImageData) -> None:
    device = torch.device("cuda")
    trainers = [
        new_trainer(
            DiffusionConfig(**SMALL, compile_network=compiled),
            data, None, seed=7, device=device, steps=STEPS,
        )
        for compiled in (False, True)
    ]  # fmt: skip
    for _ in range(3):
        losses = [float(trainer.step()["train/loss"]) for trainer in trainers]  # type: ignore[arg-type]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# --- resume ---------------------------------------------------------------------------------------


def teacher_of(data: ImageData) -> Teacher:
    trainer = trainer_of(FlowConfig(**SMALL), data)
    for _ in range(3):
        trainer.step()
    return Teacher(trainer.objective, trainer.averages.ema.network, trainer.spec)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(DiffusionConfig(**SMALL), id="edm"),
        pytest.param(
            DiffusionConfig(
                **{**SMALL, "net": replace(NET, dropout=0.2), "micro_batch": 6},
                objective=DiffusionObjectiveConfig(parametrisation="v", min_snr=5.0),
                augmentation=ImageAugmentation(flip=True, shift=1, augment=0.5),
            ),
            id="everything random",
        ),
        pytest.param(FlowConfig(**SMALL), id="flow"),
        pytest.param(ReflowConfig(**SMALL, pair_steps=2), id="reflow"),
        pytest.param(ConsistencyConfig(**SMALL), id="consistency"),
    ],
)
def test_a_run_killed_and_resumed_is_bit_for_bit_the_one_that_was_not(
    config: DenoiserConfig, data: ImageData, tmp_path: Path
) -> None:
    taught = isinstance(config, ReflowConfig | ConsistencyConfig)
    teacher = teacher_of(data) if taught else None
    straight = go(
        Run.create(tmp_path, "straight", manifest()),
        lambda: trainer_of(config, data, teacher),
        STEPS,
    )
    broken = Run.create(tmp_path, "broken", manifest())
    with pytest.raises(Crash):
        go(broken, lambda: trainer_of(config, data, teacher), STEPS, dies_at=300)
    if taught:
        # What it learns from is in the checkpoint: another teacher in its place changes nothing.
        other = teacher_of(data)
        assert other.network is not None
        with torch.no_grad():
            for parameter in other.network.parameters():
                parameter.add_(1.0)
        teacher = other if config.asks_teacher else teacher_of(data)
    resumed = go(broken, lambda: trainer_of(config, data, teacher), STEPS)
    assert straight.progress == resumed.progress
    assert torch.equal(weights(straight.network), weights(resumed.network))
    assert torch.equal(weights(straight.averages.network), weights(resumed.averages.network))
    assert straight.epochs.state_dict() == resumed.epochs.state_dict()
    assert_same_moments(straight.gradient_step.optimizer, resumed.gradient_step.optimizer)


def test_painting_in_between_changes_nothing_of_training(data: ImageData, tmp_path: Path) -> None:
    from playfield.commands.painter_evaluation import during_training

    plain, watched = (trainer_of(DiffusionConfig(**SMALL), data) for _ in range(2))
    run = Run.create(tmp_path, "watched", manifest())
    evaluate = during_training(watched, data, run, number=0)
    for _ in range(4):
        plain.step()
        watched.step()
        found = evaluate()
    assert torch.equal(weights(plain.network), weights(watched.network))
    assert {"samples/averaged", "samples/newest", "samples/nearest"} <= found.keys()
    assert list((run.folder / "samples").iterdir())


def test_no_more_images_are_painted_at_once_than_are_learned_from(
    data: ImageData, tmp_path: Path
) -> None:
    from playfield.commands.painter_evaluation import during_training

    trainer = trainer_of(DiffusionConfig(**SMALL), data)
    seen: list[int] = []
    for network in (trainer.network, trainer.averages.ema.network):
        network.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    during_training(trainer, data, Run.create(tmp_path, "large", manifest()), number=0)()
    assert set(seen) == {SMALL["batch_size"]}


# --- beginning with another model -----------------------------------------------------------------


def test_consistency_tuning_begins_with_its_teacher_s_weights(data: ImageData) -> None:
    teacher = teacher_of(data)
    assert teacher.network is not None
    trainer = trainer_of(ConsistencyConfig(**SMALL), data, teacher)
    assert torch.equal(weights(trainer.network), weights(teacher.network))


def test_a_network_of_another_size_cannot_be_begun_with(data: ImageData) -> None:
    other = {**SMALL, "net": replace(NET, base_channels=16)}
    with pytest.raises(UserError, match="not of the same size and kind"):
        trainer_of(ConsistencyConfig(**other), data, teacher_of(data))


def test_reflow_wants_a_flow(data: ImageData) -> None:
    trainer = trainer_of(DiffusionConfig(**SMALL), data)
    teacher = Teacher(trainer.objective, trainer.averages.ema.network, trainer.spec)
    with pytest.raises(UserError, match="straightens a flow"):
        trainer_of(ReflowConfig(**SMALL), data, teacher)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size has to be 1 or more"),
        ({"micro_batch": 17}, "micro_batch has to lie between 1 and the batch size"),
        ({"label_dropout": 1.5}, "label_dropout has to lie in 0..1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        DiffusionConfig(**{**SMALL, **settings})


def test_images_of_one_value_are_refused() -> None:
    blank = images_from_arrays("blank", np.full((9, 1, 6, 5), 7, np.uint8))
    with pytest.raises(UserError, match="All pixels of blank have one value"):
        trainer_of(DiffusionConfig(**SMALL), blank)
