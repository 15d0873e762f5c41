"""The benchmark of logging switches it off and on between blocks, and compares neighbours."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import quick, script


@pytest.fixture(scope="module")
def logging_cost() -> ModuleType:
    return script("logging_cost")


def test_the_cost_is_that_of_neighbouring_blocks(logging_cost: ModuleType) -> None:
    # The machine slows down tenfold after the first pair; of the second, the block off comes first.
    blocks = [
        logging_cost.Block(logged, 4, seconds, 0.0)
        for logged, seconds in ((True, 1.02), (False, 1.0), (False, 10.0), (True, 10.3))
    ]
    assert logging_cost.costs(blocks) == pytest.approx([0.02, 0.03])


def test_blocks_begin_after_the_first_update_and_take_turns(
    logging_cost: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(logging_cost.time, "perf_counter", lambda: now[0])
    switch = logging_cost.Switch(block=4, pairs=2)
    logged = []
    over = False
    for call in range(1, 100):
        logged.append(switch.on)
        now[0] += 1.0 if switch.on else 0.5
        over = switch.over(2 * call, updates=max(0, call - 6))
        if over:
            break
    assert over
    timed = [(block.logged, block.steps, block.seconds) for block in switch.timed]
    assert timed == [(True, 8, 4.0), (False, 8, 2.0), (False, 8, 2.0), (True, 8, 4.0)]
    # Learning begins with the seventh step, so the first block does after the eighth.
    assert logged == [True] * 8 + [True] * 4 + [False] * 8 + [True] * 4


@pytest.mark.slow
def test_the_benchmark_of_logging_runs(tmp_path: Path) -> None:
    record = quick("logging_cost", tmp_path)
    assert set(record["results"]) == {"dqn", "ppo"}
    for result in record["results"].values():
        assert [block["logged"] for block in result["blocks"]] == [True, False, False, True]
        assert 0 < result["counted"]["loop"] < 1 and 0 < result["counted"]["writer"] < 1
    assert [target["wanted"] for target in record["targets"]] == [0.02, 0.02]
