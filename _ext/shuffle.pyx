# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The order in which an epoch goes through its items: a permutation that is a function of numbers."""

from libc.stdint cimport int64_t, uint64_t

from rings cimport mix, scaled


def permutation(uint64_t seed, uint64_t epoch, int64_t[::1] out):
    """Fill `out` `[N]` with 0 .. N-1 in the order of this epoch, each order equally likely.

    Fisher and Yates' shuffle from the end (Knuth, volume 2, algorithm P). The epoch has a splitmix64
    stream of its own, seeded by number `epoch` of the seed's stream, and each exchange takes one
    number of it. Raises ValueError for 2^32 items or more: `scaled` counts no further.
    """
    cdef Py_ssize_t count = out.shape[0]
    cdef Py_ssize_t i, j
    cdef int64_t moved
    cdef uint64_t stream = mix(seed, epoch)
    if count >= <Py_ssize_t>1 << 32:
        raise ValueError(f"{count} items are too many to shuffle: 2^32 - 1 is the most")
    with nogil:
        for i in range(count):
            out[i] = i
        for i in range(count - 1, 0, -1):
            j = <Py_ssize_t>scaled(mix(stream, <uint64_t>(count - 1 - i)), <uint64_t>(i + 1))
            moved = out[i]
            out[i] = out[j]
            out[j] = moved
