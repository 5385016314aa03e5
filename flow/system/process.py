"""The process around a command: signals, standard streams, exit codes, errors nobody expected.

What stands between Python and the first import of TVM or ONNX, which takes seconds: nothing here is
imported that takes time. `flow.commands` says what the commands do.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

EXIT_MISMATCH: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERNAL: Final = 3
#: A signal ends the process with 128 and its number, as shells count: 130 is SIGINT.
EXIT_SIGNAL: Final = 128
EXIT_INTERRUPTED: Final = EXIT_SIGNAL + signal.SIGINT
_SIGNALS: Final = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal went away",
}
#: How long code that Python cannot stop is waited for.
_PATIENCE_S: Final = 0.3


@dataclass(slots=True)
class Work:
    """What is known of a command while it runs.

    Parameters
    ----------
    folder : Path, optional
        Where it writes to.
    """

    folder: Path | None = None


# ---- standard streams ----------------------------------------------------------------------------
#: What an output that has fewer characters shows instead; one column for one.
_PLAIN: Final = {
    "–": "-", "−": "-", "×": "x", "…": "~", "Δ": "d", "²": "2", "·": ".", "→": ">", "µ": "u",
}  # fmt: skip
_ERRORS: Final = "vta-plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks by as many columns of ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, "?" * _columns(c)) for c in bad), error.end


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def open_streams() -> None:
    """Give the process all three standard streams, and let them write any text.

    A file opened later would take the number of a stream that is closed (``>&-``), and what
    libraries print would go into it: such a stream becomes ``/dev/null``.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.dup(number), "r" if number == 0 else "w"))
    codecs.register_error(_ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def silence(stream: object) -> None:
    """Let `stream`, which cannot be written to, go nowhere, so that Python can end in peace."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[attr-defined]
        os.close(null)


def complain(text: str) -> None:
    """Write one line to stderr, where that is possible."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)


# ---- signals -------------------------------------------------------------------------------------
def take_over(prog: str) -> None:
    """Let signals end this process at once, whatever it is doing; for one that is ours alone.

    An exception would not do: raised while a module is imported or inside a callback of native
    code, it comes out as another error, or is printed and forgotten. Here files that are half
    written are removed, and the process ends, from the handler; or, where the main thread is in
    native code, from a thread that the C part of Python's handler wakes.
    """
    leaving = threading.Lock()

    def leave(number: int) -> None:
        if not leaving.acquire(blocking=False):
            time.sleep(10 * _PATIENCE_S)  # another thread is about to end the process
            return
        files = sys.modules.get("flow.system.files")
        if files is not None:
            with contextlib.suppress(Exception):
                files.discard_temporaries()
        with contextlib.suppress(OSError):
            shown = "\n\x1b[?25h" if os.isatty(2) and os.environ.get("TERM") != "dumb" else ""
            os.write(2, f"{shown}{prog}: {_SIGNALS[signal.Signals(number)]}\n".encode())
        os._exit(EXIT_SIGNAL + number)

    ours = []
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # e.g. nohup, or `&` in a script
            signal.signal(number, lambda number, frame: leave(number))
            ours.append(number)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def watch() -> None:
        while True:
            (number,) = os.read(woken, 1)
            if number in ours:
                time.sleep(_PATIENCE_S)
                leave(number)

    threading.Thread(target=watch, name="signals", daemon=True).start()


def settle() -> None:
    """Ignore signals from here on: the result stands, and Python is about to end."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


# ---- running -------------------------------------------------------------------------------------
def run(prog: str, body: Callable[[Work], int]) -> int:
    """Run a command and return its exit code; an error becomes one line on stderr.

    Parameters
    ----------
    prog : str
        What the user called.
    body : callable
        Returns the exit code; is given what it may fill.

    Raises
    ------
    SystemExit
        As argparse does for ``--help`` and for options that it refuses.
    """
    open_streams()
    work = Work()
    try:
        code = body(work)
    except KeyboardInterrupt:
        complain(f"{prog}: interrupted")
        code = EXIT_INTERRUPTED
    except SystemExit as stop:
        raise SystemExit(_flush(prog, stop.code if isinstance(stop.code, int) else 0)) from None
    except Exception as error:
        code = _explain(prog, error, work)
    return _flush(prog, code)


def _explain(prog: str, error: Exception, work: Work) -> int:
    from flow.system.tracebacks import InternalError, internal_error
    from vta_config.errors import FlowError

    if isinstance(error, FlowError):
        complain(f"{prog}: {error}")
        return EXIT_BAD_INPUT
    if isinstance(error, OSError) and error.errno is not None:  # a path, a full disk
        where = os.fsdecode(error.filename) if error.filename else "a file"
        complain(
            f"{prog}: {where}: must be usable, got {error.strerror or error}; "
            "check the paths given and the space left"
        )
        return EXIT_BAD_INPUT
    told = error if isinstance(error, InternalError) else internal_error(error, work.folder)
    complain(f"{prog}: {told}")
    for line in told.text.splitlines():  # no file could be written
        complain(line)
    return EXIT_INTERNAL


def _flush(prog: str, code: int) -> int:
    """Write what stdout still holds: too late for a reader that has gone is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        complain(f"{prog}: stdout: must be writable, got {getattr(error, 'strerror', error)}")
        return code or EXIT_BAD_INPUT
    return code
