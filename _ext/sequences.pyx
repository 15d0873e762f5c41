# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which slots make up a window of consecutive steps: where one begins, what it reads, how it ends.

Functions over a store's columns `[streams, slots]`; `windows` says what they hold, and what `head`
and ids are. A window of T steps that begins at time t reads the actions of t .. t+T-1 and the frames
and rewards up to t+T; where its episode ends sooner, so does it, and the rest is padding.

`head` is the caller's copy: a thread that writes meanwhile makes no window appear or grow.
"""

from libc.math cimport exp, expm1, log, log1p
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from rings cimport (
    TRUNCATED_FLAG,
    end_flags,
    locate,
    mix,
    oldest_time,
    scaled,
    stack_start,
)


cdef inline int64_t steps_in(
    int64_t time,
    int64_t head,
    int64_t slots,
    const int32_t *action,
    const uint8_t *flags,
    const int32_t *step,
    int64_t stack,
    int64_t most,
    int64_t burn_in,
    int64_t stride,
) noexcept nogil:
    """How many steps the window that begins at `time` has: burn_in+1..most, or 0 if it is not valid.

    It is valid when it begins at a multiple of `stride` in its episode, every frame of its first
    stack is still stored, `most` steps or all that are left of the episode are stored with their
    actions, and at least one of them follows the burn-in.
    """
    cdef int64_t oldest = oldest_time(head, slots)
    cdef int64_t slot, k
    if time < oldest or time > head - 2:
        return 0
    slot = time % slots
    if step[slot] % stride or stack_start(time, stack, step[slot]) < oldest:
        return 0
    for k in range(1, most + 1):
        if time + k >= head or action[slot] < 0:
            return 0
        slot += 1
        if slot == slots:
            slot = 0
        if flags[slot] & end_flags(False):
            return k if k > burn_in else 0
    return most


cdef int64_t newest(
    int64_t head,
    int64_t slots,
    const int32_t *action,
    const uint8_t *flags,
    const int32_t *step,
    int64_t stack,
    int64_t most,
    int64_t burn_in,
    int64_t stride,
) noexcept nogil:
    """The time of the newest window in a stream, or -1.

    Behind the head lie `most` frames whose windows are not complete unless their episode has ended.
    """
    cdef int64_t time = head - 1
    cdef bint ended = False
    while time >= oldest_time(head, slots):
        if (ended or time + most < head) and steps_in(
            time, head, slots, action, flags, step, stack, most, burn_in, stride
        ):
            return time
        ended = ended or flags[time % slots] & end_flags(False)
        time -= 1
    return -1


def draw(
    const int64_t[::1] head,
    const int32_t[:, ::1] action,
    const uint8_t[:, ::1] flags,
    const int32_t[:, ::1] step,
    int64_t stack,
    int64_t most,
    int64_t burn_in,
    int64_t stride,
    uint64_t seed,
    uint64_t counter,
    uint64_t draws,
    int64_t[::1] ids,
):
    """Fill `ids` `[B]` with valid windows, each drawn uniformly; return `(filled, counter)`.

    Stored frames are drawn uniformly, one counter each, and those that begin no valid window are
    passed over. Gives up after so many `draws`, valid or not.
    """
    cdef Py_ssize_t filled = 0
    cdef int64_t slots = action.shape[1]
    cdef int64_t streams = action.shape[0]
    cdef int64_t s, t
    cdef uint64_t stored = 0
    cdef uint64_t last = counter + draws
    with nogil:
        for s in range(streams):
            stored += head[s] if head[s] < slots else slots
        while stored and filled < ids.shape[0] and counter < last:
            t = locate(<int64_t>scaled(mix(seed, counter), stored), head, slots, &s)
            counter += 1
            if steps_in(
                t, head[s], slots, &action[s, 0], &flags[s, 0], &step[s, 0],
                stack, most, burn_in, stride,
            ):
                ids[filled] = t * streams + s
                filled += 1
    return filled, counter


def draw_recent(
    const int64_t[::1] head,
    const int32_t[:, ::1] action,
    const uint8_t[:, ::1] flags,
    const int32_t[:, ::1] step,
    int64_t stack,
    int64_t most,
    int64_t burn_in,
    int64_t stride,
    double half_life,
    uint64_t seed,
    uint64_t counter,
    uint64_t draws,
    int64_t[::1] latest,
    double[::1] share,
    int64_t[::1] ids,
):
    """`draw` with probabilities proportional to 0.5^(age / half_life); return `(filled, counter)`.

    The age of a window is the number of frames in its stream that came after its first one. A
    stream is drawn by the weight of all its frames from the newest valid window back, then an age
    from the geometric distribution over these by inversion: two counters a draw. What begins no
    valid window is passed over. Beginning at the newest valid window bounds how often that happens:
    it alone is drawn with probability 1 - 0.5^(1 / half_life) or more, however short the half-life.

    `latest` and `share` `[streams]` are room to work in.
    """
    cdef Py_ssize_t filled = 0
    cdef int64_t slots = action.shape[1]
    cdef int64_t streams = action.shape[0]
    cdef int64_t s, t, frames
    cdef int64_t youngest = -1
    cdef uint64_t last = counter + 2 * draws
    cdef double rate = log(2.0) / half_life  # a frame older by one weighs exp(-rate) of it
    cdef double total = 0.0
    cdef double u
    with nogil:
        for s in range(streams):
            latest[s] = newest(
                head[s], slots, &action[s, 0], &flags[s, 0], &step[s, 0],
                stack, most, burn_in, stride,
            )
            if latest[s] >= 0 and (youngest < 0 or head[s] - latest[s] < youngest):
                youngest = head[s] - latest[s]
        for s in range(streams):
            share[s] = 0.0
            if latest[s] >= 0:
                frames = latest[s] - oldest_time(head[s], slots) + 1
                # Relative to the youngest, so that it never vanishes in all of them.
                share[s] = -expm1(-rate * frames) * exp(-rate * (head[s] - latest[s] - youngest))
            total += share[s]
        while total > 0 and filled < ids.shape[0] and counter < last:
            u = uniform(mix(seed, counter)) * total
            s = 0
            while s < streams - 1 and u >= share[s]:
                u -= share[s]
                s += 1
            u = uniform(mix(seed, counter + 1))
            counter += 2
            if share[s] == 0:  # where rounding led past the last stream that has a window
                continue
            frames = latest[s] - oldest_time(head[s], slots) + 1
            t = latest[s] - <int64_t>(-log1p(u * expm1(-rate * frames)) / rate)
            if steps_in(
                t, head[s], slots, &action[s, 0], &flags[s, 0], &step[s, 0],
                stack, most, burn_in, stride,
            ):
                ids[filled] = t * streams + s
                filled += 1
    return filled, counter


cdef inline double uniform(uint64_t bits) noexcept nogil:
    return <double>(bits >> 11) * 2.0 ** -53


def valid(
    const int64_t[::1] head,
    const int32_t[:, ::1] action,
    const uint8_t[:, ::1] flags,
    const int32_t[:, ::1] step,
    int64_t stack,
    int64_t most,
    int64_t burn_in,
    int64_t stride,
    int64_t[::1] ids,
):
    """Write the ids of all valid windows, stream by stream, oldest first; return how many."""
    cdef Py_ssize_t filled = 0
    cdef int64_t slots = action.shape[1]
    cdef int64_t streams = action.shape[0]
    cdef int64_t s, t
    with nogil:
        for s in range(streams):
            for t in range(oldest_time(head[s], slots), head[s]):
                if steps_in(
                    t, head[s], slots, &action[s, 0], &flags[s, 0], &step[s, 0],
                    stack, most, burn_in, stride,
                ):
                    ids[filled] = t * streams + s
                    filled += 1
    return filled


def read(
    const int64_t[::1] ids,
    const int64_t[::1] head,
    const int32_t[:, ::1] action,
    const float[:, ::1] reward,
    const uint8_t[:, ::1] flags,
    const int32_t[:, ::1] step,
    int64_t stack,
    int64_t burn_in,
    int64_t stride,
    double gamma,
    double clip,
    bint life_loss_terminal,
    int64_t[:, ::1] rows,
    int64_t[:, ::1] actions_out,
    float[:, ::1] rewards_out,
    float[:, ::1] discounts_out,
    float[:, ::1] mask_out,
    uint8_t[::1] first_out,
    int64_t[::1] reach_out,
):
    """Fill in the windows of T steps that begin at `ids` `[B]`; return how many begin none.

    `rows` `[B, T + stack]`: table rows of the frames from the first of the first stack to the last
    of the last one; -1 before the episode's start and after its end. The others but the last two are
    `[B, T]`, zero in padding: each reward is clipped to ±`clip` (none where `clip` is 0); a discount
    is `gamma`, or 0 where the episode terminated (or a life was lost, where that counts as one);
    `mask_out` is 1 at real steps. `first_out` `[B]` is 1 where a window begins its episode, and
    `reach_out` `[B]` the time of the oldest frame that it needs. An id that begins no valid window
    gets rows of -1 and zeros.
    """
    cdef Py_ssize_t b
    cdef Py_ssize_t bad = 0
    cdef int64_t slots = action.shape[1]
    cdef int64_t streams = action.shape[0]
    cdef int64_t most = mask_out.shape[1]
    cdef int64_t s, t, k, steps, time, slot, after
    cdef double r
    cdef uint8_t stop = end_flags(life_loss_terminal) & ~<uint8_t>TRUNCATED_FLAG
    with nogil:
        for b in range(ids.shape[0]):
            s = ids[b] % streams
            t = ids[b] // streams
            steps = 0
            if ids[b] >= 0:
                steps = steps_in(
                    t, head[s], slots, &action[s, 0], &flags[s, 0], &step[s, 0],
                    stack, most, burn_in, stride,
                )
            reach_out[b] = t
            first_out[b] = 0
            if ids[b] >= 0:
                # Of one that begins none, too: a writer may have taken just the stack's first frame.
                reach_out[b] = stack_start(t, stack, step[s, t % slots])
            if steps == 0:
                bad += 1
            else:
                first_out[b] = step[s, t % slots] == 0
            for k in range(most + stack):
                time = t - stack + 1 + k
                rows[b, k] = -1
                if steps and reach_out[b] <= time <= t + steps:
                    rows[b, k] = s * slots + time % slots
            for k in range(steps):
                slot, after = (t + k) % slots, (t + k + 1) % slots
                r = reward[s, after]
                if clip > 0:
                    r = clip if r > clip else (-clip if r < -clip else r)
                actions_out[b, k] = action[s, slot]
                rewards_out[b, k] = <float>r
                discounts_out[b, k] = 0.0 if flags[s, after] & stop else <float>gamma
                mask_out[b, k] = 1.0
            for k in range(steps, most):
                actions_out[b, k] = 0
                rewards_out[b, k], discounts_out[b, k], mask_out[b, k] = 0.0, 0.0, 0.0
    return bad
