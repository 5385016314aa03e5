"""``cache``: what is shown, and what is removed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flow.cache.store import Cache
from flow.cli import main


def filled(folder: Path) -> Path:
    for kind, count in (("programs", 2), ("logits", 1), ("older", 1)):
        for key in range(count):
            Cache(folder).put(kind, str(key), {"x": np.zeros(1 << 17)})
    (folder / "resnet18-v1-7.onnx").write_bytes(bytes(10))
    return folder


def test_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--cache", str(filled(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split("│")[1].strip(): line for line in lines if line.count("│") > 3}
    assert told.keys() == {"downloads", "programs", "logits", "older", "all"}
    assert [" ".join(cell.split()) for cell in told["programs"].split("│")[1:-1]] == [
        "programs", "compiled programs", "2", "2.10",
    ]  # fmt: skip
    assert told["all"].split("│")[-3].strip() == "5"
    assert any(str(tmp_path) in line for line in lines)
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)


def test_the_users_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["cache", "show"]) == 0
    assert "nothing is kept" in capsys.readouterr().out
    filled(tmp_path / "vta-flow")
    assert main(["cache", "show", "--json", "--kind", "logits"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["folder"] == str(tmp_path / "vta-flow") and not value["removed"]
    assert value["limit_bytes"] == 2 << 30
    assert [(own["kind"], own["files"]) for own in value["kinds"]] == [("logits", 1)]


def test_what_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(filled(tmp_path))
    assert main(["cache", "clear", "--cache", folder, "--kind", "programs"]) == 0
    assert "2 files removed, 2.10 MB" in capsys.readouterr().out
    assert main(["cache", "clear", "--cache", folder, "--json"]) == 0
    kinds = json.loads(capsys.readouterr().out)["kinds"]
    assert [own["kind"] for own in kinds] == ["logits", "older"]
    assert [path.name for path in tmp_path.iterdir()] == ["resnet18-v1-7.onnx"] or (
        not list((tmp_path / "results").rglob("*.npz"))
    )
    assert (tmp_path / "resnet18-v1-7.onnx").exists()  # it cannot be computed
    assert main(["cache", "clear", "--cache", folder, "--kind", "downloads"]) == 0
    assert not (tmp_path / "resnet18-v1-7.onnx").exists()
    assert main(["cache", "clear", "--cache", folder]) == 0  # nothing is left


def test_a_folder_whose_files_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(filled(tmp_path))

    def locked(path: Path, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", locked)
    assert main(["cache", "clear", "--cache", folder]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "must be a folder whose files can be removed, got 4 of 4 files that cannot" in told
    assert "choose another --cache, or change its permissions" in told
