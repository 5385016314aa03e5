"""Finding and loading the C++ core."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.sim import load_library
from flow.sim.core_library import LIBRARY
from vta_config.errors import ArtifactError


def test_loads_once() -> None:
    assert load_library() is load_library()


def test_missing_library(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"{LIBRARY}: must exist; install the package, or run"):
        load_library(tmp_path)


def test_broken_library(tmp_path: Path) -> None:
    (tmp_path / LIBRARY).write_bytes(b"not a library")
    with pytest.raises(ArtifactError, match=r"must be a loadable library, got .*; build it again"):
        load_library(tmp_path)
