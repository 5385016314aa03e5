"""A sweep of a dozen machines: what is measured, what fails, what is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flow.options import Options
from flow.results.sweep_document import SweepFields
from flow.stages import Stages
from flow.sweep import run as module_of_run
from flow.sweep.front import dominates
from flow.sweep.measure import Measured, measure
from flow.sweep.rows import numbers_of
from flow.sweep.run import JOURNAL_FILE, Request, compared_of, sweep
from flow.sweep.space import Space, read_axis
from flow.sweep.where import parse
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig
from vta_config.errors import ConfigError, LimitError

DEFAULT = VTAConfig.load("default")
AXES = ("block=16,32", "bus=64,128", "clock=100MHz,200MHz", "wgt-buffer=512B,64KiB,256KiB")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx"))


def request_of(model: str, *axes: str, **more: Any) -> Request:
    space = Space(machines={"default": DEFAULT}, axes=dict(map(read_axis, axes or AXES)))
    return Request(space=space, models=(model,), **more)


def swept(request: Request, folder: Path, **more: Any) -> SweepFields:
    options = Options(model=request.models[0], check_import=False, **more)
    return sweep(options, request, Stages(), folder)


@pytest.fixture(scope="module")
def found(model: str, tmp_path_factory: pytest.TempPathFactory) -> SweepFields:
    return swept(request_of(model), tmp_path_factory.mktemp("sweep"))


def test_every_machine_has_a_row(found: SweepFields) -> None:
    assert [row.machine_id for row in found.rows] == list(range(1, 25))
    states = {row.machine_id: row.state for row in found.rows}
    # 512 bytes of weights: two elements of block 16, in which a layer does not fit, and none of 32.
    failed = [k for k, state in states.items() if state == "failed"]
    assert failed == [1, 4, 7, 10, 13, 16, 19, 22]
    reasons = {row.machine_id: row.reason for row in found.rows if row.state == "failed"}
    assert "its smallest tile must fit" in reasons[1]
    assert "must hold at least two wgt elements" in reasons[13]
    assert found.remarks[0] == "16 of 24 rows measured, 8 failed"


def test_the_clock_changes_time_alone(found: SweepFields) -> None:
    by_id = {row.machine_id: row for row in found.rows}
    slow, fast = by_id[2], by_id[5]
    assert (slow.choices["clock"], fast.choices["clock"]) == (100_000_000, 200_000_000)
    assert slow.cycles == fast.cycles and slow.ms == 2 * (fast.ms or 0)


def test_the_front_is_that_of_all_pairs(found: SweepFields) -> None:
    measured = [row for row in found.rows if row.state == "measured"]
    numbers = {row.machine_id: numbers_of(row, found.compared) for row in measured}
    for row in measured:
        beaten = any(dominates(n, numbers[row.machine_id]) for n in numbers.values())
        assert row.on_front == (not beaten)
        if beaten:
            by = row.dominated_by
            assert by is not None and by.better
            assert dominates(numbers[by.machine_id], numbers[row.machine_id])
            other = found.rows[by.machine_id - 1]
            changed = {a for a in row.choices if row.choices[a] != other.choices[a]}
            assert {c.axis for c in by.choices} == changed
    # No images, no accuracy.
    assert found.compared == ("latency", "area", "energy", "bus", "clock")


@pytest.mark.slow
def test_processes_give_the_same(found: SweepFields, model: str, tmp_path: Path) -> None:
    again = swept(request_of(model, jobs=2), tmp_path)
    assert again.rows == found.rows


def test_it_goes_on_where_it_was_stopped(
    found: SweepFields, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def stopped(*args: Any) -> Measured:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(module_of_run, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        swept(request_of(model), tmp_path)
    assert len((tmp_path / JOURNAL_FILE).read_text().splitlines()) == 3
    again = swept(request_of(model), tmp_path)
    assert again.rows == found.rows
    # Eight machines that can be built and differ in more than the clock; two machines a line.
    assert "6 rows from the run before" in again.remarks
    count = -100
    third = swept(request_of(model), tmp_path)
    assert count == -100 and third.rows == found.rows  # nothing is measured
    swept(request_of(model, fresh=True), tmp_path)
    assert count > -100


@pytest.mark.slow
def test_it_goes_on_after_a_kill(found: SweepFields, model: str, tmp_path: Path) -> None:
    axes = [argument for axis in AXES for argument in ("--axis", axis)]
    command = [sys.executable, "-m", "flow", "sweep", model, *axes, "--jobs", "1", "--output"]
    root = Path(__file__).parents[3]
    journal = tmp_path / JOURNAL_FILE
    with subprocess.Popen([*command, str(tmp_path)], cwd=root) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            if journal.is_file() and len(journal.read_bytes().splitlines()) >= 2:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    kept = len(journal.read_text().splitlines())
    assert 2 <= kept
    again = swept(request_of(model), tmp_path)
    assert again.rows == found.rows
    assert any("rows from the run before" in remark for remark in again.remarks)


def test_other_constants_need_no_measurement(
    found: SweepFields, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(model, "bus=64,128")
    first = swept(request, tmp_path)
    monkeypatch.setattr(module_of_run, "measure", None)
    dear = replace(request.constants, dram_pj_per_byte=10 * request.constants.dram_pj_per_byte)
    second = swept(replace(request, constants=dear), tmp_path)
    one, other = first.rows[0].energy, second.rows[0].energy
    assert one is not None and other is not None
    assert other.dram_mj == pytest.approx(10 * one.dram_mj, rel=0.01)
    assert (other.sram_mj, other.gemm_mj) == (one.sram_mj, one.gemm_mj)


def test_time_that_is_over(model: str, tmp_path: Path) -> None:
    request = request_of(model, minutes=1e-9, seed=1)
    found = swept(request, tmp_path)
    states = [row.state for row in found.rows]
    assert states.count("waiting") > states.count("measured") > 0
    assert f"{states.count('waiting')} not measured in 1e-09 minutes" in found.remarks[0]


def test_constraints_before_and_after(model: str, tmp_path: Path) -> None:
    where = (parse("wgt-buffer >= 1KiB"), parse("latency < 7us"))
    found = swept(request_of(model, where=where), tmp_path)
    assert found.where == ("wgt-buffer >= 1KiB", "latency < 7us")
    states = [row.state for row in found.rows]
    assert states.count("outside") and states.count("measured")
    assert all(row.reason == "latency < 7us" for row in found.rows if row.state == "outside")
    assert any(r.startswith("4 machines left out by constraints") for r in found.remarks)


def test_several_models_and_variants(model: str, tmp_path: Path) -> None:
    other = str(save(tiny_model(seed=1), tmp_path / "tiny.onnx"))
    request = request_of(model, "bus=64,128", variants=("per_tensor", "profiled_fused"))
    found = swept(replace(request, models=(model, other)), tmp_path)
    names = [m.name for m in found.models]
    assert len({*names}) == 2 and all(name.startswith("tiny (") for name in names)
    assert [row.model for row in found.rows] == [name for name in names for _ in range(4)]
    assert {row.variant for row in found.rows} == {"per_tensor", "profiled_fused"}
    assert {effect.axis for effect in found.effects} >= {"bus", "variant"}


@pytest.mark.slow
def test_accuracy_is_measured_once_a_network(model: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{number}.png")
    request = request_of(model, "bus=64,128", "block=16,32", "weight-bits=4,8")
    more = {"images": images, "calibration": images, "cache": tmp_path / "cache"}
    found = swept(request, tmp_path / "out", **more)
    by_bits: dict[int, set[float | None]] = {}
    for row in found.rows:
        assert row.accuracy is not None and row.accuracy.images == 4
        by_bits.setdefault(int(row.choices["weight-bits"]), set()).add(row.accuracy.sqnr_db)
    narrow, wide = by_bits[4], by_bits[8]
    assert min(s for s in wide if s is not None) >= max(s for s in narrow if s is not None)
    assert "accuracy" in found.compared and found.models[0].float32 is not None
    lines = [json.loads(x) for x in (tmp_path / "out" / JOURNAL_FILE).read_text().splitlines()]
    accuracies = [line for line in lines if "top1" in line["value"]]
    assert len(accuracies) <= 4 and len(lines) - len(accuracies) == 8
    again = swept(request, tmp_path / "out", **more)
    assert again.rows == found.rows


def test_names_that_are_not_measured(model: str, tmp_path: Path) -> None:
    for name, unit in (("accuracy", "%"), ("sqnr", "")):
        request = request_of(model, "bus=64", where=(parse(f"{name} > 90{unit}"),))
        with pytest.raises(ConfigError, match=f"must name what is measured, got {name}, for tiny"):
            swept(request, tmp_path)


def test_nothing_that_can_be_measured(model: str, tmp_path: Path) -> None:
    sentence = (
        "sweep: must have a machine that can be measured, got none of .* --explain for the reasons"
    )
    with pytest.raises(LimitError, match=sentence):
        swept(request_of(model, "wgt-buffer=512B"), tmp_path)


def test_what_is_compared() -> None:
    assert compared_of("energy, latency") == ("latency", "energy")
    with pytest.raises(ConfigError, match="--compare: must be among latency, area, energy, accur"):
        compared_of("latency,price")


def test_narrow_operands_without_images(model: str, tmp_path: Path) -> None:
    found = swept(request_of(model, "weight-bits=4,8"), tmp_path)
    assert any(
        r.startswith("no accuracy was measured, so what fewer bits harm") for r in found.remarks
    )


def test_a_fault_of_ours_is_a_row_and_not_kept(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(networks: Any, how: Any, task: Any) -> Measured:
        if task.machine.bus_bits == 64:
            return Measured(work=None, reason="internal error: KeyError: x", internal=True)
        return measure(networks, how, task)

    monkeypatch.setattr(module_of_run, "measure", broken)
    found = swept(request_of(model, "bus=64,128"), tmp_path)
    assert [row.state for row in found.rows] == ["failed", "measured"]
    assert any(remark.startswith("1 rows failed by an internal error") for remark in found.remarks)
    assert len((tmp_path / JOURNAL_FILE).read_text().splitlines()) == 1


def test_a_network_that_only_this_process_has(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flow.sweep import measure as module_of_measure

    expected = swept(request_of(model, "bus=64,128"), tmp_path / "a")

    def refuse(mod: object) -> None:
        raise module_of_measure.UnknownModuleError("no")

    monkeypatch.setattr(module_of_measure, "packed", refuse)
    found = swept(request_of(model, "bus=64,128", jobs=2), tmp_path / "b")
    assert found.rows == expected.rows
    assert not (tmp_path / "b" / JOURNAL_FILE).read_text()


def test_a_dozen_is_drawn(model: str, tmp_path: Path) -> None:
    request = request_of(model, most=5, seed=2)
    found = swept(request, tmp_path)
    assert found.space.sampled and found.space.seed == 2
    assert sum(row.machine is not None for row in found.rows) == 5
    assert any(r == "machines drawn from 24 by seed 2" for r in found.remarks)
