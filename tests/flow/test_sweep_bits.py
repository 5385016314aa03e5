"""A sweep of limits: points, files, pictures, and going on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flow import cli, sweep_bits
from flow.bit_request import BitRequest, Bound
from flow.options import Options
from flow.stages import Stages
from flow.sweep_bits import draw, sweep, sweep_table
from tests.flow.bits.network import LAYERS, residual_model
from tests.flow.onnx_models import save
from vta_config.errors import CapacityError, LimitError


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = tmp_path_factory.mktemp("sweep")
    model = save(residual_model(), folder / "residual.onnx")
    (folder / "images").mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
    return Options(
        model=str(model),
        images=folder / "images",
        calibration=folder / "images",
        cache=folder / "cache",
        variants=("mixed",),
    )


@pytest.mark.slow
def test_points_and_files(options: Options, tmp_path: Path) -> None:
    found = sweep(options, Stages(), cost="size", count=3, folder=tmp_path)
    assert [p.candidate.label for p in found.points] == [
        "uniform W8A8", "uniform W4A8", "0", "0.5", "1",
    ]  # fmt: skip
    by_label = {p.candidate.label: p for p in found.points}
    assert by_label["0"].candidate.bits == by_label["uniform W4A8"].candidate.bits
    assert by_label["0"].metrics.sqnr_db == by_label["uniform W4A8"].metrics.sqnr_db
    sizes = [by_label[label].candidate.size_bytes for label in ("0", "0.5", "1")]
    assert sizes[0] < sizes[1] < sizes[2]
    assert all(list(p.candidate.bits) == list(LAYERS) for p in found.points)
    assert all(p.cycles and p.ms == pytest.approx(p.cycles / 1e5) for p in found.points)
    assert any("fewer bits buy no cycle on default" in remark for remark in found.remarks)
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert [p["label"] for p in written["points"]] == list(by_label)
    assert written["points"][3]["choice"]["limits"] == by_label["0.5"].candidate.choice.limits  # type: ignore[union-attr]
    assert len(written["measured"]["points"]) == 3
    table = sweep_table(found)
    assert table.row_count == 1 + len(found.points)
    pytest.importorskip("matplotlib")
    assert sorted(p.name for p in draw(found, tmp_path)) == [
        "layer-bits.png", "layer-bits.svg", "pareto.png", "pareto.svg",
    ]  # fmt: skip


@pytest.mark.slow
def test_goes_on_where_it_was_stopped(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, seen = sweep_bits._measure, list[str]()

    def stopped(candidate: Any, *args: Any) -> Any:
        seen.append(candidate.label)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return measure(candidate, *args)

    monkeypatch.setattr(sweep_bits, "_measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(options, Stages(), cost="size", count=2, folder=tmp_path)
    assert len(json.loads((tmp_path / "sweep.json").read_text())["points"]) == 1
    found = sweep(options, Stages(), cost="size", count=2, folder=tmp_path)
    assert seen == ["uniform W8A8", "uniform W4A8", "uniform W4A8"]
    assert len(found.points) == 4
    again = sweep(options, Stages(), cost="size", count=2, folder=tmp_path)
    assert again == found and len(seen) == 3
    # Of other images nothing is known; what cannot be read is measured again.
    sweep(replace(options, limit=3), Stages(), cost="size", count=2, folder=tmp_path)
    assert len(seen) == 5
    (tmp_path / "sweep.json").write_text('{"measured": 3}')
    sweep(options, Stages(), cost="size", count=2, folder=tmp_path)
    assert len(seen) == 7


@pytest.mark.slow
def test_networks_that_fail_are_left_out(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = sweep_bits._measure

    def failing(candidate: Any, *args: Any) -> Any:
        if candidate.label == "uniform W8A8":
            raise CapacityError("a.1", "must fit")
        return measure(candidate, *args)

    monkeypatch.setattr(sweep_bits, "_measure", failing)
    found = sweep(options, Stages(), cost="size", count=2, folder=tmp_path)
    assert "left out uniform W8A8: a.1: must fit" in found.remarks
    monkeypatch.setattr(sweep_bits._Known, "get", lambda self, candidate: None)

    def broken(*args: Any) -> Any:
        raise CapacityError("a", "b")

    monkeypatch.setattr(sweep_bits, "_measure", broken)
    sentence = "sweep-bits: must have a network that can be measured, got left out 1: a: b; choose"
    with pytest.raises(LimitError, match=sentence):
        sweep(options, Stages(), cost="size", count=2, folder=tmp_path)


@pytest.mark.slow
def test_what_is_swept_has_no_other_limit(options: Options, tmp_path: Path) -> None:
    limited = replace(options, bits=BitRequest(limits=(Bound.parse("size", "0.5"),)))
    sentence = "--max-size: must not be given where it is swept, got 0.5 of the range; leave it out"
    with pytest.raises(LimitError, match=sentence):
        sweep(limited, Stages(), cost="size", count=2, folder=tmp_path)


def test_too_few_points(options: Options, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="--points: must be 2 or more, got 1; give --points 5"):
        sweep(options, Stages(), count=1, folder=tmp_path)


@pytest.mark.slow
def test_command(options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--model", options.model, "--images", options.images, "--calibration", options.images]
    args += ["--cache", options.cache, "--points", 2, "--output", tmp_path / "out"]
    assert cli.main(["sweep-bits", *map(str, args)]) == 0
    shown = capsys.readouterr().out
    assert "size limit" in shown and "uniform W4A8" in shown and "sweep.json" in shown
    assert (tmp_path / "out" / "sweep.json").is_file()
