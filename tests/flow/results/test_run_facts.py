"""flow.results.run_facts: versions, date and command of a run."""

from __future__ import annotations

import platform
import re
import sys
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

import flow
from flow.results import run_facts
from flow.results.run_facts import RunFacts, Tool, utc_now


def test_versions_are_those_of_the_libraries() -> None:
    tool = Tool.installed()
    assert (tool.name, tool.version) == ("vta-flow", flow.__version__)
    assert tool.python == platform.python_version()
    assert (tool.numpy, tool.onnx) == (np.__version__, onnx.__version__)
    assert tool.onnxruntime == onnxruntime.__version__
    assert tool.tvm is not None and re.match(r"\d+\.\d+", tool.tvm)


def test_library_that_was_built_here_or_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "built_here", SimpleNamespace(__version__="0.28.dev1"))
    assert run_facts._version("no-such-package", "built_here") == "0.28.dev1"
    assert run_facts._version("no-such-package", "no_such_module") is None


def test_date_is_utc() -> None:
    found = datetime.strptime(utc_now(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - found) < timedelta(seconds=30)
    assert RunFacts(date="d", command=("a", "b")).command == ("a", "b")


def test_the_version_stands_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", flow.__version__)
