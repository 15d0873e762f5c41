"""The film of an evaluation's first game, with what the agent thinks beside it."""

from __future__ import annotations

from playfield.envs.contract import VectorEnv
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

    It only looks on: no draw, no step and no score changes by it. Where there are no pictures (a
    package that draws them is missing) there is no film.
    """

    def __init__(self, env: VectorEnv) -> None:
        self._actions = env.spec.action_meanings
        self._rate = pictures_per_second(env.spec)
        self._camera = Camera(env)
        self._scenes: list[Scene] = []
        self._rolling = True

    def watch(self, moment: Moment) -> None:
        """Film `moment`, unless the film has ended."""
        if not self._rolling:
            return
        try:
            scene = self._camera.take(moment)
        except Interrupted:
            raise
        except Exception:  # renderers fail in ways of their own; the evaluation goes on
            self._rolling = False
            return
        self._scenes.append(scene)
        full = len(self._scenes) >= SECONDS * self._rate
        self._rolling = not (scene.ended or full)

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
