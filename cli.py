"""The `playfield` command: finds the sub-command and turns what goes wrong into an exit code.

Nothing heavy is imported until a sub-command is known, so that `playfield --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from playfield.errors import UserError

#: What each file in `playfield/commands/` does.
COMMANDS = {
    "train": "train an agent, or a model of images: playfield train dqn --env ALE/Pong-v5",
    "resume": "go on with a run from its newest intact checkpoint",
    "eval": "play whole games with a run's agent, or measure a classifier, and report it",
    "watch": "watch a run's agent play, in the terminal or as a video file",
    "explain": "write pictures of where a run's agent looks at notable moments of a game",
    "sample": "paint images with a run's model: a picture, a folder, arrays, a film",
    "evaluate-images": "measure painted images, a run's or a folder's, against real ones",
    "data": "show what a data set holds: numbers, and a sheet of its images",
    "runs": "list the runs, all or some of them, sorted: progress, returns, state",
    "compare": "draw curves of runs side by side, averaged over seeds, in the terminal and to file",
    "report": "write one page about runs: curves, evaluations, pictures, settings",
    "tensorboard": "open the curves of all runs, or of some, in TensorBoard",
    "list": "list the algorithms, environments, presets and kinds of data",
    "doctor": "check that everything works here, and say what to do where it does not",
}

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` where None) and return its exit code.

    0: done; 1: something unexpected failed, with its traceback; 2: the user's mistake, in one
    sentence on stderr; 130: interrupted while there was something to end in order. Elsewhere an
    interrupt ends the process by the signal itself.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    from playfield.training.signals import ending_at_interrupt

    try:
        with ending_at_interrupt():
            code = _dispatch(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        if debug:
            raise
        # One line, whatever a library below put into its message.
        print(f"playfield: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        if debug:
            raise
        return EXIT_INTERRUPTED
    except SystemExit as exit_:
        # --help, and a second Ctrl-C in training: both know their own code.
        return exit_.code if isinstance(exit_.code, int) else EXIT_OK
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(help_text())
        return EXIT_OK
    name, *rest = args
    if name in ("-V", "--version"):
        print(f"playfield {version()}")
        return EXIT_OK
    if name not in COMMANDS:
        from playfield.commands.arguments import nearest

        raise UserError(
            f"{name!r} is not a command{nearest(name, COMMANDS)}; `playfield --help` lists them."
        )
    command = importlib.import_module(f"playfield.commands.{name.replace('-', '_')}")
    code: int = command.run(rest)
    return code


def help_text() -> str:
    """What `playfield --help` prints; plain text, because a formatter would cost its import."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            f"playfield {version()}: agents that play and models that paint, on one frame store",
            "",
            "usage: playfield COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "`playfield COMMAND --help` explains one command. Every command takes --debug, which",
            "shows an error's traceback. Runs are kept in runs/, or where PLAYFIELD_RUNS says.",
        ]
    )


def version() -> str:
    """The installed version, from the package's metadata."""
    from importlib import metadata

    try:
        return metadata.version("playfield")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
