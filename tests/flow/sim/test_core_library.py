"""Finding and loading the C++ core."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.sim import load_library
from flow.sim.core_library import LIBRARY
from vta_config.config_words import config_words
from vta_config.errors import ArtifactError
from vta_config.hardware import VTAConfig


def test_loads_once() -> None:
    assert load_library() is load_library()


def test_missing_library(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"{LIBRARY}: must exist; install the package, or run"):
        load_library(tmp_path)


def test_broken_library(tmp_path: Path) -> None:
    (tmp_path / LIBRARY).write_bytes(b"not a library")
    with pytest.raises(ArtifactError, match=r"must be a loadable library, got .*; build it again"):
        load_library(tmp_path)


def test_config_words() -> None:
    words = config_words(VTAConfig.load("default"), arena_bytes=4096)
    assert words == [3, 3, 5, 0, 4, 15, 15, 18, 17, 64, 0, 100000000, 4096, 0, 16, 0]
    words[14], words[12] = 256, 0
    assert config_words(VTAConfig.load("pynq")) == words
