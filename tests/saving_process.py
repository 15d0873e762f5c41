"""Kills processes in the middle of saves, and looks at what is left; run by a test.

    python saving_process.py FOLDER TRIALS SEED

Every trial forks a process that plays and saves over and over, kills it at a random moment of one
of its saves, and loads what is there. The moment is a part of what a save takes here, not of a
second, so a slow machine is not killed before it begins. Prints one line `<steps found> <folder is
clean>` per trial. A script of its own, because only a process without threads should fork.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from saved_store import Player, new_store

from playfield.buffers import pages
from playfield.buffers.store import FrameStore

pages.PAGE_RECORDS = 8
STEPS = 7  # played between two saves


def main(folder: Path, trials: int, seed: int) -> None:
    rng = random.Random(seed)
    folder.mkdir()
    new_store().save(folder)
    for _ in range(trials):
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            play_and_save(folder, tell)
        wait_into_a_save(told, rng)
        os.close(told)
        os.close(tell)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = FrameStore.load(folder)
        steps = int(found.head[0])
        player = Player(new_store())
        player.play(steps)
        player.assert_in(found)
        found.save(folder)  # what the killed process left is cleared away
        names = {page.name for page in found.saved_pages[(folder / "pages").resolve()]}
        print(steps, {path.name for path in (folder / "pages").iterdir()} == names)


def wait_into_a_save(told: int, rng: random.Random) -> None:
    """Return somewhere in the second to fifth save of who writes to `told`, or soon after."""
    seconds = 0.0
    for _ in range(rng.randint(2, 5)):
        begun = time.monotonic()
        os.read(told, 1)
        seconds = time.monotonic() - begun  # that a save and the game before it take
    time.sleep(rng.uniform(0.0, 1.0) * seconds)


def play_and_save(folder: Path, tell: int) -> None:
    """Go on from what is saved, for ever, as one who had played all of it.

    A byte in `tell` says that a save begins.
    """
    store = FrameStore.load(folder)
    player = Player(store)
    twin = Player(new_store())
    twin.play(int(store.head[0]))
    player.rng, player.history = twin.rng, twin.history
    while True:
        player.play(STEPS)
        os.write(tell, b".")
        store.save(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
