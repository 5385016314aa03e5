"""What lies in a cache folder: every kind is found and removed, files of others stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow.cache.folder import DOWNLOADS, KINDS, clear, look
from flow.cache.store import LEARNED, Cache

OWN = {
    "models/resnet18-v1-7.onnx": DOWNLOADS,
    "resnet50-v2-7.onnx": DOWNLOADS,
    "schedules.json": "schedules",
    "measurements.json": "measurements",
    "distilled/0123/image-00000.npy": "distilled",
    "distilled/0123/distilled.json": "distilled",
    "learned/0123/stage-000.npz": LEARNED,
}
OTHERS = (
    "mine.onnx", "results/mine.npz", "results/kind/key.txt", "distilled/mine.npy",
    "learned/0123/mine.npz", "schedules.json.lock", "models/mine.txt",
)  # fmt: skip


def filled(folder: Path) -> None:
    for name in (*OWN, *OTHERS):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10))
    for key in ("a", "b/part"):
        Cache(folder).put("programs", key, {"x": np.zeros(3)})


def test_every_kind_is_found(tmp_path: Path) -> None:
    filled(tmp_path)
    found = {own.kind: own for own in look(tmp_path)}
    assert found.keys() == {*OWN.values(), "programs"} and found.keys() <= KINDS.keys()
    assert list(found) == [kind for kind in KINDS if kind in found]
    assert found[DOWNLOADS].to_json() == {"kind": DOWNLOADS, "files": 2, "bytes": 20}
    assert len(found["programs"].files) == 2
    assert not look(tmp_path / "none") and not look(tmp_path / "mine.onnx")


def test_what_is_cleared_is_gone_and_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path)
    seen: list[int] = []
    assert clear(look(tmp_path), lambda: seen.append(1)) == len(OWN) + 2 == len(seen)
    assert not look(tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(OTHERS)
    assert not (tmp_path / "results" / "programs").exists()  # with its last file


def test_the_folder_itself_stays(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "cache"
    folder.mkdir(parents=True)
    (folder / "schedules.json").write_text("{}")
    Cache(folder).put("programs", "key", {"x": np.zeros(3)})
    assert clear(look(folder)) == 2
    assert folder.is_dir() and not (folder / "results" / "programs").exists()


def test_a_kind_of_another_version_is_found(tmp_path: Path) -> None:
    Cache(tmp_path).put("older", "key", {"x": np.zeros(3)})
    assert [own.kind for own in look(tmp_path)] == ["older"]
    assert clear(look(tmp_path)) == 1 and not look(tmp_path)
