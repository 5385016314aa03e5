"""``vta-flow estimate``: a model in, a table, CSV or JSON out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flow.fakes import call
from tests.flow.onnx_models import save, tiny_model


def test_table_csv_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    assert call("estimate", model, "--output", out) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("model        tiny  (sha256 ")
    assert "the 2 most expensive of 2 layers" in shown
    assert str(out / "estimate.json") in shown.replace("\n", "")
    assert call("estimate", "--model", model, "--format", "json") == 0
    values = json.loads(capsys.readouterr().out)
    stored = json.loads((out / "estimate.json").read_text())
    assert values | {"seconds": 0} == stored | {"seconds": 0}
    assert call("estimate", model, "--format", "csv") == 0
    assert capsys.readouterr().out == (out / "estimate.csv").read_text()


def test_a_model_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate", "nope.onnx") == 2
    assert "nope.onnx: must be an ONNX file" in capsys.readouterr().err
