"""Collect the details of a report; a part that fails is left out, and said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flow.results.details.types import Details
from flow.system.tracebacks import explain, reason_of


def collect(makers: Mapping[str, Callable[[], Any]], folder: Path | None = None) -> Details:
    """Make each part of `Details`.

    Parameters
    ----------
    makers : mapping of str to callable
        What makes a part, by its name.
    folder : Path, optional
        Where tracebacks of errors go that nobody expected.
    """
    parts: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            parts[name] = make()
        except Exception as error:
            left_out[name] = reason_of(explain(error, folder, where=f"details-{name}"))
    return Details(**parts, left_out=left_out)
