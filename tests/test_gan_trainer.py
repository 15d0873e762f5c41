"""The trainer of GANs: whose turn it is, what each player keeps, health, and resume to the bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from fake_trainer import manifest
from killed_painters import Crash, assert_same_moments, go, weights
from scipy import stats

from playfield.commands.ending import finish
from playfield.commands.stored_painter import conclude
from playfield.errors import UserError
from playfield.generative import gan_health
from playfield.generative.gan import GANConfig, Penalty
from playfield.generative.gan_augmentation import GANAugmentation, draw
from playfield.generative.gan_health import GANHealth, relative_diversity
from playfield.generative.gan_losses import LOSSES
from playfield.generative.gan_networks import GANNetConfig
from playfield.generative.gan_trainer import GANTrainer, computing_in_float32
from playfield.generative.images import ImageData, images_from_arrays
from playfield.generative.sampling import SamplerConfig, paint
from playfield.training.ema import EMAConfig
from playfield.training.loop import Outcome
from playfield.training.optimizers import OptimizerConfig
from playfield.training.run import Run

CPU = torch.device("cpu")
NET = GANNetConfig(
    net="r3gan", latent=8, generator_channels=8, discriminator_channels=8, group_channels=8,
    class_features=8, start_size=3,
)  # fmt: skip
SMALL: dict[str, Any] = {
    "batch_size": 16,
    "net": NET,
    "precision": "float32",
    "optimizer": OptimizerConfig(learning_rate=1e-3, beta1=0.0, beta2=0.99, warmup_steps=50),
    "ema": EMAConfig(ema_half_life=100),
}
DCGAN = replace(NET, net="dcgan", discriminator_norm="batch")
WGAN = replace(NET, net="dcgan")
RESNET = replace(NET, net="resnet", discriminator_norm="spectral")
ADA = GANAugmentation(augment="ada", ada_speed=200, ada_target=0.0, augment_cutout=True)
#: One configuration of each kind, with everything that a state has to hold.
KINDS = {
    "r3gan": GANConfig(**SMALL),
    "ada": GANConfig(**{**SMALL, "augmentation": ADA}, final_penalty_weight=0.1, flip=True),
    "lazy": GANConfig(**SMALL, loss="non-saturating", penalty="r1", penalty_every=4),
    "dcgan": GANConfig(**{**SMALL, "net": DCGAN}, loss="non-saturating", penalty="none"),
    "wgan-gp": GANConfig(
        **{**SMALL, "net": WGAN}, loss="wasserstein", penalty="gradient", discriminator_steps=2
    ),
    "sngan": GANConfig(**{**SMALL, "net": RESNET}, loss="hinge", penalty="none", drift=0.001),
    "diffaugment": GANConfig(**{**SMALL, "augmentation": GANAugmentation("diffaugment")}),
}
every_kind = pytest.mark.parametrize("config", [pytest.param(c, id=n) for n, c in KINDS.items()])
STEPS = 400


@pytest.fixture(scope="module")
def data() -> ImageData:
    """80 images of 6x5 pixels in four classes, which say how bright they are."""
    rng = np.random.default_rng(3)
    labels = np.arange(80) % 4
    images = 60 * labels[:, None, None, None] + rng.integers(0, 40, (80, 1, 6, 5))
    return images_from_arrays("test", images.astype(np.uint8), labels, list("abcd"))


def trainer_of(config: GANConfig, data: ImageData) -> GANTrainer:
    return config.build_trainer(data, None, seed=7, device=CPU, steps=STEPS)


# --- whose turn it is -----------------------------------------------------------------------------


@every_kind
def test_each_player_learns_in_its_own_turn_alone(config: GANConfig, data: ImageData) -> None:
    trainer = trainer_of(config, data)
    real, label = trainer._next_images()
    before = [p.detach().clone() for p in trainer.network.parameters()]
    trainer._teach_discriminator(real, label, trainer._draws("discriminator"))
    assert all(p.grad is None for p in trainer.network.parameters())
    assert all(map(torch.equal, before, trainer.network.parameters()))
    trainer.discriminator_step.optimizer.zero_grad(set_to_none=True)
    before = [p.detach().clone() for p in trainer.discriminator.parameters()]
    trainer._teach_generator(real, label, trainer._draws("generator"))
    assert all(p.grad is None for p in trainer.discriminator.parameters())
    assert all(p.requires_grad for p in trainer.discriminator.parameters())
    assert all(map(torch.equal, before, trainer.discriminator.parameters()))


@every_kind
def test_what_a_step_reports_is_finite_and_known(config: GANConfig, data: ImageData) -> None:
    from playfield.training.metrics import METRICS

    trainer = trainer_of(config, data)
    for _ in range(3):
        metrics = trainer.step()
    assert metrics.keys() <= METRICS.keys()
    assert all(np.isfinite(float(value)) for value in metrics.values())  # type: ignore[arg-type]


def test_the_clock_counts_real_images_that_the_discriminator_saw(data: ImageData) -> None:
    trainer = trainer_of(KINDS["wgan-gp"], data)
    trainer.step()
    assert trainer.progress == 2 * 16
    assert trainer.discriminator_step.taken == 2 and trainer.generator_step.taken == 1
    assert trainer.averages.ema.progress == 2 * 16


def test_the_two_networks_have_the_rates_that_were_asked_for(data: ImageData) -> None:
    config = replace(
        KINDS["lazy"], discriminator_rate=4.0, optimizer=OptimizerConfig(learning_rate=1e-3)
    )
    trainer = trainer_of(config, data)
    trainer.step()
    painter, judge = (
        step.optimizer.param_groups[0]
        for step in (trainer.generator_step, trainer.discriminator_step)
    )
    assert painter["lr"] == 1e-3 and painter["betas"] == (0.9, 0.999)
    # c = 4 / 5 for a penalty at every fourth update: Karras et al. 2020, appendix B.
    assert judge["lr"] == pytest.approx(4e-3 * 0.8)
    assert judge["betas"] == pytest.approx((0.9**0.8, 0.999**0.8))


def test_a_lazy_penalty_is_an_update_of_its_own_now_and_then(data: ImageData) -> None:
    trainer = trainer_of(KINDS["lazy"], data)
    reported = ["train/penalty" in trainer.step() for _ in range(8)]
    assert reported == [True, False, False, False] * 2
    assert trainer.discriminator_step.taken == 8 + 2


def test_penalties_look_through_the_discriminator_in_float32(data: ImageData) -> None:
    trainer = trainer_of(replace(KINDS["lazy"], precision="bfloat16"), data)
    seen: list[tuple[torch.dtype, bool]] = []
    forward = trainer.discriminator.forward

    def watched(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append((trainer.discriminator.dtype, x.requires_grad))  # type: ignore[arg-type]
        return forward(x, label)

    trainer.discriminator.forward = watched  # type: ignore[method-assign]
    trainer.step()
    # Real and painted for the loss, the same for the penalty (R1: on real ones), then the
    # generator's turn.
    low, high = torch.bfloat16, torch.float32
    assert seen == [(low, False), (low, False), (high, True), (high, False), (low, True)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metrics = trainer.step()
    assert all(np.isfinite(float(value)) for value in metrics.values())  # type: ignore[arg-type]


def test_computing_in_float32_ends_where_it_began(data: ImageData) -> None:
    network = trainer_of(replace(KINDS["r3gan"], precision="bfloat16"), data).discriminator
    with pytest.raises(RuntimeError), computing_in_float32(network):
        raise RuntimeError
    assert network.dtype == torch.bfloat16


def test_r1_is_half_gamma_times_the_squared_slope_at_images_before_augmentation(
    data: ImageData,
) -> None:
    """A linear discriminator that sees images three times as bright: its slope is three weights."""
    trainer = trainer_of(replace(KINDS["r3gan"], penalty="r1"), data)
    trainer._seen = lambda images, draws: 3 * images  # type: ignore[method-assign]
    weight = torch.linspace(-1, 1, 30).view(1, 6, 5)

    class Linear(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return (x * weight).sum((1, 2, 3))

        def parameters(self, recurse: bool = True) -> Iterator[torch.nn.Parameter]:
            return iter([torch.nn.Parameter(weight)])

    trainer.discriminator = Linear()
    real, label = trainer._next_images()
    draws = trainer._draws("discriminator")
    _, _, penalty = trainer._judged(real, real.clone(), label, draws, True)
    assert float(penalty.detach()) == pytest.approx(9 * float(weight.square().sum()) / 2)


class Squares(torch.nn.Module):
    """A discriminator of weighted squares, Σ w x²: its slope at an image x is 2 w x."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-0.2, 0.3, 30).view(1, 6, 5))

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return (self.weight * x.square()).sum((1, 2, 3))


class Taught(NamedTuple):
    """A discriminator's update: what it met, and what it was to minimise."""

    weight: torch.Tensor  # of `Squares`
    real: torch.Tensor
    fake: torch.Tensor
    between: torch.Tensor  # at the places that the update draws, augmented
    losses: list[torch.Tensor]
    metrics: dict[str, float | torch.Tensor]


def taught(
    config: GANConfig, data: ImageData, monkeypatch: pytest.MonkeyPatch, progress: int = 0
) -> Taught:
    """The update at `progress` of a trainer whose augmentation makes images thrice as bright."""
    trainer = trainer_of(config, data)
    trainer.progress = progress
    judge = trainer.discriminator = Squares()
    fake = torch.linspace(-1, 0.5, 16 * 30).view(16, 1, 6, 5)
    losses: list[torch.Tensor] = []

    def stepped(loss: torch.Tensor) -> torch.Tensor:
        losses.append(loss)
        return torch.zeros(())

    monkeypatch.setattr(trainer, "_seen", lambda images, draws: 3 * images)
    monkeypatch.setattr(trainer.network, "forward", lambda z, label: fake)
    monkeypatch.setattr(trainer.discriminator_step, "step", stepped)
    real, label = trainer._next_images()
    # An update draws the generator's noise first, then one place between each pair.
    noise = trainer._draws("discriminator").noise
    torch.randn(16, NET.latent, generator=noise)
    share = torch.rand(16, generator=noise).view(16, 1, 1, 1)
    metrics = trainer._teach_discriminator(real, label, trainer._draws("discriminator"))
    between = 3 * (share * real + (1 - share) * fake)
    return Taught(judge.weight, real, fake, between, losses, metrics)


def naive_penalty(kind: str, found: Taught) -> torch.Tensor:
    """From slopes worked out by hand: 18 w x of D(3x) at x, and 2 w x of D at x, one by one."""
    w, total = found.weight, torch.zeros(())
    for real, fake, between in zip(found.real, found.fake, found.between, strict=True):
        if kind in ("r1", "r1r2"):
            total = total + (18 * w * real).square().sum() / 2
        if kind == "r1r2":
            total = total + (18 * w * fake).square().sum() / 2
        if kind == "gradient":
            total = total + ((2 * w * between).square().sum().sqrt() - 1) ** 2
    return total / len(found.real)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("kind", ["none", "r1", "r1r2", "gradient"])
def test_a_discriminator_minimises_its_loss_the_drift_and_the_weighted_penalty(
    data: ImageData, monkeypatch: pytest.MonkeyPatch, kind: Penalty, every: int
) -> None:
    """Drift weighs 0.05 and the penalty 0.3; a lazy penalty comes later, times four."""
    config = replace(
        KINDS["r3gan"], loss="non-saturating", drift=0.05, penalty=kind, penalty_weight=0.3,
        penalty_every=every,
    )  # fmt: skip
    found = taught(config, data, monkeypatch)
    w = found.weight
    r, f = ((w * (3 * images).square()).sum((1, 2, 3)) for images in (found.real, found.fake))
    loss = ((1 + (-r).exp()).log() + (1 + f.exp()).log()).mean() + 0.05 * (r**2).mean()
    penalty = 0.3 * naive_penalty(kind, found)
    expected = [loss + penalty] if every == 1 else [loss, 4 * penalty]
    if kind == "none":
        expected = [loss]
    assert len(found.losses) == len(expected)
    for ours, theirs in zip(found.losses, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        # What the weights learn is the derivative of that.
        slopes = [torch.autograd.grad(each, w, retain_graph=True)[0] for each in (ours, theirs)]
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
    assert ("train/penalty" in found.metrics) == (kind != "none")
    if kind != "none":
        assert float(found.metrics["train/penalty"]) == pytest.approx(float(penalty.detach()))


@pytest.mark.parametrize(
    ("progress", "weight"),
    [(0, 0.8), (STEPS // 4, 0.2 + 0.3 * (1 + 0.5**0.5)), (STEPS // 2, 0.5), (STEPS, 0.2)],
)
def test_the_weight_of_a_penalty_falls_along_half_a_cosine(
    data: ImageData, monkeypatch: pytest.MonkeyPatch, progress: int, weight: float
) -> None:
    config = replace(
        KINDS["r3gan"], loss="wasserstein", penalty_weight=0.8, final_penalty_weight=0.2
    )
    found = taught(config, data, monkeypatch, progress)
    r, f = (
        (found.weight * (3 * images).square()).sum((1, 2, 3)) for images in (found.real, found.fake)
    )
    (loss,) = found.losses
    expected = (f - r).mean() + weight * naive_penalty("r1r2", found)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


# --- augmentation ---------------------------------------------------------------------------------


def test_diffaugment_changes_real_and_painted_images_alike(data: ImageData) -> None:
    """Where both are the same images, what is seen of them has the same distribution."""
    trainer = trainer_of(KINDS["diffaugment"], data)
    images = torch.full((4000, 1, 6, 5), -0.5)
    images[:, :, 2:4, 1:3] = 0.5
    seen: list[torch.Tensor] = []

    def watched(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum((1, 2, 3))

    trainer.discriminator.forward = watched  # type: ignore[method-assign]
    label = torch.zeros(4000, dtype=torch.int64)
    trainer._judged(images, images.clone(), label, trainer._draws("discriminator"), False)
    real, painted = (each.flatten(1) for each in seen)
    assert not torch.equal(real, painted)  # each has draws of its own
    rows, columns = (torch.arange(side).float() for side in (6, 5))
    weights = torch.stack([torch.ones(30), rows.repeat_interleave(5), columns.repeat(6)], 1)
    for sums in ((each @ weights).T.numpy() for each in (real, painted)):
        assert all(np.ptp(column) > 1 for column in sums)  # brightness and both moves happen
    for ours, theirs in zip((real @ weights).T, (painted @ weights).T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    assert stats.ks_2samp(real.std(1), painted.std(1)).pvalue > 1e-3  # contrast


def test_a_generator_learns_through_the_changes_of_diffaugment(data: ImageData) -> None:
    trainer = trainer_of(replace(KINDS["diffaugment"], loss="wasserstein"), data)
    judge = trainer.discriminator = Squares()
    real, label = trainer._next_images()

    def slopes(augmentation: GANAugmentation) -> torch.Tensor:
        """The gradient of -D(T(G(z))), the changes T drawn as the generator's turn draws them."""
        noise, changes = trainer._draws("generator")
        fake = trainer.network(torch.randn(16, NET.latent, generator=noise), label)
        seen = draw(augmentation, tuple(fake.shape), 0.0, changes)(fake)
        found = torch.autograd.grad(-judge(seen, label).mean(), trainer.network.parameters())
        return torch.cat([each.flatten() for each in found])

    through, past = slopes(trainer.config.augmentation), slopes(GANAugmentation())
    trainer._teach_generator(real, label, trainer._draws("generator"))
    learned = torch.cat([p.grad.flatten() for p in trainer.network.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(learned, through)
    assert float((learned - past).norm()) > 0.1 * float(past.norm())


# --- painting -------------------------------------------------------------------------------------


def test_a_painted_image_is_the_same_in_any_batch(data: ImageData) -> None:
    for config in KINDS.values():
        trainer = trainer_of(config, data)
        trainer.step()
        model = trainer.painting_model()
        label = torch.arange(9) % 4
        together = paint(model, SamplerConfig(), range(9), label)
        assert together.shape == (9, 1, 6, 5) and together.dtype == torch.float32
        for seed in (0, 8):
            alone = paint(model, SamplerConfig(), [seed], label[seed : seed + 1])
            assert torch.equal(alone[0], together[seed])


def test_painting_in_between_changes_nothing_of_training(data: ImageData, tmp_path: Path) -> None:
    from playfield.commands.painter_evaluation import during_training

    for kind in ("dcgan", "ada"):
        plain, watched = (trainer_of(KINDS[kind], data) for _ in range(2))
        evaluate = during_training(watched, data, Run.create(tmp_path, kind, manifest()), number=0)
        for _ in range(3):
            plain.step()
            watched.step()
            evaluate()
        assert torch.equal(weights(plain.network), weights(watched.network))
        assert torch.equal(weights(plain.discriminator), weights(watched.discriminator))


def test_without_labels_neither_network_knows_classes(data: ImageData) -> None:
    trainer = trainer_of(replace(KINDS["r3gan"], conditional=False), data)
    trainer.step()
    model = trainer.painting_model()
    assert not model.conditional and model.unconditional
    assert paint(model, SamplerConfig(), [1], torch.tensor([-1])).shape == (1, 1, 6, 5)
    with pytest.raises(UserError, match="no classes"):
        paint(model, SamplerConfig(), [1], torch.tensor([0]))


# --- health ---------------------------------------------------------------------------------------


def test_diversity_is_the_scatter_within_classes_over_that_of_real_images() -> None:
    real = torch.tensor([0.0, 2.0, 10.0, 14.0]).view(4, 1, 1, 1)
    label = torch.tensor([0, 0, 1, 1])
    # Squared distances to the means 1 and 12 add up to 2 + 8; those below to 0.5 + 2.
    fake = torch.tensor([0.0, 1.0, 50.0, 52.0]).view(4, 1, 1, 1)
    assert float(relative_diversity(fake, real, label)) == pytest.approx(2.5 / 10)
    assert float(relative_diversity(real, real, label)) == 1
    # One image for each class: nothing within classes, so it is that among all (mean 6.5).
    one_each = torch.tensor([3, 1, 0, 2])
    collapsed = torch.full_like(real, 5.0)
    assert float(relative_diversity(collapsed, real, one_each)) == 0
    assert float(relative_diversity(2 * real, real, one_each)) == pytest.approx(4)


def test_real_images_without_variety_tell_nothing_of_diversity() -> None:
    same = torch.ones(4, 1, 2, 2)
    assert relative_diversity(torch.rand(4, 1, 2, 2), same, torch.tensor([0, 0, 1, 1])).isnan()
    assert relative_diversity(same[:1], same[:1], torch.tensor([0])).isnan()  # a batch of one


def test_an_update_that_is_not_finite_changes_nothing_of_the_health() -> None:
    health = GANHealth.begin(CPU)
    for value in (math.inf, 0.5, math.nan, 0.5):
        health.add(torch.tensor(value), torch.tensor(value))
    assert float(health.diversity) == float(health.spread) == 0.5
    for _ in range(1000):
        health.add(torch.zeros(()), torch.zeros(()))
    assert len(health.diagnosis()) == 2


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_that_no_loss_sees_is_not_taken_for_overfitting(name: str) -> None:
    """What tells real from painted images is measured from where the loss can't tell."""
    loss = LOSSES[name]
    real, fake = torch.tensor([0.4, -0.2, 1.7]), torch.tensor([0.1, 0.3, -0.6])
    moved = [each + 5 for each in (real, fake)]
    if torch.allclose(loss.discriminator(real, fake), loss.discriminator(*moved)):
        torch.testing.assert_close(loss.told(real, fake), loss.told(*moved))
    else:
        # Said of a real and of a painted image alike, it is best: the loss can't tell there.
        undecided = torch.full((1,), 0.5 if name == "least-squares" else 0.0, requires_grad=True)
        loss.discriminator(undecided, undecided).backward()
        assert float(undecided.grad) == pytest.approx(0)  # type: ignore[arg-type]
        assert float(loss.told(undecided, undecided).detach()) == 0


def test_the_chance_of_changes_moves_with_ada_alone(data: ImageData) -> None:
    for kind in ("r3gan", "diffaugment", "ada"):
        config = KINDS[kind]
        if kind == "ada":
            config = replace(config, augmentation=replace(ADA, ada_target=-1.0))
        trainer = trainer_of(config, data)
        reported = {name for _ in range(12) for name in trainer.step()}
        assert ("gan/augment_probability" in reported) == (kind == "ada")
        assert (trainer.augment.p > 0) == (kind == "ada")


def test_a_collapsed_generator_raises_the_alarm(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gan_health, "PATIENCE", 20)
    healthy = trainer_of(KINDS["r3gan"], data)
    trainer = trainer_of(KINDS["r3gan"], data)
    paint_as_ever = trainer.network.forward

    def same(z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The noise no longer matters; the label does."""
        return paint_as_ever(torch.zeros_like(z), label)

    trainer.network.forward = same  # type: ignore[method-assign]
    for _ in range(25):
        trainer.step()
        healthy.step()
    metrics = trainer.step()
    assert float(metrics["health/generator_collapsed"]) == 1  # type: ignore[arg-type]
    assert any("generator has collapsed" in sentence for sentence in trainer.diagnosis())
    assert float(healthy.step()["health/generator_collapsed"]) == 0  # type: ignore[arg-type]
    assert healthy.diagnosis() == []


def test_a_discriminator_that_says_the_same_of_all_is_told(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gan_health, "PATIENCE", 20)
    trainer = trainer_of(KINDS["r3gan"], data)
    judge = trainer.discriminator.forward

    def undecided(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = 1 + 1e-5 * judge(x, label)
        return logits

    trainer.discriminator.forward = undecided  # type: ignore[method-assign]
    for _ in range(25):
        metrics = trainer.step()
    assert float(metrics["health/discriminator_collapsed"]) == 1  # type: ignore[arg-type]
    assert any("discriminator has collapsed" in sentence for sentence in trainer.diagnosis())


def test_nothing_is_said_of_fresh_networks() -> None:
    health = GANHealth.begin(CPU)
    for _ in range(gan_health.PATIENCE - 1):
        health.add(torch.zeros(()), torch.zeros(()))
    assert health.diagnosis() == []
    health.add(torch.zeros(()), torch.zeros(()))
    assert len(health.diagnosis()) == 2


def test_a_collapse_stands_in_the_summary_of_the_run(
    data: ImageData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(KINDS["r3gan"], data)
    for _ in range(gan_health.PATIENCE):
        trainer.health.add(torch.tensor(0.8), torch.tensor(1e-5))
    run = Run.create(tmp_path, "lost", manifest())
    conclude(trainer, run)
    finish(run, Outcome(320, 1.0, "steps", None, tmp_path, {}, None))
    assert "The discriminator has collapsed: it says nearly the same" in capsys.readouterr().out
    (sentence,) = Run.open("lost", tmp_path).manifest["diagnosis"]
    assert "Train anew with a lower learning rate" in sentence


# --- resume ---------------------------------------------------------------------------------------


@every_kind
def test_a_run_killed_and_resumed_is_bit_for_bit_the_one_that_was_not(
    config: GANConfig, data: ImageData, tmp_path: Path
) -> None:
    straight = go(
        Run.create(tmp_path, "straight", manifest()), lambda: trainer_of(config, data), STEPS
    )
    broken = Run.create(tmp_path, "broken", manifest())
    with pytest.raises(Crash):
        go(broken, lambda: trainer_of(config, data), STEPS, dies_at=300)
    resumed = go(broken, lambda: trainer_of(config, data), STEPS)
    assert straight.progress == resumed.progress
    for name in ("network", "discriminator"):
        assert torch.equal(weights(getattr(straight, name)), weights(getattr(resumed, name)))
    assert torch.equal(weights(straight.averages.network), weights(resumed.averages.network))
    for name in ("epochs", "augment", "health"):
        assert getattr(straight, name).state_dict() == getattr(resumed, name).state_dict()
    for name in ("generator_step", "discriminator_step"):
        assert_same_moments(getattr(straight, name).optimizer, getattr(resumed, name).optimizer)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "wasserstein", "penalty": "none"}, "no bound without a penalty"),
        ({"net": DCGAN, "penalty": "r1"}, "with batch norms an image's output depends on"),
        ({"net": DCGAN, "penalty": "gradient"}, "with batch norms an image's output depends on"),
        ({"penalty_every": 0}, "penalty_every has to be 1 or more"),
        ({"discriminator_steps": 0}, "discriminator_steps has to be 1 or more"),
        ({"discriminator_rate": 0.0}, "discriminator_rate has to be more than 0"),
        ({"penalty_weight": -1.0}, "penalty_weight has to be 0 or more"),
        ({"penalty_every": 4, "optimizer": OptimizerConfig("sgd")}, "adam and adamw"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        GANConfig(**settings)
