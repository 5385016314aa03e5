"""Programs are hashed the same every time, and a change of a single one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import hash_programs

ROWS = ("default single_scale", "default profiled_fused")


@pytest.mark.slow
def test_save_and_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "before.json"
    arguments = ["--variants", "single_scale", "profiled_fused"]
    assert hash_programs.main([*arguments, "--save", str(saved)]) == 0
    hashes = json.loads(saved.read_text())
    assert tuple(hashes) == ROWS
    assert len(set(hashes.values())) == 2
    hashes[ROWS[1]] = "0" * 64
    saved.write_text(json.dumps(hashes))
    capsys.readouterr()
    assert hash_programs.main([*arguments, "--against", str(saved)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["equal", "DIFFERS"]


def test_a_model_without_images_needs_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_programs, "load_model", lambda name: name)
    monkeypatch.setattr(hash_programs, "bundled_data", lambda model: None)
    with pytest.raises(SystemExit, match="has no images of its own: give --calibration"):
        hash_programs.main(["--model", "mine.onnx"])


def test_unknown_machines_end_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert hash_programs.main(["--configs", "none"]) == 2
    assert "is neither a preset nor a readable file" in capsys.readouterr().err
