"""What commands show: progress bars on stderr, tables on stdout.

What is found is written first and shown then, so that nothing is lost with stdout.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from flow.stages import Progress
from flow.system import process
from vta_config.errors import ArtifactError
from vta_config.text import printable

#: Columns when the output is a file or a pipe.
PLAIN_COLUMNS: Final = 132
#: Columns of the widest table in a file.
WIDEST_COLUMNS: Final = 1000


class _Console(Console):
    """A console that leaves it to us what becomes of an output that nobody reads."""

    def on_broken_pipe(self) -> None:
        """Let the error out; by default the process would end with 1."""
        raise


class Terminal:
    """Progress bars on stderr, none when it is not a terminal, or no longer one."""

    def __init__(self) -> None:
        """Look where stderr goes."""
        self._console = _Console(stderr=True)
        self._bars: Bars | None = None

    def open(self, text: str) -> Progress:
        """Start a bar."""
        if not self._console.is_terminal:
            return lambda done, total, note="": None
        bars = Bars(
            TextColumn("{task.description:<32}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        task = bars.add_task(printable(text), total=None)
        with contextlib.suppress(OSError):
            bars.start()
            self._bars = bars

        def move(done: int, total: int, note: str = "", /) -> None:
            shown = printable(f"{text}, {note}" if note else text)
            with contextlib.suppress(OSError):
                bars.update(task, completed=done, total=total or None, description=shown)

        return move

    def close(self) -> None:
        """End the bar, full."""
        bars, self._bars = self._bars, None
        if bars is not None:
            with contextlib.suppress(OSError):
                for task in bars.tasks:
                    done = task.completed or 1
                    bars.update(task.id, completed=done, total=task.total or done)
                bars.stop()


def output_console() -> Console:
    """Return where tables go: stdout, wide enough for a table when it is a file."""
    width = None if sys.stdout.isatty() else PLAIN_COLUMNS
    return _Console(highlight=False, markup=False, width=width)  # names may hold brackets


@contextlib.contextmanager
def to_stdout(kept: str = "") -> Iterator[None]:
    """Run what prints to stdout, which may be full or gone.

    Parameters
    ----------
    kept : str
        Where else the user finds the result, such as a file; "" where nowhere.

    Raises
    ------
    ArtifactError
        When stdout cannot be written to and the result is nowhere else. A reader that has read
        enough (``| head``) is no error.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        process.silence(sys.stdout)
    except OSError as error:
        process.silence(sys.stdout)
        lost = ArtifactError(
            "stdout",
            "must be writable",
            got=error.strerror or str(error),
            hint=f"the result is in {kept}" if kept else "write to another place",
        )
        if not kept:
            raise lost from None
        process.complain(str(lost))


def show(*parts: RenderableType, kept: str = "", whole: bool = False) -> None:
    """Print text and tables to stdout; see `to_stdout`.

    Parameters
    ----------
    parts : text or tables
    kept : str
        As for `to_stdout`.
    whole : bool
        Whether a file or pipe gets every cell on one line, however wide the table is.
    """
    with to_stdout(kept):
        console = output_console()
        if whole and not sys.stdout.isatty():
            widest = console.options.update(max_width=WIDEST_COLUMNS)
            console.width = max(console.measure(part, options=widest).maximum for part in parts)
        for part in parts:
            console.print(part)
