"""Which run a report is of: the tool and its versions, the date, the command and its options."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any, Final

import flow

TOOL_NAME: Final = "vta-flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The program that wrote a report, and the libraries that its numbers depend on.

    Parameters
    ----------
    name : str
        The program.
    version : str
        Its version.
    python : str
        Version of Python.
    tvm, onnx, onnxruntime, numpy : str, optional
        Versions of these libraries; null if unknown.
    """

    name: str = TOOL_NAME
    version: str = flow.__version__
    python: str = field(default_factory=python_version)
    tvm: str | None = None
    onnx: str | None = None
    onnxruntime: str | None = None
    numpy: str | None = None

    @classmethod
    def installed(cls) -> Tool:
        """Return what is installed here."""
        return cls(
            tvm=_version("apache-tvm", "tvm"),
            onnx=_version("onnx"),
            onnxruntime=_version("onnxruntime"),
            numpy=_version("numpy"),
        )


def _version(distribution: str, module: str = "") -> str | None:
    """Return an installed version; of a library that was built here, what the module says."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        found = getattr(sys.modules.get(module), "__version__", None)
        return None if found is None else str(found)


def utc_now() -> str:
    """Return the time in UTC as ISO 8601 has it, to the second: ``2026-01-31T12:00:00Z``."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Which run a report is of.

    Parameters
    ----------
    tool : Tool
        What ran.
    date : str
        When it began, in UTC.
    command : tuple of str
        The command line; empty where there was none.
    options : mapping, optional
        What was asked for, as JSON values; None where nobody asked by options.
    seeds : mapping of str to int
        Of what is drawn at random, by what it is for.
    objective : str
        What input layouts were chosen by.
    """

    tool: Tool = field(default_factory=Tool.installed)
    date: str = field(default_factory=utc_now)
    command: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    objective: str = "balanced"
