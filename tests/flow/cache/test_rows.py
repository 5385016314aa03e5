"""Rows by image: written while a run goes on, found again by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.cache.rows import KeptRows
from flow.cache.store import Cache, files_in

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_rows_are_found_by_image(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    kept = KeptRows(cache, "kind", "key", ["a", "b", "c", "d"])
    for index in (2, 0):
        kept.keep(index, ROWS[index])
    kept.write()
    kept.keep(1, ROWS[1])  # never written: the run was stopped
    found = KeptRows(cache, "kind", "key", ["x", "c", "b", "a", "c"]).found(3)
    assert {index: row.tolist() for index, row in found.items()} == {
        1: ROWS[2].tolist(), 3: ROWS[0].tolist(), 4: ROWS[2].tolist(),
    }  # fmt: skip
    assert not KeptRows(cache, "kind", "other", ["a"]).found(3)
    assert not KeptRows(cache, "other", "key", ["a"]).found(3)
    assert not KeptRows(cache, "kind", "key", ["a"]).found(2)  # another network's


def test_rows_are_written_in_time(tmp_path: Path) -> None:
    kept = KeptRows(Cache(tmp_path), "kind", "key", ["a", "b"], every_s=0.0)
    kept.keep(0, ROWS[0])
    kept.keep(1, ROWS[1])
    assert len(files_in(tmp_path)) == 2
    kept.write()  # nothing is left
    assert len(files_in(tmp_path)) == 2
    KeptRows(Cache(tmp_path), "kind", "key", ["a", "b"], every_s=60.0).keep(0, ROWS[0])
    assert len(files_in(tmp_path)) == 2


def test_a_row_that_is_changed_afterwards(tmp_path: Path) -> None:
    kept, row = KeptRows(Cache(tmp_path), "kind", "key", ["a"]), ROWS[0].copy()
    kept.keep(0, row)
    row[:] = -1
    kept.write()
    assert kept.found(3)[0].tolist() == ROWS[0].tolist()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"json": np.frombuffer(b'["a"]', np.uint8)},
        {"json": np.frombuffer(b'["a", "b"]', np.uint8), "rows": ROWS[:1]},
        {"json": np.frombuffer(b"[[1]]", np.uint8), "rows": ROWS[:1]},
        {"json": np.frombuffer(b'["a"]', np.uint8), "rows": ROWS[:1].astype(np.float64)},
        {"json": np.frombuffer(b'{"a": 1}', np.uint8), "rows": ROWS[:1]},
    ],
)
def test_foreign_parts_are_ignored(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    cache = Cache(tmp_path)
    cache.put("kind", "key/part", arrays)
    assert not KeptRows(cache, "kind", "key", ["a"]).found(3)
