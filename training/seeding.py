"""One seed per run, and from it a seed of its own for everything that draws."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, *path: int | str) -> int:
    """The 63-bit seed of whatever `path` names in a run seeded with `seed` (>= 0).

    `derive_seed(seed, "train", "env", segment)` and `derive_seed(seed, "evaluation", progress)`
    are different paths, so training and evaluation draw from unrelated streams: two paths share a
    seed with the chance that two random 63-bit numbers are equal. A path's elements are typed (`1`
    and `"1"` differ) and its grouping counts (`"ab", "c"` and `"a", "bc"` differ).

    The result is the same in every process and on every machine. Python's own `hash` is salted and
    has no part in it, nor has numpy's `SeedSequence`, to which keys that differ only in zeros at
    their end are the same key. Raises `ValueError` for a negative seed or index.
    """
    if seed < 0:
        raise ValueError(f"a seed must be 0 or more, not {seed}")
    for element in path:
        if not isinstance(element, str) and element < 0:
            raise ValueError(f"a seed's path holds strings and indices >= 0, not {element}")
    spelt = json.dumps([int(seed), *(e if isinstance(e, str) else int(e) for e in path)])
    digest = hashlib.sha256(spelt.encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
