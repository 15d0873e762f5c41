"""The training images that samples are closest to: has a model learned, or has it memorised?"""

from __future__ import annotations

import math

import numpy as np
import torch

from playfield.generative.pixels import Images, as_signal

#: Rows of samples and of training images whose distances are worked out at once.
SAMPLE_BLOCK, IMAGE_BLOCK = 1024, 2048
#: Pairs that are compared pixel by pixel at once, in float64.
PAIR_BLOCK = 1024
#: Numbers that these may have: of large images there are fewer at once.
BLOCK_NUMBERS = 1 << 24


def nearest(samples: Images, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample's nearest image: distance `[M]` float64 and index `[M]` int64, on their device.

    Distances are Euclidean, over all pixels and channels of signals in [-1, 1]. Of images at the
    same distance it is the first. The result is exact: products only tell which pairs
    can be nearest, and those are compared pixel by pixel. Raises ValueError for images of different
    shapes, and where there are none to be near.
    """
    samples, images = torch.as_tensor(samples), torch.as_tensor(images)
    if samples.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"samples are {list(samples.shape[1:])} and images {list(images.shape[1:])} in shape"
        )
    if not len(images):
        raise ValueError("images is empty: there is nothing to be near")
    if samples.dtype != images.dtype:
        samples, images = as_signal(samples), as_signal(images)
    images = images.to(samples.device)
    rows = _at_once(SAMPLE_BLOCK, samples)
    found = [_nearest(block, images) for block in torch.split(samples, rows)]
    square, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    # Bytes were compared as bytes, so that equal distances are equal: 127.5 of them are 1.
    return square.sqrt() / (127.5 if samples.dtype == torch.uint8 else 1.0), index


def memorisation_ratio(samples: Images, train: Images, held_out: Images) -> float:
    """Median distance of samples to their nearest training images, over that of held-out images.

    About 1 for samples that are as new as real images which the model has never seen, and near 0
    for copies. Where half of the held-out images are in the training set as well it tells nothing:
    then it is 1 if the samples are copies too, and infinite if not.
    """
    own, real = (float(np.median(nearest(x, train)[0].cpu())) for x in (samples, held_out))
    if real == 0:
        return math.inf if own else 1.0
    return own / real


def _nearest(samples: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance `[M]` float64 and index `[M]`, in the units of the pixels."""
    rows = _centred(samples)
    sizes = rows.square().sum(1)
    square = torch.full((len(rows),), math.inf, dtype=torch.float64, device=rows.device)
    index = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    block, pair_block = _at_once(IMAGE_BLOCK, images), _at_once(PAIR_BLOCK, images)
    for begin in range(0, len(images), block):
        columns = _centred(images[begin : begin + block])
        row, column = _candidates(rows, sizes, columns, square)
        exact = torch.empty(len(row), dtype=torch.float64, device=rows.device)
        for at in range(0, len(row), pair_block):
            these = slice(at, at + pair_block)
            exact[these] = (rows[row[these]] - columns[column[these]]).square_().sum(1)
        best = torch.full_like(square, math.inf).scatter_reduce(0, row, exact, "amin")
        ties = exact == best[row]
        first = torch.full_like(index, len(images)).scatter_reduce(
            0, row[ties], column[ties] + begin, "amin"
        )
        closer = best < square  # an equal one in a later block is not the first
        square, index = torch.where(closer, best, square), torch.where(closer, first, index)
    return square, index


def _candidates(
    rows: torch.Tensor, sizes: torch.Tensor, columns: torch.Tensor, square: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs (row, column) that may be nearest, whatever was rounded.

    `sizes` are the rows' squares, and `square` what is nearest to each in earlier blocks.
    """
    scale = sizes[:, None] + columns.square().sum(1)  # [m, n], |a|² + |b|²
    rough = torch.addmm(scale, rows, columns.T, alpha=-2)
    error = _rounding(rows.shape[1]) * scale
    # No image farther than the surely nearest one, of this block or an earlier one, counts.
    bound = torch.minimum((rough + error).amin(1), square * (1 + 1e-6))
    row, column = (rough - error <= bound[:, None]).nonzero(as_tuple=True)
    return row, column


def _at_once(most: int, images: torch.Tensor) -> int:
    return max(1, min(most, BLOCK_NUMBERS // images.shape[1:].numel()))


def _rounding(length: int) -> float:
    """A bound on the relative error of a squared distance: that of float64 sums of `length` terms.

    Relative to |a|² + |b|², which is no less than 2|ab|; three sums, each with an error of at most
    `length` roundings (Higham 2002, section 3.1), and some room for the last few operations.
    """
    return (2 * length + 8) * 2.0**-53


def _centred(images: torch.Tensor) -> torch.Tensor:
    """`[N, D]` float64: frames of a game are so alike that in float32 most of them are candidates.

    Numbers around 0 have smaller squares, and so smaller rounding errors.
    """
    rows = images.flatten(1).double()
    return rows - 128 if images.dtype == torch.uint8 else rows
