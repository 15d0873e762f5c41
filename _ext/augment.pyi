import numpy as np
from numpy.typing import NDArray

def gather_views(
    table: NDArray[np.uint8],
    frame_shape: tuple[int, int, int],
    rows: NDArray[np.int64],
    dy: NDArray[np.int64],
    dx: NDArray[np.int64],
    flip: NDArray[np.int64],
    size: tuple[int, int],
    out: NDArray[np.uint8],
) -> None: ...
