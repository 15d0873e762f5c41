"""The chance of augmentation: how fast it moves, which way, how far, and its exact resume."""

from __future__ import annotations

import pytest
import torch

from playfield.generative.adaptive import AdaptiveProbability
from playfield.generative.gan_augmentation import GANAugmentation


def controller(**settings: float) -> AdaptiveProbability:
    return AdaptiveProbability(GANAugmentation(augment="ada", **settings))


def show(controlled: AdaptiveProbability, images: int, batch: int, r: float) -> None:
    for _ in range(images // batch):
        controlled.update(r * batch, batch)


@pytest.mark.parametrize("batch", [4, 20, 50, 250])
def test_the_chance_rises_by_images_whatever_the_batch(batch):
    controlled = controller()
    show(controlled, 100_000, batch, r=0.7)
    assert controlled.p == pytest.approx(100_000 / 500_000)
    show(controlled, 60_000, batch, r=0.5)
    assert controlled.p == pytest.approx(40_000 / 500_000)


def test_it_takes_the_stated_images_from_0_to_1():
    controlled = controller(ada_speed=8000, ada_limit=1.0)
    show(controlled, 7840, 40, r=1.0)
    assert controlled.p < 1
    show(controlled, 160, 40, r=1.0)
    assert controlled.p == pytest.approx(1)


def test_it_stays_between_0_and_the_limit():
    controlled = controller(ada_speed=1000)
    show(controlled, 5000, 50, r=-1.0)
    assert controlled.p == 0
    show(controlled, 5000, 50, r=1.0)
    assert controlled.p == 0.8


def test_it_looks_every_four_updates_at_the_mean_over_all_of_them():
    controlled = controller(ada_speed=1000)
    # 24 signs in 40 images: 0.6, the target to the digit; the mean of the means would be 0.75.
    for sign_sum, count in ((10, 10), (10, 10), (10, 10), (-6, 10)):
        assert controlled.p == 0 and controlled.heuristic is None
        controlled.update(sign_sum, count)
    assert controlled.heuristic == 0.6 and controlled.p == 0
    for sign_sum, count in ((1, 1), (1, 1), (1, 1), (7, 17)):
        controlled.update(sign_sum, count)
    assert controlled.heuristic == 0.5 and controlled.p == 0
    for sign_sum, count in ((1, 1), (1, 1), (1, 1), (13, 17)):
        controlled.update(sign_sum, count)
    assert controlled.heuristic == 0.8 and controlled.p == pytest.approx(20 / 1000)


def test_a_discriminator_that_cannot_tell_leaves_the_chance_at_0():
    controlled = controller(ada_speed=100)
    show(controlled, 400, 10, r=0.0)
    assert controlled.p == 0 and controlled.heuristic == 0


def test_a_target_of_minus_1_is_a_ramp_to_the_limit():
    controlled = controller(ada_target=-1, ada_limit=0.3, ada_speed=1000)
    show(controlled, 200, 10, r=-0.2)
    assert controlled.p == pytest.approx(0.2)
    show(controlled, 400, 10, r=0.4)
    assert controlled.p == 0.3


def test_signs_may_be_tensors():
    controlled, same = controller(ada_speed=1000), controller(ada_speed=1000)
    logits = torch.tensor([2.0, 0.1, 3.0, -1.0, 9.0, 9.0, 9.0, 9.0], requires_grad=True)
    for _ in range(6):
        controlled.update(logits.sign().sum(), 8)
        same.update(6.0, 8)
    assert controlled.p == same.p == pytest.approx(32 / 1000)
    assert controlled.state_dict() == same.state_dict()


def test_numbers_that_are_not_finite_move_nothing_and_are_forgotten():
    controlled = controller(ada_speed=1000)
    show(controlled, 40, 10, r=0.9)
    for sign_sum in (10.0, float("nan"), 10.0, 10.0):
        controlled.update(sign_sum, 10)
    assert controlled.p == pytest.approx(40 / 1000) and controlled.heuristic == pytest.approx(0.9)
    show(controlled, 40, 10, r=0.9)
    assert controlled.p == pytest.approx(80 / 1000)


@pytest.mark.parametrize("at", range(9))
def test_resumed_anywhere_it_goes_on_exactly(at):
    draws = torch.randint(-4, 17, (12,), generator=torch.Generator().manual_seed(2)).tolist()
    straight, first, second = (controller(ada_speed=700, ada_target=0.2) for _ in range(3))
    for number in draws:
        straight.update(number, 16)
    for number in draws[:at]:
        first.update(number, 16)
    second.load_state_dict(first.state_dict())
    for number in draws[at:]:
        second.update(number, 16)
    assert second.state_dict() == straight.state_dict()
    assert straight.p > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("p", -0.1),
        ("p", 0.9),  # over the limit
        ("p", "much"),
        ("p", float("nan")),
        ("heuristic", 1.5),
        ("heuristic", "high"),
        ("updates", 4),
        ("updates", -1),
        ("updates", 1.0),
        ("count", 0),
        ("count", -3),
        ("sign_sum", 21.0),
        ("sign_sum", None),
    ],
)
def test_a_state_that_cannot_be_is_refused_by_field(field, value):
    controlled = controller()
    controlled.update(5, 10)
    controlled.update(7, 10)
    state = controlled.state_dict()
    fresh = controller()
    with pytest.raises(ValueError, match=f"^{field}: "):
        fresh.load_state_dict({**state, field: value})
    assert fresh.state_dict() == controller().state_dict()
    fresh.load_state_dict(state)
    assert fresh.state_dict() == state


def test_a_state_of_other_fields_is_refused_by_field():
    state = controller().state_dict()
    with pytest.raises(ValueError, match="speed: unknown"):
        controller().load_state_dict({**state, "speed": 1})
    del state["count"]
    with pytest.raises(ValueError, match="count: missing"):
        controller().load_state_dict(state)


def test_sums_that_the_images_cannot_have_are_refused():
    controlled = controller(ada_interval=1)
    with pytest.raises(ValueError, match="count=0"):
        controlled.update(0.0, 0)
    with pytest.raises(ValueError, match=r"sign_sum: the mean of 4 signs cannot be 1\.25"):
        controlled.update(5.0, 4)
