"""Seeds: distinct along every path, and the same in every process."""

import subprocess
import sys

import pytest

from playfield.training.seeding import derive_seed


def test_paths_of_training_and_evaluation_share_no_seed() -> None:
    paths = [
        (part, kind, i) for part in ("train", "evaluation") for kind in "ab" for i in range(500)
    ]
    seeds = {derive_seed(seed, *path) for seed in range(5) for path in paths}
    assert len(seeds) == 5 * len(paths)


def test_paths_that_look_alike_differ() -> None:
    paths = [(), (0,), ("0",), (0, 0), ("", ""), ("ab", "c"), ("a", "bc"), (2**32,), (1,), (0, 1)]
    assert len({derive_seed(7, *path) for path in paths}) == len(paths)


def test_large_seeds_and_indices_keep_all_their_bits() -> None:
    assert derive_seed(1 << 40, "env") != derive_seed(1 << 41, "env")
    assert derive_seed(1, 2) != derive_seed(1 + (2 << 32))


def test_a_seed_fits_a_signed_64_bit_number() -> None:
    assert all(0 <= derive_seed(seed, "x") < 2**63 for seed in range(200))


def test_another_process_derives_the_same_seed() -> None:
    code = "from playfield.training.seeding import derive_seed; print(derive_seed(3, 'env', 4))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) == derive_seed(3, "env", 4)


def test_negative_seeds_and_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        derive_seed(-1)
    with pytest.raises(ValueError, match=">= 0"):
        derive_seed(0, -2)
