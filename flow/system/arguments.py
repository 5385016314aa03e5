"""The command line: types of arguments, else argparse's sentence; lists of names in its help."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Mapping


def positive(text: str) -> int:
    """Read a positive integer."""
    return _integer(text, 1, "a positive integer")


def natural(text: str) -> int:
    """Read 0 or a positive integer."""
    return _integer(text, 0, "0 or a positive integer")


def seconds(text: str) -> float:
    """Read a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text}")
    return value


def _integer(text: str, least: int, words: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be {words}, got {text}")
    return value


def factor(text: str) -> float:
    """Read a number above 0, below 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0, below 1e6, got {text}")
    return value


class HelpFormatter(argparse.HelpFormatter):
    """Wraps each paragraph of a text by itself, and keeps those whose lines are indented."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            paragraph if "\n  " in paragraph else fill(paragraph, width, indent)
            for paragraph in text.split("\n\n")
        )


def add_list(parser: argparse.ArgumentParser, title: str, names: Mapping[str, str]) -> None:
    """Add names, each with a few words about it, to the end of a parser's help.

    Parameters
    ----------
    parser : ArgumentParser
        With a `HelpFormatter`.
    title : str
        What they are.
    names : mapping of str to str
        What each is.
    """
    column = max(map(len, names)) + 4
    lines = [
        line
        for name, about in names.items()
        for line in textwrap.wrap(
            about,
            width=79,
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
        )
    ]
    parser.epilog = "\n\n".join(("\n".join((f"{title}:", *lines)), parser.epilog or ""))
