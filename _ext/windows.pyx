# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which slots make up a transition: validity, frame windows, n-step rewards and discounts.

Functions over a store's columns. A stream is a ring of `slots` slots; the frame of time t lies in
slot `t % slots`, and `head[s]` is the time of the next frame, so the frames of times
`max(0, head - slots) .. head - 1` are there. An id is `t * streams + s`.

Each slot holds what arrived with its frame (`reward`, `flags`, `step` in the episode) and the action
chosen on seeing it (-1 while there is none, and for ever at the final observation of an episode).

`head` is the caller's copy, so that a thread that writes meanwhile moves nothing under a reader's
feet; what it overwrites is found by `overwritten`, afterwards.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from hints cimport will_read
from rings cimport (
    TRUNCATED_FLAG,
    end_flags,
    locate,
    mix,
    oldest_time,
    scaled,
    stack_start,
    steps_ahead,
    window,
)

TERMINATED = 1
TRUNCATED = 2
LIFE_LOST = 4
#: The last frame of an episode carries one of these; it never gets an action.
FINAL = TERMINATED | TRUNCATED

DEF AHEAD = 64  # transitions whose columns are asked for together


cdef class Columns:
    """A store's columns `[streams, slots]`, looked up once: every lookup costs half a microsecond."""

    cdef const int32_t[:, ::1] action
    cdef const float[:, ::1] reward
    cdef const uint8_t[:, ::1] flags
    cdef const int32_t[:, ::1] step
    cdef int64_t streams, slots

    def __init__(
        self,
        const int32_t[:, ::1] action,
        const float[:, ::1] reward,
        const uint8_t[:, ::1] flags,
        const int32_t[:, ::1] step,
    ):
        self.action, self.reward, self.flags, self.step = action, reward, flags, step
        self.streams, self.slots = action.shape[0], action.shape[1]


cdef inline int64_t span(
    Columns columns, int64_t s, int64_t t, int64_t head, int64_t stack, int64_t n, uint8_t end
) noexcept nogil:
    return steps_ahead(
        t, head, columns.slots, &columns.action[s, 0], &columns.flags[s, 0], &columns.step[s, 0],
        stack, n, end,
    )


def stack_rows(
    const int64_t[::1] streams,
    const int64_t[::1] times,
    const int32_t[:, ::1] step,
    int64_t[:, ::1] rows,
):
    """Table rows `[B, stack]` of the frame stacks that end at the given times of the given streams."""
    cdef Py_ssize_t b
    cdef int64_t slots = step.shape[1]
    with nogil:
        for b in range(streams.shape[0]):
            window(
                &rows[b, 0], streams[b], times[b], slots, rows.shape[1],
                step[streams[b], times[b] % slots],
            )


def draw(
    Columns columns,
    const int64_t[::1] head,
    int64_t stack,
    int64_t n,
    bint life_loss_terminal,
    uint64_t seed,
    uint64_t counter,
    uint64_t most,
    int64_t[::1] ids,
):
    """Fill `ids` `[B]` with valid transitions, each drawn uniformly; return `(filled, counter)`.

    Stored frames are drawn uniformly, one counter each, and those that begin no valid transition are
    passed over. Gives up after `most` draws. Scaling 64 bits to N frames by multiplication favours
    no frame by more than N / 2^64 of its share.
    """
    cdef Py_ssize_t filled = 0
    cdef Py_ssize_t i, ahead
    cdef int64_t slots = columns.slots
    cdef int64_t streams = columns.streams
    cdef int64_t s, t
    cdef int64_t stream[AHEAD]
    cdef int64_t time[AHEAD]
    cdef uint64_t stored = 0
    cdef uint64_t last = counter + most
    cdef uint8_t end = end_flags(life_loss_terminal)
    with nogil:
        for s in range(streams):
            stored += head[s] if head[s] < slots else slots
        while stored and filled < ids.shape[0] and counter < last:
            # Columns at random places come from far away: ask for many of them, then look.
            ahead = <Py_ssize_t>min(<uint64_t>(ids.shape[0] - filled), min(last - counter, AHEAD))
            for i in range(ahead):
                time[i] = locate(
                    <int64_t>scaled(mix(seed, counter), stored), head, slots, &stream[i]
                )
                counter += 1
                s, t = stream[i], time[i] % slots
                will_read(&columns.action[s, t])
                will_read(&columns.flags[s, t])
                will_read(&columns.step[s, t])
                will_read(&columns.reward[s, t])
            for i in range(ahead):
                s, t = stream[i], time[i]
                if span(columns, s, t, head[s], stack, n, end):
                    ids[filled] = t * streams + s
                    filled += 1
    return filled, counter


def valid(
    Columns columns,
    const int64_t[::1] head,
    int64_t stack,
    int64_t n,
    bint life_loss_terminal,
    int64_t[::1] ids,
):
    """Write the ids of all valid transitions, stream by stream, oldest first; return how many."""
    cdef Py_ssize_t filled = 0
    cdef int64_t slots = columns.slots
    cdef int64_t streams = columns.streams
    cdef int64_t s, t
    cdef uint8_t end = end_flags(life_loss_terminal)
    with nogil:
        for s in range(streams):
            for t in range(oldest_time(head[s], slots), head[s]):
                if span(columns, s, t, head[s], stack, n, end):
                    ids[filled] = t * streams + s
                    filled += 1
    return filled


def transitions(
    Columns columns,
    const int64_t[::1] head,
    const int64_t[::1] ids,
    int64_t stack,
    int64_t n,
    double gamma,
    double clip,
    bint life_loss_terminal,
    int64_t[:, ::1] rows,
    int64_t[::1] actions_out,
    float[::1] rewards_out,
    float[::1] discounts_out,
):
    """Fill in the transitions that begin at `ids` `[B]`; return how many begin none.

    `rows` `[B, W]`: table rows of the first stack in its first `stack` columns, of the successor's
    stack in its last ones (W = stack + 1 shares frames and needs n = 1; W = 2 stack serves any n).
    Rewards are clipped to ±`clip` each (none where `clip` is 0), then summed with powers of gamma in
    float64. The discount is gamma^k for the true number of steps k, and 0 at a termination (or at a
    lost life, where that counts as one). An id that begins no valid transition gets rows of -1, the
    action -1, and zeros.
    """
    cdef Py_ssize_t b
    cdef Py_ssize_t bad = 0
    cdef int64_t slots = columns.slots
    cdef int64_t streams = columns.streams
    cdef int64_t width = rows.shape[1]
    cdef int64_t s, t, k, i
    cdef double total, power, r
    cdef uint8_t end = end_flags(life_loss_terminal)
    cdef uint8_t stop = end & ~<uint8_t>TRUNCATED_FLAG
    with nogil:
        for b in range(ids.shape[0]):
            if b % AHEAD == 0:
                for i in range(b, min(b + AHEAD, ids.shape[0])):
                    if ids[i] >= 0:
                        s, t = ids[i] % streams, ids[i] // streams % slots
                        will_read(&columns.action[s, t])
                        will_read(&columns.flags[s, t])
                        will_read(&columns.step[s, t])
                        will_read(&columns.reward[s, t])
            s = ids[b] % streams
            t = ids[b] // streams
            k = 0
            if ids[b] >= 0:
                k = span(columns, s, t, head[s], stack, n, end)
            if k == 0:
                bad += 1
                actions_out[b], rewards_out[b], discounts_out[b] = -1, 0, 0
                for i in range(width):
                    rows[b, i] = -1
                continue
            total = 0.0
            power = 1.0
            for i in range(1, k + 1):
                r = columns.reward[s, (t + i) % slots]
                if clip > 0:
                    r = clip if r > clip else (-clip if r < -clip else r)
                total += power * r
                power *= gamma
            actions_out[b] = columns.action[s, t % slots]
            rewards_out[b] = <float>total
            discounts_out[b] = (
                0.0 if columns.flags[s, (t + k) % slots] & stop else <float>power
            )
            window(&rows[b, 0], s, t, slots, stack, columns.step[s, t % slots])
            window(
                &rows[b, width - stack], s, t + k, slots, stack, columns.step[s, (t + k) % slots]
            )
    return bad


def overwritten(
    Columns columns,
    const int64_t[::1] claimed,
    const int64_t[::1] ids,
    int64_t stack,
):
    """Places `[K]` in `ids` `[B]` of which a frame of the stack is overwritten, or just being so.

    `claimed` is the store's own: times before `claimed[s] - slots` are no longer what they were.
    """
    cdef Py_ssize_t b
    cdef int64_t s, t, oldest
    found = []
    for b in range(ids.shape[0]):
        s = ids[b] % columns.streams
        t = ids[b] // columns.streams
        oldest = oldest_time(claimed[s], columns.slots)
        # The step of a slot that is overwritten says nothing, and then its time alone is too old.
        if t < oldest or stack_start(t, stack, columns.step[s, t % columns.slots]) < oldest:
            found.append(b)
    return found
