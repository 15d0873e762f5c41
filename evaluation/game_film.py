"""The film of an evaluation's first game, with what the agent thinks beside it."""

from __future__ import annotations

import numpy as np

from playfield.envs.contract import VectorEnv, VectorStep
from playfield.evaluation.games import Moment
from playfield.evaluation.overlay import Panel
from playfield.evaluation.scenes import Camera, Scene, pictures_per_second
from playfield.evaluation.video import gif
from playfield.training.media import Film
from playfield.training.signals import Interrupted

#: A film is as long as the game, but not longer than this, at the speed of the original.
SECONDS = 20.0
#: A film that comes out larger is cut; 20 seconds of Pong are 0.5 MB.
MAX_BYTES = 1_000_000
#: Atari is shown as it is, small worlds enlarged.
MIN_HEIGHT = 160


class GameFilm:
    """Films environment 0 as its moments pass by, up to the end of its first game.

    What is filmed is a double: one environment that can be shown, with environment 0's seed and
    actions. So no draw, step or score of the evaluation changes by it, and nothing but the
    evaluation runs on once the film is full: the double is closed then. Where there are no pictures
    (a package that draws them is missing), or the double plays another game, there is no film.

    `double` is fresh and from now on the film's own; `seed` is what the evaluation resets to.
    """

    def __init__(self, double: VectorEnv, seed: int) -> None:
        self._double, self._seed = double, seed
        self._actions = double.spec.action_meanings
        self._rate = pictures_per_second(double.spec)
        self._camera = Camera(double)
        self._scenes: list[Scene] = []
        self._rolling = True

    @property
    def rolling(self) -> bool:
        """Whether there is more to film."""
        return self._rolling

    def watch(self, moment: Moment) -> None:
        """Film `moment`, unless the film has ended; every one has to be shown, in order."""
        if not self._rolling:
            return
        try:
            step = self._follow()
            if not np.array_equal(step.frames[0], moment.step.frames[0]):
                self._give_up()  # its seed does not fix the environment
                return
            scene = self._camera.take(moment)
        except Interrupted:
            raise
        except Exception:  # renderers fail in ways of their own; the evaluation goes on
            self.close()
            return
        self._scenes.append(scene)
        if scene.ended or len(self._scenes) >= SECONDS * self._rate:
            self.close()

    def close(self) -> None:
        """Film no more and end the double. Closing twice is harmless."""
        if self._rolling:
            self._rolling = False
            try:
                self._double.close()
            except Interrupted:
                raise
            except Exception:  # renderers fail in ways of their own here too
                pass

    def _follow(self) -> VectorStep:
        if not self._scenes:
            return self._double.reset(self._seed)
        return self._double.step(np.array([self._scenes[-1].action], np.int64))

    def _give_up(self) -> None:
        self._scenes.clear()
        self.close()

    def developed(self) -> Film | None:
        """The film so far as a GIF of at most 1 MB; None where nothing was filmed."""
        if not self._scenes:
            return None
        panel = Panel(self._actions, min_height=MIN_HEIGHT)
        pictures = [panel.draw(scene) for scene in self._scenes]
        encoded = gif(pictures, self._rate)
        while len(encoded) > MAX_BYTES and len(pictures) > 1:
            # Pictures differ in size: a little less than what fits on average.
            share = 0.95 * MAX_BYTES / len(encoded)
            pictures = pictures[: max(1, int(share * len(pictures)))]
            encoded = gif(pictures, self._rate)
        height, width, _ = pictures[0].shape
        return Film(encoded, height, width)
