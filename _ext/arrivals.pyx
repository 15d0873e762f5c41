# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Writing what environments hand over into a store's columns and frame table.

The counterpart of `windows`, which reads them. `claimed` moves before anything is written and `head`
(by the caller) after everything is, so that a reader in another thread can tell what it must not
trust. All of this runs under the GIL: it is some hundred nanoseconds of work.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from rings cimport LIFE_LOST_FLAG, TERMINATED_FLAG, TRUNCATED_FLAG

cdef enum:
    FINAL_FLAG = TERMINATED_FLAG | TRUNCATED_FLAG


cdef int check(const int64_t[::1] streams, int64_t count, dict sizes) except -1:
    """Memory is written without further checks below, so whatever comes from outside is checked."""
    cdef Py_ssize_t e
    for name, size in sizes.items():
        if size != streams.shape[0]:
            raise ValueError(f"{name} has {size} rows, expected {streams.shape[0]}")
    for e in range(streams.shape[0]):
        if not 0 <= streams[e] < count:
            raise ValueError(f"there is no stream {streams[e]}: there are {count}")
    return 0


def arrive(
    const int64_t[::1] streams,
    const int64_t[::1] head,
    int64_t[::1] claimed,
    int32_t[:, ::1] action,
    float[:, ::1] reward,
    uint8_t[:, ::1] flags,
    int32_t[:, ::1] step,
    const float[::1] new_reward,
    const uint8_t[::1] terminated,
    const uint8_t[::1] truncated,
    const uint8_t[::1] life_lost,
    const uint8_t[::1] first,
    int64_t[::1] rows,
):
    """Claim the next slot of each of `streams` `[E]` and fill in its columns; `rows` `[E]` gets its row.

    An episode that a `first` cuts in the middle ends as truncated. Returns -1, or the place of a row
    that continues no episode, and then nothing is written. Raises ValueError for an array of another
    length and for a stream that is not there.
    """
    cdef Py_ssize_t e
    cdef int64_t slots = action.shape[1]
    cdef int64_t s, slot, last
    check(
        streams,
        head.shape[0],
        {
            "reward": new_reward.shape[0],
            "terminated": terminated.shape[0],
            "truncated": truncated.shape[0],
            "life_lost": life_lost.shape[0],
            "first": first.shape[0],
        },
    )
    for e in range(streams.shape[0]):
        s = streams[e]
        if not first[e] and (head[s] == 0 or flags[s, (head[s] - 1) % slots] & FINAL_FLAG):
            return e
    for e in range(streams.shape[0]):
        s = streams[e]
        slot, last = head[s] % slots, (head[s] + slots - 1) % slots
        claimed[s] = head[s] + 1
        if first[e] and head[s] > 0 and not flags[s, last] & FINAL_FLAG:
            flags[s, last] |= TRUNCATED_FLAG
            action[s, last] = -1
        step[s, slot] = 0 if first[e] else step[s, last] + 1
        action[s, slot] = -1
        reward[s, slot] = new_reward[e]
        flags[s, slot] = (
            (TERMINATED_FLAG if terminated[e] else 0)
            | (TRUNCATED_FLAG if truncated[e] else 0)
            | (LIFE_LOST_FLAG if life_lost[e] else 0)
        )
        rows[e] = s * slots + slot
    return -1


def act(
    const int64_t[::1] streams,
    const int64_t[::1] head,
    const uint8_t[:, ::1] flags,
    const int64_t[::1] actions,
    int32_t[:, ::1] action,
    int64_t num_actions,
):
    """Note `actions` `[E]` on the newest frames of `streams` `[E]`; a final frame gets none.

    Returns -1, or the place of an action outside `0 .. num_actions - 1`, and then none is noted.
    """
    cdef Py_ssize_t e
    cdef int64_t slots = action.shape[1]
    cdef int64_t s, slot
    check(streams, head.shape[0], {"actions": actions.shape[0]})
    for e in range(streams.shape[0]):
        if not 0 <= actions[e] < num_actions:
            return e
    for e in range(streams.shape[0]):
        s = streams[e]
        slot = (head[s] + slots - 1) % slots
        if not flags[s, slot] & FINAL_FLAG:
            action[s, slot] = <int32_t>actions[e]
    return -1


def place(uint8_t[:, ::1] table, const int64_t[::1] rows, const uint8_t[:, ::1] frames):
    """Copy `frames` `[E, width]` to the given rows of `table` `[N, width]`."""
    cdef Py_ssize_t e
    cdef Py_ssize_t width = table.shape[1]
    for e in range(rows.shape[0]):
        memcpy(&table[rows[e], 0], &frames[e, 0], width)
