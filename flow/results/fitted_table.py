"""A table that leaves columns out where not all of them fit, so that every name stays whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

#: Columns of a terminal in which any table fits.
_WIDEST: Final = 10_000


class FittedTable(Table):
    """A table with columns of different importance.

    Columns of the highest rank are left out first, the last of several first; those of rank 0 never
    are. A line below names what is left out.
    """

    def __init__(self, *, padding: int | tuple[int, int] = (0, 1)) -> None:
        """Start without columns."""
        super().__init__(header_style="bold", padding=padding)
        self._ranks: list[int] = []

    def add(
        self,
        heading: str,
        *,
        rank: int = 0,
        is_number: bool = True,
    ) -> None:
        """Add a column.

        Parameters
        ----------
        heading : str
            The quantity and its unit; may have several lines.
        rank : int
            The higher, the sooner it is left out.
        is_number : bool
            Whether its cells are aligned to the right.
        """
        self.add_column(heading, justify="right" if is_number else "left", overflow="fold")
        self._ranks.append(rank)

    def left_out(self, console: Console, options: ConsoleOptions) -> list[int]:
        """Return which columns are left out so that the others fit."""
        wide = options.update(max_width=_WIDEST, width=_WIDEST)
        gone: list[int] = []
        while Measurement.get(console, wide, self._without(gone)).maximum > options.max_width:
            rest = [i for i, rank in enumerate(self._ranks) if rank and i not in gone]
            if not rest:
                break
            gone.append(max(rest, key=lambda i: (self._ranks[i], i)))
        return sorted(gone)

    def _without(self, gone: list[int]) -> Table:
        """Return the same table without some columns."""
        left = [column for i, column in enumerate(self.columns) if i not in gone]
        table = Table(header_style=self.header_style, padding=self.padding)
        table.columns = [replace(column, _index=i) for i, column in enumerate(left)]
        table.rows = self.rows
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, and what is left out."""
        gone = self.left_out(console, options)
        yield self._without(gone)
        if gone:
            headings = (str(self.columns[i].header).replace("-\n", "") for i in gone)
            names = (" ".join(heading.split()) for heading in headings)
            yield f"in a wider terminal also: {', '.join(names)}"
