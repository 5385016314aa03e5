"""The subcommand that writes a variant for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from flow.cli import main
from flow.export import check
from tests.flow.onnx_models import save
from tests.flow.qdq_models import Builder, model


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    b = Builder()
    w = b.weight("stem.weight", rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8), 0.007)
    r = b.node("Conv", [b.pair("x", 0.02, 0, np.int8), w], "c", pads=[1, 1, 1, 1])
    r = b.pair(r, 0.05, 0, np.uint8)
    r = b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "f")
    v = b.weight("fc.weight", rng.integers(-127, 128, (5, 8)).astype(np.int8), 0.01)
    b.node("Gemm", [r, v], "y", transB=1)
    return save(model(b.nodes, b.tensors), tmp_path / "q.onnx")


def test_a_file_is_written_and_checked(
    quantized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    assert main(["export", "--qdq", "--model", str(quantized), "--output", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"written    {out}: " in shown
    assert "checked    4 of 4 images have equal results on ONNX Runtime" in shown
    proto = onnx.load(out)
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in (*proto.graph.input, *proto.graph.output)] == ["x", "y"]


def test_a_difference_is_exit_code_1(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = check.ExportCheck(images=4, equal=0, largest=1.0, reach=2.0)
    monkeypatch.setattr(check, "check_export", lambda *args: other)
    out = tmp_path / "out.onnx"
    assert main(["export", "--model", str(quantized), "--output", str(out)]) == 1
    assert out.is_file() and "0 of 4 images" in capsys.readouterr().out
    assert main(["export", "--model", str(quantized), "--output", str(out), "--check", "0"]) == 0
