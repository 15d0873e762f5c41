# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Gathering shifted, cropped and mirrored views of frames: one pass from the table to the batch.

An augmented batch moves the same bytes as a plain one. What is added is a few bytes at the borders,
so the pixels are moved plane by plane where they lie in the same order, and otherwise row by row.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define PLAYFIELD_REVERSED(word) __builtin_bswap64(word)
    #elif defined(_MSC_VER)
    #include <stdlib.h>
    #define PLAYFIELD_REVERSED(word) _byteswap_uint64(word)
    #endif
    """
    uint64_t PLAYFIELD_REVERSED(uint64_t word) noexcept nogil

cdef enum:
    WORD = 8  # bytes that are reversed at a time


cdef inline int64_t clamped(int64_t value, int64_t low, int64_t high) noexcept nogil:
    return low if value < low else (high if value > high else value)


cdef inline void copy_word_reversed(uint8_t *out, const uint8_t *source) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, source, WORD)
    word = PLAYFIELD_REVERSED(word)
    memcpy(out, &word, WORD)


cdef inline void copy_reversed(uint8_t *out, const uint8_t *source, int64_t count) noexcept nogil:
    cdef int64_t i = 0
    if count < WORD:
        for i in range(count):
            out[i] = source[count - 1 - i]
        return
    while i + WORD <= count:
        copy_word_reversed(out + i, source + count - WORD - i)
        i += WORD
    if i < count:  # the last word overlaps the one before it
        copy_word_reversed(out + count - WORD, source)


cdef void copy_view(
    const uint8_t *plane,
    int64_t plane_height,
    int64_t plane_width,
    int64_t dy,
    int64_t dx,
    bint flip,
    uint8_t *out,
    int64_t height,
    int64_t width,
) noexcept nogil:
    """One channel: `out[y, x] = plane[y + dy, x + dx]`, with the border continued outside of it."""
    # How much of the view lies outside, on each side; `inside` is the width of what does not.
    cdef int64_t top = clamped(-dy, 0, height)
    cdef int64_t bottom = height - clamped(plane_height - dy, 0, height)
    cdef int64_t left = clamped(-dx, 0, width)
    cdef int64_t right = width - clamped(plane_width - dx, 0, width)
    cdef int64_t inside = width - left - right
    cdef bint at_once = (
        width == plane_width and not flip and inside > 0 and top + bottom < height
    )
    cdef const uint8_t *source
    cdef uint8_t *row
    cdef int64_t y
    if at_once:
        # With rows of equal length, what lies inside is one run of bytes, with the ends of other
        # rows where the borders will be.
        memcpy(
            out + top * width + left,
            plane + (top + dy) * width + left + dx,
            (height - top - bottom - 1) * width + inside,
        )
    for y in range(height):
        source = plane + clamped(y + dy, 0, plane_height - 1) * plane_width
        row = out + y * width
        if flip:
            memset(row, source[plane_width - 1], right)
            copy_reversed(row + right, source + left + dx, inside)
            memset(row + width - left, source[0], left)
            continue
        if not at_once or y < top or y >= height - bottom:
            memcpy(row + left, source + left + dx, inside)
        if left:
            memset(row, source[0], left)
        if right:
            memset(row + width - right, source[plane_width - 1], right)


def gather_views(
    const uint8_t[:, ::1] table,
    tuple frame_shape,
    const int64_t[:, :] rows,
    const int64_t[::1] dy,
    const int64_t[::1] dx,
    const int64_t[::1] flip,
    tuple size,
    uint8_t[:, ::1] out,
):
    """Copy a view of `table[rows[b, i]]` to `out[b * W + i]` for every b and i; -1 gives zeros.

    `table` `[N, C*H*W']` holds frames of `frame_shape` `(C, H, W')`, `rows` is `[B, W]`. The view
    of window b has `size` `(h, w)` and its first pixel at `(dy[b], dx[b])` of the frame; outside,
    the frame's border continues. Where `flip[b]` is not 0 the view is then mirrored, left to right.
    `out` `[B*W, C*h*w]`. The GIL is released.

    Raises ValueError when a size does not fit and IndexError for a row that the table does not have
    (nothing is written then).
    """
    cdef int64_t channels, plane_height, plane_width, height, width
    channels, plane_height, plane_width = frame_shape
    height, width = size
    cdef Py_ssize_t count = rows.shape[0]
    cdef Py_ssize_t window = rows.shape[1]
    cdef Py_ssize_t b, i
    cdef int64_t c, y_offset, x_offset
    cdef int64_t plane_bytes = plane_height * plane_width
    cdef int64_t view_bytes = height * width
    cdef const uint8_t *frame
    cdef uint8_t *view
    if min(channels, plane_height, plane_width, height, width) < 1:
        raise ValueError(f"frames of {frame_shape} and views of {size} have to have pixels")
    if table.shape[1] != channels * plane_bytes:
        raise ValueError(f"rows of {table.shape[1]} bytes are no frames of {frame_shape}")
    if dy.shape[0] != count or dx.shape[0] != count or flip.shape[0] != count:
        raise ValueError(
            f"dy, dx and flip are [{dy.shape[0]}], [{dx.shape[0]}] and [{flip.shape[0]}], "
            f"expected [{count}]"
        )
    if out.shape[0] != count * window or out.shape[1] != channels * view_bytes:
        raise ValueError(
            f"out is [{out.shape[0]}, {out.shape[1]}], "
            f"expected [{count * window}, {channels * view_bytes}]"
        )
    for b in range(count):
        for i in range(window):
            if rows[b, i] >= table.shape[0]:
                raise IndexError(f"row {rows[b, i]} of a table of {table.shape[0]}")
    if count * window == 0:
        return
    with nogil:
        for b in range(count):
            # Farther out there is nothing but border; no offset can leave the integers' range.
            y_offset = clamped(dy[b], -height, plane_height)
            x_offset = clamped(dx[b], -width, plane_width)
            for i in range(window):
                view = &out[b * window + i, 0]
                if rows[b, i] < 0:
                    memset(view, 0, channels * view_bytes)
                    continue
                frame = &table[rows[b, i], 0]
                for c in range(channels):
                    copy_view(
                        frame + c * plane_bytes, plane_height, plane_width,
                        y_offset, x_offset, flip[b] != 0,
                        view + c * view_bytes, height, width,
                    )
