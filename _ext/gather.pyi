import numpy as np
from numpy.typing import NDArray

def expect(bytes_to_copy: int, threads: int) -> None: ...
def gather_rows(
    table: NDArray[np.uint8], rows: NDArray[np.int64], out: NDArray[np.uint8], threads: int = 1
) -> None: ...
