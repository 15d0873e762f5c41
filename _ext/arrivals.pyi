import numpy as np
from numpy.typing import NDArray

def arrive(
    streams: NDArray[np.int64],
    head: NDArray[np.int64],
    claimed: NDArray[np.int64],
    action: NDArray[np.int32],
    reward: NDArray[np.float32],
    flags: NDArray[np.uint8],
    step: NDArray[np.int32],
    new_reward: NDArray[np.float32],
    terminated: NDArray[np.uint8],
    truncated: NDArray[np.uint8],
    life_lost: NDArray[np.uint8],
    first: NDArray[np.uint8],
    rows: NDArray[np.int64],
) -> int: ...
def act(
    streams: NDArray[np.int64],
    head: NDArray[np.int64],
    flags: NDArray[np.uint8],
    actions: NDArray[np.int64],
    action: NDArray[np.int32],
    num_actions: int,
) -> int: ...
def place(table: NDArray[np.uint8], rows: NDArray[np.int64], frames: NDArray[np.uint8]) -> None: ...
