"""What a command tells besides its results."""

from __future__ import annotations

import sys


def report(sentence: str) -> None:
    """Tell something that is no error, on stderr: results on stdout stay clean."""
    print(f"playfield: {sentence}", file=sys.stderr)
