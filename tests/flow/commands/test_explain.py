"""``--explain`` of each command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.commands.explain import check_layer
from flow.data.models import model_names
from tests.flow.explain.networks import bus_bound
from tests.flow.fakes import call
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import ConfigError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(bus_bound(), tmp_path_factory.mktemp("model") / "net.onnx")


@pytest.mark.slow
def test_estimate(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert call("estimate", model, "--output", out, "--explain") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("model        net, variant profiled_fused\n")
    assert "bound by     the bus: 90 % of the cycles wait for weights" in shown
    assert "would help   bus of 128 bits (-4" in shown
    assert "the 3 most expensive of 3 layers" in shown
    assert (out / "estimate.csv").is_file()
    stored = json.loads((out / "explain.json").read_text())
    assert stored["schema_version"] == 1 and stored["layer"] is None
    assert call("estimate", model, "--json", "--explain") == 0
    assert json.loads(capsys.readouterr().out) == stored


def test_estimate_of_a_layer(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate", model, "--explain", "conv2") == 0
    shown = capsys.readouterr().out
    assert "layer        c2 (conv2d), which conv2 is a part of: " in shown
    assert call("estimate", model, "--explain", "conv7") == 2
    assert "got conv7; close to it: conv3, conv2, conv1" in capsys.readouterr().err


def test_a_model_in_the_place_of_a_layer(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate", "--explain", model) == 2
    assert f"write vta-flow estimate {model} --explain" in capsys.readouterr().err.replace("\n", "")
    for name in (model_names()[1], "a.onnx.xz", "b.vta"):
        with pytest.raises(ConfigError, match="must be followed by the name of a layer, or come"):
            check_layer(name, "vta-flow estimate")
    check_layer("layer1.0.conv1", "x")
    check_layer("", "x")
    check_layer(None, "x")


def test_no_csv(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate", model, "--format", "csv", "--explain") == 2
    assert "must be shown as a table or as JSON, got --format csv" in capsys.readouterr().err


def test_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tiny_model(), tmp_path / "tiny.onnx")
    compile_ = ("compile", "--model", model, "--variant", "single_scale", "--output", tmp_path)
    assert call(*compile_) == 0
    capsys.readouterr()
    assert call("time", tmp_path / "tiny.vta", "--explain") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("model        tiny.vta\n") and "bus of 128 bits" in shown
    assert "vta-flow estimate MODEL --explain" in " ".join(shown.split())
    assert call("time", tmp_path / "tiny.artefact", "--explain", "stem", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layer"] == "stem" and found["layers"][0]["name"] == "stem"
    assert call("time", tmp_path / "tiny.vta", "--explain", "stm") == 2
    assert "close to it: stem" in capsys.readouterr().err


@pytest.mark.slow
def test_deploy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = (
        "--variant",
        "profiled_fused",
        "--limit",
        "5",
        "--exact-images",
        "0",
        "--output",
        out,
    )
    assert call("deploy", *options, "--explain", "layer3.0.conv1") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "explained profiled_fused layer layer3.0.conv1 (conv2d): " in shown
    assert "bound by the bus: " in shown and "would help " in shown
    report = json.loads((out / "report.json").read_text())
    found = report["explanation"]
    assert (found["variant"], found["layer"], found["alone"]) == (
        "profiled_fused",
        "layer3.0.conv1",
        True,
    )
    (layer,) = found["layers"]
    (own,) = (x for x in report["latency"]["layers"] if x["name"] == "layer3.0.conv1")
    assert (layer["cycles"], layer["bound"]) == (own["cycles"], own["bound"])
    assert report["seconds"]["explain"] > 0
    page = (out / "report.html").read_text()
    assert "What bounds it, and what would help" in page and "bus of 128 bits" in page
    # What was measured is there, although the layer is not.
    (out / "report.json").unlink()
    assert call("deploy", *options, "--explain", "layer9") == 2
    assert "--explain: must name a layer on VTA" in capsys.readouterr().err
    assert json.loads((out / "report.json").read_text())["explanation"] is None
