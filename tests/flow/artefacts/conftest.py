"""Folders that may be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy_of_one(one: Path, tmp_path: Path) -> Path:
    """Return a copy of `one` that may be damaged."""
    return Path(shutil.copytree(one, tmp_path / "copy"))
