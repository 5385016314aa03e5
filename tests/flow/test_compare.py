"""The ablation: rows in order, what the machine lacks left out, files written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow import cli
from flow.compare import ABLATION, USUAL_STEPS, compare, write_steps
from flow.data.models import DIGITS
from flow.options import Options
from flow.pipeline import Pipeline
from flow.stages import Stages
from flow.system.tracebacks import InternalError
from relay_passes.calibration.distill_options import DistillOptions
from relay_passes.variants import STEPS, STOCK_RELAY, VARIANTS, ZERO_SHOT_OF
from tests.flow.data.test_datasets import write_image
from tests.flow.onnx_models import norm_model, save
from vta_config.errors import CalibrationError


def test_every_step_is_known() -> None:
    assert set(ABLATION) <= {STOCK_RELAY, *VARIANTS, *STEPS, *ZERO_SHOT_OF}
    assert set(STEPS) | set(ZERO_SHOT_OF) <= set(ABLATION)


def test_images_are_distilled_for_steps_that_are_named() -> None:
    assert set(USUAL_STEPS) == set(ABLATION) - set(ZERO_SHOT_OF)


@pytest.mark.slow
def test_a_step_that_is_calibrated_without_data(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    few = DistillOptions(images=4, batch=4, steps=2)
    model = save(norm_model(), tmp_path / "normed.onnx")
    for index in range(4):
        write_image(tmp_path / "images" / f"{index}.png", 60 * index)
    options = Options(
        model=str(model),
        images=tmp_path / "images",
        cache=tmp_path,
        distill=few,
        variants=("best_zero_shot",),
    )
    _, step = compare(options, Stages(), layer_images=2)
    assert step.metrics.name == "best_zero_shot" and step.layers
    assert step.change == "best, calibrated without data" and step.metrics.sqnr_db is not None
    assert step.metrics.sqnr_db > 0  # of statistics that belong to no images


@pytest.mark.slow
def test_rows_layers_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flow.pipeline.LEARNING_IMAGES", 24)  # enough for 3 dB
    names = ["profiled_fused", "dyadic_any", "best"]
    chosen = (*names, "per_channel")  # the last one needs another machine
    steps = compare(Options(model=DIGITS, limit=20, variants=chosen), Stages(), layer_images=2)
    assert [step.metrics.name for step in steps] == ["float32", *names]
    _, profiled, dyadic, best = steps
    assert dyadic.requantization_error > 1e-6
    assert profiled.metrics.sqnr_db is not None and best.metrics.sqnr_db is not None
    assert best.metrics.sqnr_db > profiled.metrics.sqnr_db + 3
    assert 0 <= best.requantization_error < 1e-6
    values = [error.sqnr_db for error in best.layers]
    assert values == sorted(values)
    assert len(values) == len(profiled.layers) - 3  # downsamples are part of sums
    written = json.loads(write_steps(steps, tmp_path)[0].read_text())
    assert [row["metrics"]["name"] for row in written] == ["float32", *names]


@pytest.mark.slow
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["compare", "--limit", "8", "--step", "profiled", "--output", str(tmp_path)]
    assert cli.main(args) == 0
    shown = capsys.readouterr().out
    assert (
        "scales from the largest value, not fused" in shown
        and "profiled, worst tensor first" in shown
    )
    row = next(line for line in shown.splitlines() if "│ float32" in line)
    assert [cell.strip() for cell in row.split("│")[4:-1]] == ["", "", "", "", ""]  # top-1 alone
    assert (tmp_path / "compare.json").is_file()


def test_unknown_step() -> None:
    with pytest.raises(CalibrationError, match="--step: must be among stock_relay, profiled, "):
        compare(Options(model=DIGITS, variants=("magic",)), Stages())


@pytest.mark.slow
def test_a_step_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    form = Pipeline.form

    def fails(self: Pipeline, name: str) -> Any:
        if name == "profiled":
            raise IndexError("list index out of range")
        return form(self, name)

    monkeypatch.setattr(Pipeline, "form", fails)
    steps = ("--step", "profiled", "--step", STOCK_RELAY)
    assert cli.main(["compare", "--limit", "2", *steps, "--output", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "skipped profiled: internal error, got IndexError: list index out of range" in shown
    written = json.loads((tmp_path / "compare.json").read_text())
    assert [row["metrics"]["name"] for row in written] == ["float32", STOCK_RELAY]
    assert (tmp_path / "internal-error-profiled.txt").is_file()
    options = Options(model=DIGITS, limit=2, variants=("profiled",))
    for skipped in (None, []):
        with pytest.raises(InternalError, match="profiled: internal error, got IndexError: list"):
            compare(options, Stages(), folder=tmp_path, skipped=skipped)
