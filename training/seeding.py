"""One seed per run, and from it a seed of its own for everything that draws."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *path: int | str) -> int:
    """The 63-bit seed of whatever `path` names in a run seeded with `seed` (>= 0).

    `derive_seed(seed, "train", "env", segment)` and `derive_seed(seed, "evaluation", progress)`
    are different paths, so training and evaluation draw from unrelated streams: two paths share a
    seed with the chance that two random 63-bit numbers are equal. A path's elements are typed (`1`
    and `"1"` differ) and its grouping counts (`"ab", "c"` and `"a", "bc"` differ). The result is
    the same in every process and on every machine: Python's own `hash` is salted and has no part
    in it.

    Raises `ValueError` for a negative seed or index. Source: numpy's `SeedSequence` (O'Neill's
    seed_seq_fe), which mixes the words so that neighbouring seeds give unrelated streams.
    """
    if seed < 0:
        raise ValueError(f"a seed must be 0 or more, not {seed}")
    key: list[int] = []
    for element in path:
        if isinstance(element, str):
            digest = hashlib.sha256(element.encode()).digest()
            key += [1, int.from_bytes(digest[:8], "little")]
        elif element < 0:
            raise ValueError(f"a seed's path holds strings and indices >= 0, not {element}")
        else:
            key += [0, element]
    # SeedSequence splits large words into 32-bit ones without marking where they end; every word is
    # therefore spelt with its length in front, so that no two paths can spell the same key.
    words = [part for word in [seed, *key] for part in _counted_words(word)]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return int(state) & (2**63 - 1)


def _counted_words(value: int) -> list[int]:
    """The number of 32-bit words in `value`, then the words, least significant first."""
    words = []
    while value:
        words.append(value & 0xFFFFFFFF)
        value >>= 32
    return [len(words), *words]
