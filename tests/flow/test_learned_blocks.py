"""Learned blocks are kept in a folder, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.learned_blocks import LearnedBlocks
from vta_config.errors import ArtifactError

KEY = "0123456789abcdef" * 4
ARRAYS = {
    "rate.0": np.arange(30).reshape(5, 6) % 3 == 0,
    "bias_rate.0": np.array([0.5, -2.0], np.float32),
    "scale_rate.0": np.array(0.25, np.float32),
    "random": np.arange(256, dtype=np.uint8),
}


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    LearnedBlocks(tmp_path / "new").save(KEY, 3, ARRAYS)
    found = LearnedBlocks(tmp_path / "new").load(KEY, 3)
    assert found is not None and found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_other_runs_and_stages_are_apart(tmp_path: Path) -> None:
    kept = LearnedBlocks(tmp_path)
    kept.save(KEY, 0, ARRAYS)
    assert kept.load(KEY, 1) is None
    assert kept.load("f" + KEY[1:], 0) is None


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_damaged_files_are_as_if_nothing_was_kept(tmp_path: Path, cut: int) -> None:
    kept = LearnedBlocks(tmp_path)
    kept.save(KEY, 0, ARRAYS)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:cut])
    assert kept.load(KEY, 0) is None
    path.unlink()
    path.mkdir()
    assert kept.load(KEY, 0) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"must be a folder .* a file; choose another --cache"):
        LearnedBlocks(tmp_path / "file").save(KEY, 0, ARRAYS)
