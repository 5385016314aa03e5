"""Lines that begin with a label, wrapped so that the labels stand alone on the left."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text


@dataclass(frozen=True, slots=True)
class LabelledLines:
    """Text of which each line has a label, or blanks in its place.

    Parameters
    ----------
    lines : sequence of str
    indent : int
        Columns of the label; what does not fit in one line goes on below, behind it.
    """

    lines: Sequence[str]
    indent: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, wrapped to the terminal's width."""
        width = options.max_width
        indent = " " * (self.indent if width >= 2 * self.indent else 0)
        for line in "\n".join(self.lines).split("\n"):
            wrapped = textwrap.wrap(
                line,
                width,
                subsequent_indent=indent,
                replace_whitespace=False,
                break_on_hyphens=False,
            )
            yield Text("\n".join(wrapped))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the least and the most columns."""
        longest = max((len(line) for line in "\n".join(self.lines).split("\n")), default=0)
        return Measurement(min(self.indent + 1, options.max_width), min(longest, options.max_width))
