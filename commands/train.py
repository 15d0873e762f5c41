"""`playfield train ALGORITHM`: a new run, trained until its budget is spent."""

from __future__ import annotations

from collections.abc import Sequence

from playfield.agents.registry import ALGORITHMS
from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.judges import JUDGES
from playfield.generative.registry import PAINTERS


def run(args: Sequence[str]) -> int:
    if args and not args[0].startswith("-"):
        name, *rest = args
        if name in ALGORITHMS:
            from playfield.commands import train_agent

            return train_agent.run(ALGORITHMS[name], rest)
        if name in PAINTERS:
            from playfield.commands import train_painter

            return train_painter.run(PAINTERS[name], rest)
        if name in JUDGES:
            from playfield.commands import train_classifier

            return train_classifier.run(rest)
        every = [*ALGORITHMS, *PAINTERS, *JUDGES]
        hint = arguments.nearest(name, every) or f": there are {', '.join(every)}"
        raise UserError(f"There is no algorithm {name!r}{hint}.")
    if arguments.wants_help(args):
        print(_help())
        return 0
    every = [*ALGORITHMS, *PAINTERS, *JUDGES]
    raise UserError(
        f"train wants the algorithm first (there are: {', '.join(every)}), as in `playfield train "
        "dqn --env ALE/Pong-v5` or `playfield train diffusion`."
    )


def _help() -> str:
    agents = [f"  {each.name:<12}{each.summary}" for each in ALGORITHMS.values()]
    painters = [f"  {each.name:<12}{each.summary}" for each in PAINTERS.values()]
    judges = [f"  {name:<12}{summary}" for name, summary in JUDGES.items()]
    return "\n".join(
        [
            "usage: playfield train ALGORITHM [OPTIONS]",
            "",
            "agents that play, with --env ENV",
            *agents,
            "",
            "models that paint, with --data SPEC",
            *painters,
            "",
            "judges of images, with --data SPEC",
            *judges,
            "",
            f"`playfield train {next(iter(ALGORITHMS))} --help` lists the options.",
        ]
    )
