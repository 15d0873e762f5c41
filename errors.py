"""The errors that playfield raises for its users' sake."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's, in one sentence: the thing, what was expected, what to do.

    The command line prints the sentence and exits with code 2; it never shows a traceback for one
    unless `--debug` asks for it.
    """


class DamagedFileError(UserError):
    """A saved file, truncated, altered or not ours; the sentence names the file and the field."""
