"""Halves of the digits have no image in common, and as many of each class where that is asked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_scripts import quick, script


@pytest.fixture(scope="module")
def real_halves() -> ModuleType:
    return script("real_halves")


@pytest.mark.parametrize("classes_alike", [False, True])
def test_halves_share_no_image_and_differ_by_draw(
    real_halves: ModuleType, classes_alike: bool
) -> None:
    labels = np.random.default_rng(1).integers(0, 3, 200)
    pairs = list(real_halves.halves(labels, 90, classes_alike, 3))
    assert len(pairs) == 3
    for one, other in pairs:
        assert len(set(one)) == len(set(other)) == 90
        assert not set(one) & set(other)
        if classes_alike:
            assert np.bincount(labels[one]).tolist() == [30, 30, 30]
            assert np.bincount(labels[other]).tolist() == [30, 30, 30]
    assert len({tuple(sorted(one)) for one, _ in pairs}) == 3


@pytest.mark.slow
def test_the_benchmark_of_real_halves_runs(tmp_path: Path) -> None:
    record = quick("real_halves", tmp_path)
    assert set(record["found"]) == {"random", "classifier"}
    for rows in record["found"].values():
        for row in rows.values():
            assert row["frechet_distance"]["mean"] > 0 and len(row["coverage"]["samples"]) == 2
