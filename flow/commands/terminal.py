"""What commands show: progress bars on stderr, tables on stdout.

What is found is written first and shown then, so that nothing is lost with stdout.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

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
#: Seconds after which a stage has its first line where there are no bars, and the most seconds
#: between two.
FIRST_LINE_S = 10.0
MOST_SECONDS_BETWEEN: Final = 60.0


class _Console(Console):
    """A console that leaves it to us what becomes of an output that nobody reads."""

    def on_broken_pipe(self) -> None:
        """Let the error out; by default the process would end with 1."""
        raise


class Terminal:
    """Progress on stderr: bars on a terminal; elsewhere a line now and then of what takes long.

    Parameters
    ----------
    verbosity : {-1, 0, 1}
        -1: no progress; 1: also a line with the time of every stage.
    """

    def __init__(self, verbosity: int = 0) -> None:
        """Look where stderr goes."""
        self._console = _Console(stderr=True)
        self._bars: Bars | None = None
        self._verbosity = verbosity
        self._lines: list[StageLines] = []

    def open(self, text: str) -> Progress:
        """Start a bar, or lines."""
        if self._verbosity < 0:
            return lambda done, total, note="": None
        is_terminal = self._console.is_terminal
        if self._verbosity > 0 or not is_terminal:
            self._lines.append(StageLines(text, repeat=not is_terminal, end=self._verbosity > 0))
        if not is_terminal:
            return self._lines[-1].move
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
        """End the bar, full, or the lines."""
        bars, self._bars = self._bars, None
        if bars is not None:
            with contextlib.suppress(OSError):
                for task in bars.tasks:
                    done = task.completed or 1
                    bars.update(task.id, completed=done, total=task.total or done)
                bars.stop()
        if self._lines:
            self._lines.pop().close()


class StageLines:
    """Lines on stderr that tell of one stage.

    The first comes after `FIRST_LINE_S`, each further one after twice the time, at most
    `MOST_SECONDS_BETWEEN`. One that took so long also has a line at its end.

    Parameters
    ----------
    text : str
        What the stage does.
    repeat : bool
        Whether there are lines while it runs.
    end : bool
        Whether there is a line at its end in any case.
    """

    def __init__(self, text: str, *, repeat: bool, end: bool) -> None:
        """Start the clock."""
        self._text, self._end, self._note = text, end, ""
        self._begin, self._wait = time.monotonic(), FIRST_LINE_S
        self._told, self._closed = False, threading.Event()
        if repeat:
            threading.Thread(target=self._watch, daemon=True).start()

    def move(self, done: int, total: int, note: str = "", /) -> None:
        """Keep how far it is, for the next line."""
        count = f"{done:,} of {total:,}" if total else f"{done:,}"
        self._note = f"{count}, {note}" if note else count

    def close(self) -> None:
        """End the lines."""
        self._closed.set()
        if self._end or self._told:
            self._tell("done")

    def _watch(self) -> None:
        while not self._closed.wait(self._wait):
            self._told = True
            self._tell(self._note or "running")
            self._wait = min(2 * self._wait, MOST_SECONDS_BETWEEN)

    def _tell(self, what: str) -> None:
        seconds = time.monotonic() - self._begin
        with contextlib.suppress(OSError, ValueError):  # stderr is gone, or closed
            sys.stderr.write(printable(f"{self._text}: {what}, {seconds:.1f} s") + "\n")
            sys.stderr.flush()


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


def show_json(value: Any, kept: str = "") -> None:
    """Write a value to stdout as JSON; see `to_stdout`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with to_stdout(kept):
        # A name that is no UTF-8 becomes an escape of JSON.
        sys.stdout.write(text.encode(errors="backslashreplace").decode())


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
