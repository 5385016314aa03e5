"""The benchmark prints what it promises, and one sentence where it cannot run."""

from __future__ import annotations

import pytest

from scripts import bench


@pytest.mark.slow
def test_figures_of_the_embedded_model(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "digits-resnet18", "--images", "2", "--calibration", "4"]
    assert bench.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits-resnet18 on default, one thread of ")
    starts = [
        "float32, ONNX Runtime",
        "int8 S8S8, ONNX Runtime",
        "int8 U8S8, ONNX Runtime",
        "fsim ",
        "tsim ",
        "fsim / float32",
        "fsim / int8 U8S8",
        "tsim / fsim",
        "fsim on ",
        "compile",
        "calibrate, 4 images",
        "GEMM step on w4 / on default",
        "peak memory",
    ]
    assert len(lines) == 1 + len(starts)
    for line, start in zip(lines[1:], starts, strict=True):
        assert line.strip().startswith(start)


def test_unknown_model_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--model", "nope"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nope: must be an ONNX file or a known name, got neither; known")
