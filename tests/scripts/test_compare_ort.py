"""ONNX Runtime's quantization and ours, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.results.evaluate import Metrics, OutputMetrics
from scripts import compare_ort
from tests.flow.onnx_models import save, tiny_model

NONE = {"top1": None, "top5": None}


def test_table_has_a_row_for_each_output() -> None:
    logits = Metrics(
        name="best", images=2, agreement=0.5, sqnr_db=30.04, centred_sqnr_db=None, **NONE
    )
    parts = tuple(
        OutputMetrics(name=name, shape=(3,), sqnr_db=db, centred_sqnr_db=db - 1)
        for name, db in (("boxes", 20.0), ("scores", 25.0))
    )
    heads = Metrics(
        name="dyadic",
        images=2,
        agreement=None,
        sqnr_db=20.0,
        centred_sqnr_db=19.0,
        outputs=parts,
        **NONE,
    )
    assert compare_ort.table([logits, heads]).splitlines()[2:] == [
        "| best | logits | 30.0 | exact | 50.0 |",
        "| dyadic | boxes | 20.0 | 19.0 | – |",
        "| dyadic | scores | 25.0 | 24.0 | – |",
    ]


@pytest.mark.slow
def test_both_quantize_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, pictures = save(tiny_model(), tmp_path / "net.onnx"), tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    folders = [f"--{name}={pictures}" for name in ("images", "calibration")]
    assert compare_ort.main([str(model), *folders, "--input-shape=1,3,8,8", "--count=2"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == [*compare_ort.ORT, "best"]
    assert all(float(row[2]) > 15 for row in rows)
    missing = [f"--{name}={tmp_path / 'none'}" for name in ("images", "calibration")]
    assert compare_ort.main([str(model), *missing, "--input-shape=1,3,8,8"]) == 2
    assert "error: " in capsys.readouterr().err
