"""The rules of a stream's ring that several kernels share: times and slots, validity, random bits.

A stream is a ring of `slots` slots; the frame of time t lies in slot `t % slots`, and `head` is the
time of the next frame, so the frames of times `max(0, head - slots) .. head - 1` are there. All of
it is inline: a kernel that cimports this depends on nothing at run time.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


# What arrived with a frame; `windows` gives these their Python names.
cdef enum:
    TERMINATED_FLAG = 1
    TRUNCATED_FLAG = 2
    LIFE_LOST_FLAG = 4


cdef inline int64_t oldest_time(int64_t head, int64_t slots) noexcept nogil:
    return head - slots if head > slots else 0


cdef inline int64_t stack_start(
    int64_t time, int64_t stack, int32_t step
) noexcept nogil:
    """The time of the oldest frame that a stack ending at `time` really has."""
    cdef int64_t reach = stack - 1
    if step < reach:
        reach = step
    return time - reach


cdef inline int64_t steps_ahead(
    int64_t time,
    int64_t head,
    int64_t slots,
    const int32_t *action,
    const uint8_t *flags,
    const int32_t *step,
    int64_t stack,
    int64_t n,
    uint8_t end,
) noexcept nogil:
    """How many steps the transition that begins at `time` spans: 1..n, or 0 if it is not valid.

    It is valid when an action was taken there, every frame of its stack is still stored (the stack
    is then the one that the actor saw), and its successor is stored: the n-th next frame, or the
    first on the way that carries a flag of `end`.
    """
    cdef int64_t oldest = oldest_time(head, slots)
    cdef int64_t slot, k
    if time < oldest or time > head - 2:
        return 0
    slot = time % slots
    if action[slot] < 0 or stack_start(time, stack, step[slot]) < oldest:
        return 0
    for k in range(1, n + 1):
        if time + k >= head:
            return 0
        if flags[(time + k) % slots] & end:
            return k
    return n


cdef inline uint8_t end_flags(bint life_loss_terminal) noexcept nogil:
    return TERMINATED_FLAG | TRUNCATED_FLAG | (LIFE_LOST_FLAG if life_loss_terminal else 0)


cdef inline void window(
    int64_t *rows, int64_t stream, int64_t time, int64_t slots, int64_t stack, int32_t step
) noexcept nogil:
    """Table rows of the `stack` frames that end at `time`; -1 before the episode's start."""
    cdef int64_t start = stack_start(time, stack, step)
    cdef int64_t i, t
    for i in range(stack):
        t = time - stack + 1 + i
        rows[i] = stream * slots + t % slots if t >= start else -1


cdef inline uint64_t mix(uint64_t seed, uint64_t counter) noexcept nogil:
    """64 random bits for every counter: splitmix64 (Steele, Lea and Flood 2014), `seed` its start."""
    cdef uint64_t z = seed + (counter + 1) * <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t scaled(uint64_t bits, uint64_t count) noexcept nogil:
    """64 random bits as a number below `count` (itself below 2^32): the high word of their product.

    No number is favoured by more than count / 2^64 of its share.
    """
    cdef uint64_t low = (<uint64_t><uint32_t>bits * count) >> 32
    return ((bits >> 32) * count + low) >> 32


cdef inline int64_t locate(
    int64_t place, const int64_t[::1] head, int64_t slots, int64_t *stream
) noexcept nogil:
    """The time of the `place`-th stored frame, counted through the streams from each one's oldest."""
    cdef int64_t s = 0
    cdef int64_t size
    while True:
        size = head[s] if head[s] < slots else slots
        if place < size:
            stream[0] = s
            return place + oldest_time(head[s], slots)
        place -= size
        s += 1
