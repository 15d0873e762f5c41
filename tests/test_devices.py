"""Devices, threads and precision."""

import os
import platform
from pathlib import Path

import pytest
import torch

from playfield.errors import UserError
from playfield.training import devices
from playfield.training.devices import (
    autocast,
    precision,
    resolve_device,
    set_threads,
    share_cores,
    usable_cores,
)

CPU = torch.device("cpu")


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("cpu:0") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda:-1", "meta", "xpu:7"])
def test_a_name_that_is_no_device_is_refused_with_the_names_that_are(name: str) -> None:
    with pytest.raises(UserError, match="use auto, cpu, cuda, cuda:1 or mps"):
        resolve_device(name)


def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    with pytest.raises(UserError, match="there are 1"):
        resolve_device("cuda:1")


def test_usable_cores_never_exceed_the_affinity() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_a_quota_anywhere_above_binds(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/pod/box\n")
    root = tmp_path / "fs"
    (root / "pod" / "box").mkdir(parents=True)
    (root / "pod" / "box" / "cpu.max").write_text("max 100000\n")
    assert devices._cgroup_quota(membership, root) is None
    (root / "pod" / "cpu.max").write_text("250000 100000\n")
    assert devices._cgroup_quota(membership, root) == 2.5


def test_a_quota_of_the_first_cgroup_version_is_read(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("5:memory:/x\n4:cpu,cpuacct:/box\n")
    group = tmp_path / "fs" / "cpu" / "box"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("150000\n")
    (group / "cpu.cfs_period_us").write_text("50000\n")
    assert devices._cgroup_quota(membership, tmp_path / "fs") == 3.0


def test_threads_are_set_as_asked() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
        assert set_threads(None) == torch.get_num_threads() == usable_cores()
        with pytest.raises(UserError, match="1 or more"):
            set_threads(0)
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


def test_precision_can_be_chosen_and_auto_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert precision(CPU, "float32") is None
    assert precision(CPU, "bfloat16") is torch.bfloat16
    for native, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(devices, "_cpu_multiplies_bfloat16", lambda native=native: native)
        assert precision(CPU, "auto") is expected
    with pytest.raises(UserError, match="auto, float32 or bfloat16"):
        precision(CPU, "float16")


def test_autocast_can_be_entered_again_and_again_and_leaves_no_trace() -> None:
    layer = torch.nn.Linear(4, 4)
    context = autocast(CPU, torch.bfloat16)
    for _ in range(3):
        with context:
            assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
        assert layer(torch.ones(1, 4)).dtype == torch.float32
    with autocast(CPU, None):
        assert layer(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_stay_with_the_process():
    resource = pytest.importorskip("resource")
    assert devices.keep_freed_memory()

    def page_faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def work():  # 16 MB, each page touched
        for _ in range(10):
            torch.ones(4_000_000)

    work()
    before = page_faults()
    work()
    assert page_faults() - before < 1_000  # of the 39,000 pages that were touched


@pytest.mark.parametrize(
    ("cores", "overlap", "expected"),
    [(2, False, (2, 2)), (2, True, (1, 1)), (1, True, (1, 1)), (5, True, (3, 2))],
)
def test_learning_and_emulating_share_the_cores_where_they_run_at_once(
    monkeypatch: pytest.MonkeyPatch, cores: int, overlap: bool, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    assert share_cores(None, overlap=overlap) == expected
    assert share_cores(3, overlap=overlap) == (3, 3)
