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

cdef extern from "pythread.h" nogil:
    unsigned long PyThread_start_new_thread(void (*function)(void *) noexcept nogil, void *argument)

DEF MAX_WORKERS = 15
# Below this many bytes, waking a thread costs more than it saves (measured: about 10 microseconds).
DEF BYTES_WORTH_A_THREAD = 200_000

cdef struct Job:
    const uint8_t *table
    const int64_t *rows
    uint8_t *out
    Py_ssize_t width
    Py_ssize_t begin
    Py_ssize_t end

cdef struct Worker:
    PyThread_type_lock work
    PyThread_type_lock done
    Job job

cdef Worker workers[MAX_WORKERS]
cdef int started = 0
cdef PyThread_type_lock pool_lock = PyThread_allocate_lock()


cdef void copy_rows(const Job *job) noexcept nogil:
    cdef Py_ssize_t i
    cdef Py_ssize_t width = job.width
    for i in range(job.begin, job.end):
        if job.rows[i] < 0:
            memset(job.out + i * width, 0, width)
        else:
            memcpy(job.out + i * width, job.table + job.rows[i] * width, width)


cdef void serve(void *argument) noexcept nogil:
    cdef Worker *worker = <Worker *>argument
    while True:
        PyThread_acquire_lock(worker.work, WAIT_LOCK)
        copy_rows(&worker.job)
        PyThread_release_lock(worker.done)


cdef int start_workers(int wanted) except -1:
    """Start threads until `wanted` serve (fewer if the system refuses). Needs `pool_lock`."""
    global started
    cdef Worker *worker
    while started < wanted:
        worker = &workers[started]
        worker.work = PyThread_allocate_lock()
        worker.done = PyThread_allocate_lock()
        if worker.work == NULL or worker.done == NULL:
            raise MemoryError("no lock for a gather thread")
        PyThread_acquire_lock(worker.work, WAIT_LOCK)
        PyThread_acquire_lock(worker.done, WAIT_LOCK)
        if PyThread_start_new_thread(serve, worker) == <unsigned long>-1:
            break
        started += 1
    return started


def _forget_workers():
    """A forked child has none of its parent's threads; it starts its own when it needs them."""
    global started, pool_lock
    started = 0
    pool_lock = PyThread_allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


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
    cdef Py_ssize_t i, share
    cdef int helpers = 0
    cdef int served = 0
    cdef int w
    cdef Job job
    if out.shape[0] != count or out.shape[1] != width:
        raise ValueError(
            f"out is [{out.shape[0]}, {out.shape[1]}], expected [{count}, {width}]"
        )
    for i in range(count):
        if rows[i] >= table.shape[0]:
            raise IndexError(f"row {rows[i]} of a table of {table.shape[0]}")
    if count == 0 or width == 0:
        return
    job.table = &table[0, 0]
    job.rows = &rows[0]
    job.out = &out[0, 0]
    job.width = width
    job.begin = 0
    job.end = count
    helpers = <int>min(threads - 1, MAX_WORKERS, count * width // BYTES_WORTH_A_THREAD, count - 1)
    if helpers <= 0 or not PyThread_acquire_lock(pool_lock, NOWAIT_LOCK):
        with nogil:
            copy_rows(&job)
        return
    try:
        served = min(helpers, start_workers(helpers))
        share = (count + served) // (served + 1)
        with nogil:
            for w in range(served):
                workers[w].job = job
                workers[w].job.begin = min(count, (w + 1) * share)
                workers[w].job.end = min(count, (w + 2) * share)
                PyThread_release_lock(workers[w].work)
            job.end = min(count, share)
            copy_rows(&job)
            for w in range(served):
                PyThread_acquire_lock(workers[w].done, WAIT_LOCK)
    finally:
        PyThread_release_lock(pool_lock)
