"""The gather kernel against numpy's own indexing."""

from __future__ import annotations

import os
import re
import threading

import numpy as np
import pytest

from playfield._ext.gather import gather_rows
from playfield.buffers.store import gather_threads
from playfield.commands import doctor


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
def test_rows_are_copied_and_negative_ones_are_zero(threads, count):
    rng = np.random.default_rng(count)
    table = rng.integers(0, 256, (50, 7056), dtype=np.uint8)
    rows = rng.integers(-1, 50, count)
    out = np.full((count, 7056), 7, np.uint8)
    gather_rows(table, rows, out, threads)
    expected = np.where(rows[:, None] < 0, 0, table[rows]) if count else out
    np.testing.assert_array_equal(out, expected)


def test_a_row_outside_the_table_is_refused_before_anything_is_written():
    out = np.full((2, 8), 7, np.uint8)
    with pytest.raises(IndexError, match="row 3 of a table of 3"):
        gather_rows(np.zeros((3, 8), np.uint8), np.array([0, 3]), out)
    assert (out == 7).all()


def test_an_output_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"out is \[2, 8\], expected \[1, 8\]"):
        gather_rows(np.zeros((3, 8), np.uint8), np.array([0]), np.zeros((2, 8), np.uint8))


def test_gathers_from_several_python_threads_at_once_do_not_mix():
    table = np.random.default_rng(0).integers(0, 256, (64, 7056), dtype=np.uint8)
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        out = np.empty((128, 7056), np.uint8)
        for _ in range(60):
            rows = rng.integers(0, 64, 128)
            gather_rows(table, rows, out, 2)
            if not np.array_equal(out, table[rows]):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_doctor_reports_kernel_threads_and_how_fast_rows_are_gathered(tmp_path):
    (check,) = (check for check in doctor.checks(tmp_path) if check.name == "gather")
    threads, bandwidth = re.match(r"(\d+) kernel threads?: ([\d.]+) GB/s", check.look()).groups()
    assert int(threads) == gather_threads()
    assert float(bandwidth) > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gathers_with_threads_of_its_own():
    table = np.random.default_rng(0).integers(0, 256, (64, 7056), dtype=np.uint8)
    rows = np.arange(64)
    out = np.empty_like(table)
    gather_rows(table, rows, out, 2)  # the parent's worker is running now
    child = os.fork()
    if child == 0:
        out[:] = 0
        gather_rows(table, rows, out, 2)
        os._exit(0 if np.array_equal(out, table) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
