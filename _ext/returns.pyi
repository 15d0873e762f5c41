from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

def gae(
    reward: Floats,
    discount: Floats,
    value: Floats,
    ends: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    lambda_: float,
    carry: NDArray[np.float64],
    advantage: Floats,
) -> None: ...
def lambda_returns(
    reward: Floats,
    discount: Floats,
    value: Floats,
    ends: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    lambda_: float,
    carry: NDArray[np.float64],
    returns: Floats,
) -> None: ...
def vtrace(
    log_rhos: Floats,
    reward: Floats,
    discount: Floats,
    value: Floats,
    ends: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    rho_bar: float,
    c_bar: float,
    lambda_: float,
    carry: NDArray[np.float64],
    targets: Floats,
    advantage: Floats,
) -> None: ...
