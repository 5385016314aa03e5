"""What distill shows and writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow import cli
from flow.commands import distill as command
from flow.data.distilled import image_name
from relay_passes.calibration.distill import DistillOptions
from tests.flow.fakes import call
from tests.flow.onnx_models import norm_model, save
from tests.flow.test_distill import made  # noqa: F401  # a fixture

pytestmark = pytest.mark.usefixtures("made")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(norm_model(), tmp_path / "normed.onnx")


def test_what_is_shown(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "can_plot", lambda: True)
    out = tmp_path / "out"
    args = ("distill", "--model", model, "--images", 5, "--batch", 2, "--steps", 3)
    assert call(*args, "--output", out) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert shown.err == ""
    assert lines[0].startswith("model      normed  (sha256 ") and lines[0].endswith("input 3×8×8")
    assert lines[1] == "images     5 in batches of 2, 3 steps each; seed 0, on cpu"
    assert lines[2].strip().startswith("batch 1/3: 2 images in ")
    assert lines[5] == f"written    {out}: image-00000.npy to image-00004.npy, float32[3×8×8] each"
    assert [line.strip() for line in lines[6:8]] == [
        str(out / name) for name in ("contact-sheet.png", "losses.csv")
    ]
    assert lines[-1] == f"next       vta-flow deploy --model {model} --calibration {out}"
    assert (out / image_name(4)).is_file()
    assert call(*args, "--output", out) == 0
    assert capsys.readouterr().out.count("made before") == 3
    assert call(*args, "--output", out, "--seed", 1) == 2
    assert "must hold images made with the same options, got --seed 0" in capsys.readouterr().err


def test_without_matplotlib(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "can_plot", lambda: False)
    assert call("distill", "--model", model, "--images", 1, "--output", tmp_path / "out") == 0
    assert "no plot: matplotlib is missing; install vta-flow[plot]" in capsys.readouterr().out


def test_options_of_the_method() -> None:
    parse = cli.build_parser().parse_args
    usual = command._options(parse(["distill"]))
    assert usual == DistillOptions(images=64)
    args = ["--images", "3", "--steps", "7", "--batch", "2", "--seed", "5", "--device", "cuda:1"]
    parts = ["--no-generator", "--no-latents", "--no-swing"]
    assert command._options(parse(["distill", *args, *parts])) == DistillOptions(
        images=3, steps=7, batch=2, seed=5, device="cuda:1",
        generator=False, latents=False, swing=False,
    )  # fmt: skip


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert call("distill", "--model", "nothing", "--output", tmp_path / "file") == 2
    assert "must be a folder that can be written to" in capsys.readouterr().err
