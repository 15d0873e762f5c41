# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Copying rows of bytes from a table, on several threads, without the GIL.

A batch of frame windows is a few thousand rows of some kilobytes at random places: the work is
memory traffic, so two cores move nearly twice as much as one. The second core is driven by a small
pool of our own. OpenMP would bring a second runtime beside torch's, and Python threads cost more to
wake than the copy takes.
"""

import os

from cpython.pythread cimport (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_release_lock,
    PyThread_type_lock,
    WAIT_LOCK,
    NOWAIT_LOCK,
)
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from hints cimport look_at, pause, will_read, will_write

cdef extern from "pythread.h" nogil:
    unsigned long PyThread_start_new_thread(void (*function)(void *) noexcept nogil, void *argument)

DEF MAX_WORKERS = 15
# Below this many bytes a single thread is done before another would be awake.
DEF BYTES_WORTH_A_THREAD = 200_000
# Rows are claimed in blocks of about this many bytes: some microseconds of copying.
DEF BLOCK_BYTES = 100_000
DEF CHUNK = 128
DEF CACHE_LINE = 64
# How often to look for the last block's end before going to sleep over it.
DEF SPINS = 4000
# How often a worker that was called early looks for its job: a fraction of a millisecond.
DEF EARLY_SPINS = 4000

# What is copied now. `lock` guards all of it; rows are claimed block by block, so a worker that
# wakes late finds less to do, or nothing, and delays nobody.
cdef struct Job:
    PyThread_type_lock lock
    PyThread_type_lock all_done  # held, but for the moment when the caller may go on
    const uint8_t *table
    const int64_t *rows
    uint8_t *out
    Py_ssize_t width
    Py_ssize_t count
    Py_ssize_t block
    Py_ssize_t next_row
    int active  # workers inside
    int is_open  # workers may join
    bint awaited  # the caller waits for those inside

cdef Job job
cdef PyThread_type_lock wake_up[MAX_WORKERS]
cdef bint awake[MAX_WORKERS]  # guarded by job.lock: one release of `wake_up` per sleep
cdef PyThread_type_lock callers = PyThread_allocate_lock()  # one caller has the workers at a time
cdef int started = 0
job.lock = PyThread_allocate_lock()
job.all_done = PyThread_allocate_lock()
PyThread_acquire_lock(job.all_done, WAIT_LOCK)


cdef inline void copy_row(
    uint8_t *to, const uint8_t *source, Py_ssize_t width, const uint8_t *next_source
) noexcept nogil:
    """Copy a row, and ask for the memory of the next one on the way.

    The processor's own prefetching starts anew at every page; at random rows that wait is a third
    of a small batch's time. Asked for chunk by chunk, the next row does not crowd out this one.
    """
    cdef Py_ssize_t begin = 0
    while begin + CHUNK <= width:
        will_read(next_source + begin)
        will_read(next_source + begin + CACHE_LINE)
        will_write(to + width + begin)
        will_write(to + width + begin + CACHE_LINE)
        memcpy(to + begin, source + begin, CHUNK)
        begin += CHUNK
    memcpy(to + begin, source + begin, width - begin)


cdef void copy_rows(
    const uint8_t *table,
    const int64_t *rows,
    uint8_t *out,
    Py_ssize_t width,
    Py_ssize_t begin,
    Py_ssize_t end,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t ahead
    for i in range(begin, end):
        if rows[i] < 0:
            memset(out + i * width, 0, width)
            continue
        # Asking for memory beyond the end of `out` does no harm: prefetching never faults.
        ahead = rows[i + 1] if i + 1 < end and rows[i + 1] >= 0 else rows[i]
        copy_row(out + i * width, table + rows[i] * width, width, table + ahead * width)


cdef void copy_blocks() noexcept nogil:
    """Claim and copy blocks of the job until none is left."""
    cdef Py_ssize_t begin, end
    while True:
        PyThread_acquire_lock(job.lock, WAIT_LOCK)
        begin = job.next_row
        end = min(begin + job.block, job.count)
        job.next_row = end
        PyThread_release_lock(job.lock)
        if begin == end:
            return
        copy_rows(job.table, job.rows, job.out, job.width, begin, end)


cdef void serve(void *number) noexcept nogil:
    cdef int w = <int><Py_ssize_t>number
    cdef int spin
    cdef bint joined
    while True:
        PyThread_acquire_lock(wake_up[w], WAIT_LOCK)
        for spin in range(EARLY_SPINS):
            if look_at(job.is_open):
                break
            pause()
        PyThread_acquire_lock(job.lock, WAIT_LOCK)
        joined = job.is_open
        job.active += joined
        awake[w] = joined
        PyThread_release_lock(job.lock)
        if not joined:
            continue
        copy_blocks()
        PyThread_acquire_lock(job.lock, WAIT_LOCK)
        awake[w] = False
        job.active -= 1
        if job.active == 0 and job.awaited:
            job.awaited = False
            PyThread_release_lock(job.all_done)
        PyThread_release_lock(job.lock)


cdef void wake_workers(int count) noexcept nogil:
    """Wake those of the first `count` workers that sleep. Needs `job.lock`."""
    cdef int w
    for w in range(count):
        if not awake[w]:
            awake[w] = True
            PyThread_release_lock(wake_up[w])


cdef void finish_job() noexcept nogil:
    """Let no more workers in and wait for those inside: each has a block to finish at most."""
    cdef bint waits
    cdef int spin
    PyThread_acquire_lock(job.lock, WAIT_LOCK)
    job.is_open = False
    waits = job.active > 0
    job.awaited = waits
    PyThread_release_lock(job.lock)
    if not waits:
        return
    for spin in range(SPINS):
        if PyThread_acquire_lock(job.all_done, NOWAIT_LOCK):
            return
    PyThread_acquire_lock(job.all_done, WAIT_LOCK)


cdef int start_workers(int wanted) except -1:
    """Start threads until `wanted` serve; fewer if the system refuses. Needs `callers`."""
    global started
    while started < wanted:
        if wake_up[started] == NULL:
            wake_up[started] = PyThread_allocate_lock()
            if wake_up[started] == NULL:
                raise MemoryError("no lock for a gather thread")
            PyThread_acquire_lock(wake_up[started], WAIT_LOCK)
            awake[started] = False
        if PyThread_start_new_thread(serve, <void *><Py_ssize_t>started) == <unsigned long>-1:
            break
        started += 1
    return min(wanted, started)


def _forget_workers():
    """A forked child has none of its parent's threads; it starts its own when it needs them."""
    global started, callers
    cdef int w
    for w in range(started):
        wake_up[w] = NULL  # a lock that another thread may have held while the process split
    started = 0
    callers = PyThread_allocate_lock()
    job.lock = PyThread_allocate_lock()
    job.all_done = PyThread_allocate_lock()
    PyThread_acquire_lock(job.all_done, WAIT_LOCK)
    job.active, job.is_open, job.awaited = 0, False, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


cdef int workers_for(Py_ssize_t bytes_to_copy, int threads) noexcept nogil:
    return <int>min(threads - 1, MAX_WORKERS, bytes_to_copy // BYTES_WORTH_A_THREAD)


def expect(Py_ssize_t bytes_to_copy, int threads):
    """Wake the threads that a gather of so many bytes will want, if it comes within moments.

    Waking a thread takes as long as a small batch's copy; a caller that has something to do first,
    such as choosing the rows, saves that. Without a gather after it the threads go back to sleep.
    """
    cdef int workers = workers_for(bytes_to_copy, threads)
    if workers <= 0 or not PyThread_acquire_lock(callers, NOWAIT_LOCK):
        return
    try:
        workers = start_workers(workers)
        PyThread_acquire_lock(job.lock, WAIT_LOCK)
        wake_workers(workers)
        PyThread_release_lock(job.lock)
    finally:
        PyThread_release_lock(callers)


def gather_rows(
    const uint8_t[:, ::1] table,
    const int64_t[::1] rows,
    uint8_t[:, ::1] out,
    int threads=1,
):
    """Copy `table[rows[i]]` to `out[i]` for every i; a negative row gives zeros.

    `table` `[N, width]`, `rows` `[R]`, `out` `[R, width]`, contiguous bytes. The GIL is released.
    Raises ValueError when a size does not fit and IndexError for a row that the table does not have
    (nothing is written then). While another thread is inside, the call runs on its own thread only.
    """
    cdef Py_ssize_t count = rows.shape[0]
    cdef Py_ssize_t width = table.shape[1]
    cdef Py_ssize_t i
    cdef Py_ssize_t bytes_to_copy = count * width
    cdef int workers = 0
    if out.shape[0] != count or out.shape[1] != width:
        raise ValueError(
            f"out is [{out.shape[0]}, {out.shape[1]}], expected [{count}, {width}]"
        )
    for i in range(count):
        if rows[i] >= table.shape[0]:
            raise IndexError(f"row {rows[i]} of a table of {table.shape[0]}")
    if bytes_to_copy == 0:
        return
    workers = workers_for(bytes_to_copy, threads)
    if workers <= 0 or not PyThread_acquire_lock(callers, NOWAIT_LOCK):
        with nogil:
            copy_rows(&table[0, 0], &rows[0], &out[0, 0], width, 0, count)
        return
    try:
        workers = start_workers(workers)
        with nogil:
            PyThread_acquire_lock(job.lock, WAIT_LOCK)
            job.table, job.rows, job.out = &table[0, 0], &rows[0], &out[0, 0]
            job.width, job.count, job.next_row = width, count, 0
            job.block = max(1, BLOCK_BYTES // width)
            job.is_open = True
            wake_workers(workers)
            PyThread_release_lock(job.lock)
            copy_blocks()
            finish_job()
    finally:
        PyThread_release_lock(callers)
