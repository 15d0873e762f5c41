# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which table rows have a priority: those that begin a valid transition, while a store is written.

Every slot of a store's rings is a table row, `stream * slots + time % slots`. A row is valid when the
frame that it holds now begins a valid transition; it becomes so when that transition's successor
arrives, and stops being so when it is overwritten, or the oldest frame of its stack is.

`head` is the caller's copy, so that a thread that writes meanwhile moves nothing under a reader's
feet; what is torn then is overwritten anyway, and set right by the next `catch_up`.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from rings cimport end_flags, oldest_time, stack_start, steps_ahead


cdef class ValidRows:
    """Keeps up with the valid rows of one store, for one way of reading transitions.

    `action`, `flags`, `step` are the store's columns `[streams, slots]`. `settled` `[streams]` is
    the time up to which it is known whether a transition begins there (one that is complete stays
    so, and those before it are complete too); `seen` `[streams]` is the head at the newest
    `catch_up`. Both are moved here. `marked` `[streams * slots]` is working memory, all zero.
    """

    cdef const int32_t[:, ::1] action
    cdef const uint8_t[:, ::1] flags
    cdef const int32_t[:, ::1] step
    cdef int64_t[::1] settled
    cdef int64_t[::1] seen
    cdef uint8_t[::1] marked
    cdef int64_t streams, slots, stack, n
    cdef uint8_t end

    def __init__(
        self,
        const int32_t[:, ::1] action,
        const uint8_t[:, ::1] flags,
        const int32_t[:, ::1] step,
        int64_t[::1] settled,
        int64_t[::1] seen,
        uint8_t[::1] marked,
        int64_t stack,
        int64_t n,
        bint life_loss_terminal,
    ):
        self.action, self.flags, self.step = action, flags, step
        self.settled, self.seen, self.marked = settled, seen, marked
        self.streams, self.slots = action.shape[0], action.shape[1]
        self.stack, self.n, self.end = stack, n, end_flags(life_loss_terminal)

    cdef inline int64_t span(self, int64_t s, int64_t time, int64_t head) noexcept nogil:
        return steps_ahead(
            time, head, self.slots, &self.action[s, 0], &self.flags[s, 0], &self.step[s, 0],
            self.stack, self.n, self.end,
        )

    cdef inline bint reaches_past(self, int64_t s, int64_t time, int64_t oldest) noexcept nogil:
        """Whether a frame of the stack at `time` has been overwritten."""
        return stack_start(time, self.stack, self.step[s, time % self.slots]) < oldest

    def catch_up(self, const int64_t[::1] head, int64_t[::1] rows, float[::1] valid):
        """List in `rows` those that changed since the last call; return how many.

        `valid` says of each: 1 if it begins a new valid transition, 0 if it begins none (any more).
        No row is listed as both. There is room for `streams * (slots + stack)`. Raises ValueError
        for a stream whose head moved back: the store is not the one that was followed.
        """
        cdef int64_t s, t, oldest
        cdef int64_t count = 0
        cdef int64_t slots = self.slots
        cdef bint begins
        for s in range(self.streams):
            if self.settled[s] > head[s]:
                raise ValueError(
                    f"settled: stream {s} was followed up to time {self.settled[s]}, and the store "
                    f"holds it up to {head[s]} only"
                )
        with nogil:
            for s in range(self.streams):
                oldest = oldest_time(head[s], slots)
                t = max(self.settled[s], oldest)
                while t <= head[s] - 2:
                    begins = self.span(s, t, head[s]) > 0
                    if (
                        not begins
                        and self.action[s, t % slots] >= 0
                        and not self.reaches_past(s, t, oldest)
                    ):
                        break  # its successor is still to come
                    rows[count] = s * slots + t % slots
                    valid[count] = begins
                    count += 1
                    t += 1
                self.settled[s] = t
                # Newer frames, which begin nothing yet, lie in slots of older ones.
                for t in range(max(t, self.seen[s]), head[s]):
                    rows[count] = s * slots + t % slots
                    valid[count] = 0
                    count += 1
                if oldest > oldest_time(self.seen[s], slots):
                    for t in range(oldest, min(oldest + self.stack - 1, self.settled[s])):
                        if self.reaches_past(s, t, oldest):
                            rows[count] = s * slots + t % slots
                            valid[count] = 0
                            count += 1
                self.seen[s] = head[s]
        return count

    def rows_of(
        self,
        const int64_t[::1] head,
        const int64_t[::1] ids,
        int64_t[::1] rows,
        int64_t[::1] places,
    ):
        """The rows of those of `ids` `[K]` that begin a valid transition; return how many.

        `rows` and `places` `[K]` get the rows and where in `ids` they stand, in that order; of an id
        that is there more than once only the last place. Call `catch_up` with the same `head` before.
        """
        cdef int64_t count = ids.shape[0]
        cdef int64_t begin = count
        cdef int64_t b, s, t, row
        cdef int64_t found
        with nogil:
            # Backwards, so that the last of equal ids is met first; filled from the end.
            for b in range(count - 1, -1, -1):
                if ids[b] < 0:
                    continue
                s = ids[b] % self.streams
                t = ids[b] // self.streams
                row = s * self.slots + t % self.slots
                if (
                    t >= self.settled[s]
                    or self.marked[row]
                    or self.span(s, t, head[s]) == 0
                ):
                    continue
                self.marked[row] = 1
                begin -= 1
                rows[begin] = row
                places[begin] = b
            found = count - begin
            for b in range(found):
                rows[b] = rows[begin + b]
                places[b] = places[begin + b]
                self.marked[rows[b]] = 0
        return found

    def ids_of(
        self, const int64_t[::1] head, const int64_t[::1] rows, int64_t[::1] ids
    ):
        """Write the ids of the frames that lie in `rows` `[K]` into `ids` `[K]`."""
        cdef int64_t b, s, newest
        with nogil:
            for b in range(rows.shape[0]):
                s = rows[b] // self.slots
                newest = head[s] - 1
                ids[b] = (
                    newest - (newest - rows[b] % self.slots) % self.slots
                ) * self.streams + s
