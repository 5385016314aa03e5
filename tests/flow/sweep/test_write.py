"""The files of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.sweep.write import write
from tests.flow.sweep.sweeps import sweep
from vta_config.errors import ArtifactError


def test_files(tmp_path: Path) -> None:
    found = sweep()
    names = [path.name for path in write(found, tmp_path / "out", {})]
    assert names == ["machines.json", "machines.csv", "machines.html", "machines.svg"]
    assert json.loads((tmp_path / "out" / "machines.json").read_text()) == found.to_json()
    assert (tmp_path / "out" / "machines.svg").read_text().startswith("<svg xmlns=")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ArtifactError, match="must be writable"):
        write(sweep(), tmp_path / "out", {})
