"""The benchmark prints what it promises, and one sentence where it cannot run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from scripts import bench
from vta_config import VTAConfig


def test_random_network_is_a_resnet18() -> None:
    proto = bench._ResNet18().model()
    onnx.checker.check_model(proto)
    kinds = [node.op_type for node in proto.graph.node]
    assert (kinds.count("Conv"), kinds.count("Add"), kinds.count("Gemm")) == (20, 8, 1)
    weights = sum(int(np.prod(w.dims)) for w in proto.graph.initializer)
    assert 11_600_000 < weights < 11_800_000


@pytest.mark.slow
def test_figures_of_the_embedded_model(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "digits-resnet18", "--images", "2", "--calibration", "4"]
    assert bench.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits-resnet18 on default, one thread"
    starts = ["float32, ONNX Runtime", "fsim ", "fsim / float32", "compile", "calibrate, 4 images"]
    assert [line.strip().startswith(s) for line, s in zip(lines[1:], starts, strict=False)] == [
        True
    ] * 5
    assert lines[6].strip().startswith("GEMM step on w4 / on default")
    assert lines[7].strip().startswith("peak memory")


def test_gemm_steps_are_those_of_the_stage() -> None:
    """25 blocks of 9 taps fill inp; each weight serves 49 pixels."""
    for name in ("default", "w4", "w4a4"):
        insns, uops, steps = bench._gemm_insns(VTAConfig.load(name))
        assert (len(uops), steps) == (225, 8 * 49 * 225)
        assert len(insns) == 1 + 8 * 5 + 1
    stock, narrow = bench.gemm_step_ns(("default", "w4"), repeats=1)
    assert stock > 0 and narrow > 0


def test_unknown_model_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--model", "nope"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nope: must be an ONNX file or a known name, got neither; known")
