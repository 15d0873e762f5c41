import numpy as np
from numpy.typing import NDArray

class ValidRows:
    def __init__(
        self,
        action: NDArray[np.int32],
        flags: NDArray[np.uint8],
        step: NDArray[np.int32],
        settled: NDArray[np.int64],
        seen: NDArray[np.int64],
        marked: NDArray[np.uint8],
        stack: int,
        n: int,
        life_loss_terminal: bool,
    ) -> None: ...
    def catch_up(
        self,
        head: NDArray[np.int64],
        rows: NDArray[np.int64],
        valid: NDArray[np.float32],
    ) -> int: ...
    def rows_of(
        self,
        head: NDArray[np.int64],
        ids: NDArray[np.int64],
        rows: NDArray[np.int64],
        places: NDArray[np.int64],
    ) -> int: ...
    def ids_of(
        self, head: NDArray[np.int64], rows: NDArray[np.int64], ids: NDArray[np.int64]
    ) -> None: ...
