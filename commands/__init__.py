"""One file per sub-command of `playfield`: its options, and `run(args) -> exit code`."""
