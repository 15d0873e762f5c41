import numpy as np
from numpy.typing import NDArray

TERMINATED: int
TRUNCATED: int
LIFE_LOST: int
FINAL: int

class Columns:
    def __init__(
        self,
        action: NDArray[np.int32],
        reward: NDArray[np.float32],
        flags: NDArray[np.uint8],
        step: NDArray[np.int32],
    ) -> None: ...

def stack_rows(
    streams: NDArray[np.int64],
    times: NDArray[np.int64],
    step: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> None: ...
def draw(
    columns: Columns,
    head: NDArray[np.int64],
    stack: int,
    n: int,
    life_loss_terminal: bool,
    seed: int,
    counter: int,
    most: int,
    ids: NDArray[np.int64],
) -> tuple[int, int]: ...
def valid(
    columns: Columns,
    head: NDArray[np.int64],
    stack: int,
    n: int,
    life_loss_terminal: bool,
    ids: NDArray[np.int64],
) -> int: ...
def transitions(
    columns: Columns,
    head: NDArray[np.int64],
    ids: NDArray[np.int64],
    stack: int,
    n: int,
    gamma: float,
    clip: float,
    life_loss_terminal: bool,
    rows: NDArray[np.int64],
    actions_out: NDArray[np.int64],
    rewards_out: NDArray[np.float32],
    discounts_out: NDArray[np.float32],
) -> int: ...
def overwritten(
    columns: Columns,
    claimed: NDArray[np.int64],
    ids: NDArray[np.int64],
    stack: int,
) -> list[int]: ...
