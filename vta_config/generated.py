"""The command of a generator: write files that follow from the source, or tell which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vta_config.errors import ArtifactError, FlowError


def write_or_check(
    command: str,
    description: str,
    files: Callable[[], Sequence[tuple[Path, str]]],
    argv: Sequence[str] | None = None,
) -> int:
    """Write the files, or with ``--check`` only compare them; return the exit code.

    Parameters
    ----------
    command : str
        How the generator is called, as ``python -m package.generate``.
    description : str
        For its help.
    files : callable () -> sequence of (Path, str)
        Returns the files and their texts.
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0, or 2 when a file is stale or missing: stderr has the sentence that names the first one.
    """
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument(
        "--check", action="store_true", help="only compare; exit with 2 when a file is stale"
    )
    options = parser.parse_args(argv)
    try:
        for path, text in files():
            if not options.check:
                path.write_text(text, encoding="utf-8")
            elif not path.is_file() or path.read_text(encoding="utf-8") != text:
                raise ArtifactError(
                    path.name, "must be up to date", got="other text", hint=f"run {command}"
                )
    except FlowError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
