"""Image metrics agree with torch-fidelity and torchmetrics on the same features (extra `bench`)."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import pytest
import torch
from benchmark_scripts import script
from numpy.typing import NDArray
from torch import nn

from playfield.evaluation.frechet import frechet_distance, gaussian_statistics
from playfield.evaluation.kernel_distance import kernel_distance, subset_kernel_distance
from playfield.evaluation.manifold import manifold

#: Painted images, real images and the width of their features; with as many numbers as images or
#: more, as in the last case, covariances are singular.
SHAPES = [(400, 400, 16), (500, 300, 96), (120, 120, 160)]
#: Relative. Theirs has the roots of eigenvalues that are 0 but for rounding, which ours leaves out.
FRECHET_TOLERANCE = 1e-7
#: Relative. The same sums in another order.
KERNEL_TOLERANCE = 1e-12

Array = NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> None:
    """Both peers import torchvision and neither uses it here."""
    for name in ("torch_fidelity", "torchmetrics"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed (extra `bench`)")
    script("painting_peers").load_torchvision()


def features(seed: int, rows: int, width: int, shift: float = 0.0) -> Array:
    """As those of a network are: correlated, none below 0, many of them 0."""
    mixing = np.random.default_rng(width).normal(size=(width, width)) / np.sqrt(width)
    seen = np.random.default_rng(seed).normal(shift, size=(rows, width)) @ mixing
    return np.maximum(seen, 0)


def pair(shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """Painted and real."""
    painted, real, width = shape
    return features(0, painted, width, 0.3), features(1, real, width)


class Seen(nn.Module):
    """Stands where torchmetrics wants a network, and hands on features that are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


def ours_frechet(painted: Array, real: Array) -> float:
    return frechet_distance(*gaussian_statistics(painted), *gaussian_statistics(real))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_frechet_distance_is_that_of_torch_fidelity(shape: tuple[int, int, int]) -> None:
    peer = importlib.import_module("torch_fidelity.metric_fid")
    painted, real = pair(shape)
    statistics = [peer.fid_features_to_statistics(torch.from_numpy(x)) for x in (painted, real)]
    theirs = peer.fid_statistics_to_metric(*statistics, verbose=False)[peer.KEY_METRIC_FID]
    assert ours_frechet(painted, real) == pytest.approx(theirs, rel=FRECHET_TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_frechet_distance_is_that_of_torchmetrics(shape: tuple[int, int, int]) -> None:
    peer = importlib.import_module("torchmetrics.image.fid")
    painted, real = pair(shape)
    metric = peer.FrechetInceptionDistance(feature=Seen(shape[2]))
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(painted), real=False)
    theirs = float(metric.compute())
    assert ours_frechet(painted, real) == pytest.approx(theirs, rel=FRECHET_TOLERANCE)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] == shape[1]])
def test_the_kernel_distance_is_that_of_torch_fidelity(shape: tuple[int, int, int]) -> None:
    peer = importlib.import_module("torch_fidelity.metric_kid")
    painted, real = pair(shape)
    found = peer.kid_features_to_metric(
        *(torch.from_numpy(x) for x in (painted, real)),
        kid_subsets=1,  # that holds all
        kid_subset_size=shape[0],
        verbose=False,
    )
    theirs = found[peer.KEY_METRIC_KID_MEAN]
    assert kernel_distance(real, painted).value == pytest.approx(theirs, rel=KERNEL_TOLERANCE)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] == shape[1]])
def test_the_kernel_distance_is_that_of_torchmetrics(shape: tuple[int, int, int]) -> None:
    peer = importlib.import_module("torchmetrics.image.kid")
    painted, real = pair(shape)
    metric = peer.KernelInceptionDistance(
        feature=Seen(shape[2]), subsets=1, subset_size=shape[0]
    ).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(painted), real=False)
    theirs = float(metric.compute()[0])
    assert kernel_distance(real, painted).value == pytest.approx(theirs, rel=KERNEL_TOLERANCE)


def test_the_mean_over_subsets_is_that_of_torch_fidelity_but_for_the_draw() -> None:
    peer = importlib.import_module("torch_fidelity.metric_kid")
    painted, real = pair(SHAPES[1])
    found = peer.kid_features_to_metric(
        *(torch.from_numpy(x) for x in (painted, real)),
        kid_subsets=100,
        kid_subset_size=100,
        verbose=False,
    )
    theirs, error = found[peer.KEY_METRIC_KID_MEAN], found[peer.KEY_METRIC_KID_STD] / 10
    ours = subset_kernel_distance(real, painted, seed=0, size=100)
    assert ours.standard_error == pytest.approx(error, rel=0.3)
    assert ours.value == pytest.approx(theirs, abs=4 * np.hypot(error, ours.standard_error))


@pytest.mark.parametrize("shape", SHAPES)
def test_precision_and_recall_are_those_of_torch_fidelity(shape: tuple[int, int, int]) -> None:
    peer = importlib.import_module("torch_fidelity.metric_prc")
    painted, real = pair(shape)
    found = peer.prc_features_to_metric(
        *(torch.from_numpy(x) for x in (painted, real)), prc_neighborhood=3, verbose=False
    )
    ours = manifold(real, painted)
    # They count in float32.
    assert ours.precision == pytest.approx(found[peer.KEY_METRIC_PRECISION], abs=1e-6)
    assert ours.recall == pytest.approx(found[peer.KEY_METRIC_RECALL], abs=1e-6)
    assert 0 < ours.precision < 1 and 0 < ours.recall < 1
