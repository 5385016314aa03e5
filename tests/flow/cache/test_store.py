"""The folder of results: whole files, damage, eviction, several processes."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from flow.cache.store import LEARNED, RESULTS, Cache, files_in

ARRAYS = {
    "weights": np.arange(12, dtype=np.int8).reshape(3, 4),
    "scale": np.array(0.25, np.float32),
    "none": np.zeros((0, 3)),
}


def same(found: dict[str, np.ndarray] | None, wanted: dict[str, np.ndarray]) -> bool:
    return found is not None and found.keys() == wanted.keys() and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and np.array_equal(found[name], array)
        for name, array in wanted.items()
    )  # fmt: skip


def big(kib: int) -> dict[str, np.ndarray]:
    return {"x": np.zeros(kib << 10, np.uint8)}


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    Cache(tmp_path / "new").put("kind", "key", ARRAYS)
    assert same(Cache(tmp_path / "new").get("kind", "key"), ARRAYS)
    assert Cache(tmp_path / "new").get("kind", "other") is None
    assert Cache(tmp_path / "new").get("other", "key") is None


def test_json_and_parts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_text("kind", "key", {"a": [1, None, "\udc80"]})
    assert cache.get_text("kind", "key") == {"a": [1, None, "\udc80"]}
    assert cache.get_text("kind", "none") is None
    cache.put("kind", "key", ARRAYS)
    assert cache.get_text("kind", "key") is None  # no text in it
    for part in "ba":
        cache.put("rows", f"key/{part}", {"x": np.array(ord(part))})
    assert [int(part["x"]) for part in cache.parts("rows", "key")] == [97, 98]
    assert not list(cache.parts("rows", "other"))


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None)
    cache.put("kind", "key", ARRAYS)
    cache.put("kind", "key/part", ARRAYS)
    cache.trim()
    assert cache.get("kind", "key") is None and not list(cache.parts("kind", "key"))
    assert not cache.enabled and cache.path("kind", "key") is None


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "pickle", "folder", "pipe"])
def test_what_is_damaged_or_foreign_is_written_anew(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    cache.put("kind", "key", ARRAYS)
    path = cache.path("kind", "key")
    assert path is not None
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[data.index(ARRAYS["weights"].tobytes())] ^= 1
    if damage in ("folder", "pipe"):
        path.unlink()
        path.mkdir() if damage == "folder" else os.mkfifo(path)
    elif damage == "pickle":
        np.savez(path, x=np.array([object()]))
    else:
        path.write_bytes({"empty": b"", "cut": data[:-30], "text": b"hello"}.get(damage, data))
    assert cache.get("kind", "key") is None
    cache.put("kind", "key", ARRAYS)
    if damage != "folder":  # which may be somebody's
        assert same(cache.get("kind", "key"), ARRAYS)


def test_a_damaged_part_does_not_hide_others(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for part in "abc":
        cache.put("rows", f"key/{part}", {"x": np.array(ord(part))})
    path = cache.path("rows", "key/b")
    assert path is not None
    path.write_bytes(b"PK")
    assert [int(part["x"]) for part in cache.parts("rows", "key")] == [97, 99]
    assert not path.exists()


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    cache.put("kind", "key", ARRAYS)
    assert cache.get("kind", "key") is None


def test_what_was_not_used_for_the_longest_time_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=40 << 10)
    for age, key in enumerate(("c", "b", "a")):
        cache.put("kind", key, big(10))
        path = cache.path("kind", key)
        assert path is not None
        os.utime(path, (age, age))
    assert cache.get("kind", "c") is not None  # used now
    cache.put("kind", "d", big(10))
    assert [file.path.stem for file in files_in(tmp_path)] == ["a", "c", "d"]
    cache.put("rows", "e/part", big(35))
    assert [file.path.stem for file in files_in(tmp_path)] == ["part"]
    assert not (tmp_path / RESULTS / "kind").exists()  # with its last file
    cache.put("kind", "larger", big(50))
    assert not files_in(tmp_path)


def test_learned_weights_count_and_files_of_others_stay(tmp_path: Path) -> None:
    stage = tmp_path / LEARNED / "0123" / "stage-000.npz"
    others = [tmp_path / "model.onnx", tmp_path / RESULTS / "mine.npz", stage.with_name("x.npz")]
    for path in (stage, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(30 << 10))
    link = tmp_path / RESULTS / "kind" / "link.npz"
    link.parent.mkdir()
    link.symlink_to(others[0])
    os.utime(stage, (1, 1))
    Cache(tmp_path, limit_bytes=40 << 10).put("kind", "key", big(20))
    assert [(file.kind, file.path.name) for file in files_in(tmp_path)] == [("kind", "key.npz")]
    assert all(path.exists() for path in (*others, link))


def _write(folder: Path, number: int) -> None:
    cache = Cache(folder, limit_bytes=200 << 10)
    for i in range(30):
        cache.put("kind", f"{i % 7}", {"x": np.full(30 << 10, i % 7, np.uint8)})
        found = cache.get("kind", f"{(i * number) % 7}")
        assert found is None or (found["x"] == (i * number) % 7).all()


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, n)) for n in (2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    files = files_in(tmp_path)
    assert files and sum(file.file_bytes for file in files) <= 200 << 10
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npz"}
