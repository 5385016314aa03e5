"""What nobody expected: its traceback goes into a file, a sentence names the file."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flow.system.files import write_atomic
from vta_config.errors import (
    ArtifactError,
    DeadlockError,
    DecodeError,
    EncodeError,
    FlowError,
    HazardError,
)

#: Packages whose versions are told.
_PACKAGES: Final = ("vta-flow", "apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxruntime")
#: What says, of a program that we made, that it is wrong.
_OUR_MISTAKES: Final = (EncodeError, DecodeError, HazardError, DeadlockError)
#: Characters of an error's own words that a sentence takes.
_WORDS: Final = 200


class InternalError(Exception):
    """A sentence about an error that is a mistake of this project, not of its input.

    Parameters
    ----------
    reason : str
        What failed, and where its traceback is.
    where : str
        What was being done; the sentence begins with it.
    text : str
        The traceback, where no file could take it.
    """

    def __init__(self, reason: str, *, where: str = "", text: str = "") -> None:
        """Keep the parts, and the traceback that no file took."""
        super().__init__(f"{where}: {reason}" if where else reason)
        self.reason = reason
        self.text = text


def explain(error: Exception, folder: Path | None = None, *, where: str = "") -> Exception:
    """Return `error` where it is about the input, else the `internal_error` that tells of it."""
    if isinstance(error, FlowError) and not isinstance(error, _OUR_MISTAKES):
        return error
    return internal_error(error, folder, where=where)


def worst(failures: Sequence[Exception]) -> Exception:
    """Return the first of `failures` that is a mistake of ours, else the first."""
    return next((f for f in failures if isinstance(f, InternalError)), failures[0])


def internal_error(
    error: BaseException, folder: Path | None = None, *, where: str = ""
) -> InternalError:
    """Write the traceback of `error` into a file of `folder`; return the sentence that says so.

    Parameters
    ----------
    error : BaseException
        What was raised.
    folder : Path, optional
        Where to; where it cannot be written to, and by default, the system's folder for temporary
        files.
    where : str
        What was being done, such as the name of a variant; part of the file's name.
    """
    text = _text(error)
    found = f"internal error, got {type(error).__name__}{_words(error)}; please report it with"
    stem = "-".join(("internal-error", *re.findall(r"[\w.]+", where)))
    folders = [] if folder is None else [folder / f"{stem}.txt"]
    folders.append(Path(_temporary_folder()) / f"vta-flow-{stem}-{os.urandom(4).hex()}.txt")
    for path in folders:
        try:
            write_atomic(path, text.encode(errors="backslashreplace"))
        except (ArtifactError, MemoryError):
            continue
        return InternalError(f"{found} {path}, which has the traceback", where=where)
    return InternalError(f"{found} this traceback:", where=where, text=text)


def reason_of(error: Exception) -> str:
    """Return the sentence of `error` as what is said of a variant, whose name stands before it."""
    return error.reason if isinstance(error, InternalError) else str(error)


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # none that can be written to
        return os.curdir


def _words(error: BaseException) -> str:
    lines = str(error).split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    return f": {first[:_WORDS]}" if first else ""


def _text(error: BaseException) -> str:
    """Return the traceback, after what a reader of it needs to know."""
    head = [f"python {platform.python_version()} on {platform.platform()}"]
    for name in _PACKAGES:
        try:
            head.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            head.append(f"{name}, not installed")
    head.append(f"called as {sys.argv}")
    return "\n".join(head) + "\n\n" + "".join(traceback.format_exception(error))
