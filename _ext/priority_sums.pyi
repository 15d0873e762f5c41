import numpy as np
from numpy.typing import NDArray

BLOCK: int

def write(
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    leaves: NDArray[np.float32],
    tree: NDArray[np.float64],
    nodes: NDArray[np.int64],
) -> None: ...
def rebuild(leaves: NDArray[np.float32], tree: NDArray[np.float64]) -> None: ...
def stratified_points(
    seed: int, counter: int, total: float, points: NDArray[np.float64]
) -> None: ...
def find(
    points: NDArray[np.float64],
    leaves: NDArray[np.float32],
    tree: NDArray[np.float64],
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
) -> None: ...
