import numpy as np
from numpy.typing import NDArray

def permutation(seed: int, epoch: int, out: NDArray[np.int64]) -> None: ...
