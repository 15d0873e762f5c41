# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Drawing places in proportion to their priorities: a binary tree of sums over blocks of leaves.

Leaves are float32, a block is `BLOCK` of them (padding is zero), and `tree` `[2 * width]` float64 is
a heap over the blocks: the parts of node k are nodes 2k and 2k + 1, the blocks are nodes
`width + block`, the root is node 1, and `width` is a power of two. A block's own sum adds adjacent
pairs, then pairs of those, and so on: together they are one tree over all leaves, of which the lowest
levels are computed when they are needed. Every sum is one float64 addition of two parts in this
order, so it depends on the leaves alone, never on their history, and torch gets the same bits.

A block fills one line of the processor's cache. With 1,024 leaves to a block there is less to store,
but 256 draws or changes then add up 256 times 1,024 leaves, and take five to ten times as long.
"""

from libc.stdint cimport int64_t, uint64_t

from rings cimport mix

cdef enum:
    LEAVES = 16

BLOCK = LEAVES


cdef inline double block_sum(const float *leaves) noexcept nogil:
    cdef double sums[LEAVES]
    cdef int64_t i
    cdef int64_t left = LEAVES
    for i in range(LEAVES):
        sums[i] = leaves[i]
    while left > 1:
        left //= 2
        for i in range(left):
            sums[i] = sums[2 * i] + sums[2 * i + 1]
    return sums[0]


def write(
    const int64_t[::1] rows,
    const float[::1] values,
    float[::1] leaves,
    double[::1] tree,
    int64_t[::1] nodes,
):
    """Set `leaves[rows[i]] = values[i]` for every i in turn, and bring the sums above up to date.

    `rows` and `values` `[K]`; `nodes` `[K]` is working memory. Raises IndexError for a row that is
    not there (nothing is written then).
    """
    cdef int64_t width = tree.shape[0] // 2
    cdef int64_t i, node, kept
    cdef int64_t used = 0
    for i in range(rows.shape[0]):
        if not 0 <= rows[i] < leaves.shape[0]:
            raise IndexError(f"row {rows[i]} of {leaves.shape[0]} leaves")
    with nogil:
        # Neighbours in `rows` often share a block, and neighbouring nodes a parent: one that is the
        # same as the one before is up to date already.
        for i in range(rows.shape[0]):
            leaves[rows[i]] = values[i]
            node = width + rows[i] // LEAVES
            if used == 0 or nodes[used - 1] != node:
                nodes[used] = node
                used += 1
        for i in range(used):
            tree[nodes[i]] = block_sum(&leaves[(nodes[i] - width) * LEAVES])
        while width > 1:
            width //= 2
            kept = 0
            for i in range(used):
                node = nodes[i] // 2
                if kept == 0 or nodes[kept - 1] != node:
                    tree[node] = tree[2 * node] + tree[2 * node + 1]
                    nodes[kept] = node
                    kept += 1
            used = kept


def rebuild(const float[::1] leaves, double[::1] tree):
    """Compute all sums from the leaves."""
    cdef int64_t width = tree.shape[0] // 2
    cdef int64_t i
    with nogil:
        for i in range(leaves.shape[0] // LEAVES):
            tree[width + i] = block_sum(&leaves[i * LEAVES])
        for i in range(width - 1, 0, -1):
            tree[i] = tree[2 * i] + tree[2 * i + 1]


cdef inline int64_t step_down(const double *sums, int64_t node, double *u) noexcept nogil:
    """The part of `node` that holds the point `u` of its sum; moves `u` to where it is in that.

    A node whose sum is positive always leads to one whose sum is. To the right that is asked for.
    To the left either the right sum is zero, so the left one is all there is, or u < left, and u is
    never negative. So no leaf that is zero is ever reached, whatever rounding did to u.
    """
    cdef double left = sums[2 * node]
    cdef bint right = (u[0] >= left) & (sums[2 * node + 1] > 0)
    u[0] -= right * left  # no branch: half of all guesses about it would be wrong
    return 2 * node + right


def stratified_points(uint64_t seed, uint64_t counter, double total, double[::1] points):
    """Points `[K]`, the i-th uniform in the i-th of K equal parts of `0..total`.

    Number `counter + i` of the generator says where.
    """
    cdef int64_t i
    cdef double share = 1.0 / <double>max(1, points.shape[0])
    with nogil:
        for i in range(points.shape[0]):
            points[i] = <double>(mix(seed, counter + i) >> 11) * (1.0 / (<uint64_t>1 << 53))
            points[i] = (i + points[i]) * share * total


def find(
    double[::1] points,
    const float[::1] leaves,
    const double[::1] tree,
    int64_t[::1] rows,
    float[::1] values,
):
    """Find the rows `[K]` whose leaves cover the points `[K]` of `0..total`, and note those leaves.

    A point where one leaf ends and the next begins belongs to the next. Where the total is zero, all
    rows are -1. `points` is used up.
    """
    cdef int64_t count = points.shape[0]
    cdef int64_t width = tree.shape[0] // 2
    cdef int64_t i, k, node, block
    cdef int64_t level = 1
    cdef double sums[2 * LEAVES]
    with nogil:
        for i in range(count):
            rows[i] = 1 if tree[1] > 0 else -1
        if tree[1] > 0:
            # Level by level, not point by point: the processor does not have to wait for one
            # point's step before it begins with the next one's.
            while level < width:
                level *= 2
                for i in range(count):
                    rows[i] = step_down(&tree[0], rows[i], &points[i])
            for i in range(count):
                block = rows[i] - width
                for k in range(LEAVES):
                    sums[LEAVES + k] = leaves[block * LEAVES + k]
                for k in range(LEAVES - 1, 0, -1):
                    sums[k] = sums[2 * k] + sums[2 * k + 1]
                node = 1
                while node < LEAVES:
                    node = step_down(sums, node, &points[i])
                rows[i] = block * LEAVES + node - LEAVES
                values[i] = leaves[rows[i]]
