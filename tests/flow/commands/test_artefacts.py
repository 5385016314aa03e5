"""Commands that take an artefact in place of a model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.artefacts.load import load_artefact
from flow.commands.artefacts import _random
from flow.program.asm import assemble
from flow.program.program import PortTensor
from tests.flow.fakes import call
from vta_config import VTAConfig


@pytest.fixture
def tensor(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32))
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.npy"
    np.save(path, np.random.default_rng(0).integers(-128, 128, (3, 8, 8), np.int8))
    return path


def cells(text: str) -> list[list[str]]:
    lines = (line for line in text.splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_run_of_a_folder(
    one: Path, two: Path, tensor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 12), (200, 30, 90)).save(tmp_path / "x.png")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne")
    for folder in (one, two):
        options = ("--top", 2, "--names", tmp_path / "names.txt")
        assert call("run", folder, tmp_path / "x.png", tmp_path / "x.png", *options) == 0
        rows = cells(capsys.readouterr().out)
        assert len(rows) == 4 and rows[:2] == rows[2:]
        assert rows[0][2] == "abcde"[int(rows[0][1])]
    found = []
    for engine in ("fsim", "tsim", "oracle"):
        save = tmp_path / engine
        assert call("run", one, tensor, "--engine", engine, "--save", save) == 0
        found.append(np.load(save / "0.logits.npy"))
    assert (
        found[0].shape == (1, 5) and (found[0] == found[1]).all() and (found[0] == found[2]).all()
    )


def test_answers_and_comparisons_as_json(
    one: Path, tensor: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", one, tensor, "--top", 2, "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["classes"]) == 2 and answer["image"] == str(tensor)
    (program,) = one.glob("*.vta")
    assert call("run", program, raw, "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["outputs"][0]["shape"] == [1, 5, 1, 1]
    assert call("verify", one, "--limit", 1, "--json", "-q") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["runs"] == 1 and value["mismatches"] == 0 and value["engines"][0] == "oracle"


def test_run_of_a_program(
    one: Path, raw: Path, tensor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = one / "vta_0.vta"
    assert call("run", file, raw, raw, "--save", tmp_path / "out") == 0
    rows = cells(capsys.readouterr().out)
    assert len(rows) == 2 and rows[0][2] == "1×5×1×1"
    array = np.load(next((tmp_path / "out").iterdir()))
    assert array.dtype == np.int32 and rows[0][3] == str(array.min())
    assert call("run", file, tensor) == 2
    error = capsys.readouterr().err
    assert (
        "x.npy: must hold int8[1, 3, 8, 8], the input data.q, got float32[3, 8, 8]; quantize"
        in error
    )
    (tmp_path / "bad.npy").write_text("no array")
    assert call("run", file, tmp_path / "bad.npy") == 2
    assert "bad.npy: must be a .npy file of int8[1, 3, 8, 8], the input data.q, got" in (
        capsys.readouterr().err
    )


def test_run_without_images(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", one) == 2
    assert f"{one}: must be followed by images, got none; for example: " in capsys.readouterr().err


def test_options_of_a_model_are_refused(
    one: Path, tensor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--variant", "best"), ("--config", "ultra96"), ("--mean", "1")):
        assert call("run", one, tensor, option, value) == 2
        sentence = f"{option}: must not be given with an artefact, which is quantized and compiled"
        assert f"{sentence}, got {value}; leave it out" in capsys.readouterr().err
    assert call("verify", one, "--qdq", "requantize") == 2
    assert "--qdq: must not be given with an artefact" in capsys.readouterr().err
    assert call("verify", one, "--engine", "driver") == 2
    assert "--driver: must be given with --engine driver" in capsys.readouterr().err


def test_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("verify", "time", "trace", "disasm"):
        assert call(command, tmp_path) == 2
        assert "manifest.json: must be a readable manifest, got No such" in capsys.readouterr().err


def test_verify_of_a_folder(
    one: Path, two: Path, tensor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", one) == 0
    shown = capsys.readouterr().out
    assert "tensors of 4 images (random tensors) compared, all equal" in shown
    assert "engines    oracle, fsim, fsim in random order, tsim, library\n" in shown
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.npy", "b.npy"):
        shutil.copy(tensor, images / name)
    assert call("verify", two, "--images", images) == 0
    assert "tensors of 2 images compared, all equal" in capsys.readouterr().out
    assert call("verify", two, "--images", images, "--limit", 1) == 0
    assert "tensors of 1 image compared, all equal" in capsys.readouterr().out


def test_verify_of_a_program(
    one: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", one / "vta_0.vta", "--limit", 2) == 0
    shown = capsys.readouterr().out
    assert "tensors of 2 runs (random int8 inputs) compared, all equal" in shown
    assert call("verify", one / "vta_0.vta", "--images", raw.parent) == 0
    assert "tensors of 1 run compared, all equal" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert call("verify", one / "vta_0.vta", "--images", tmp_path / "empty") == 2
    sentence = "vta_0: must be given a .npy file for each of its 1 inputs: data.q, got 0 files"
    assert sentence in capsys.readouterr().err


def test_verify_that_finds_a_difference(
    one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flow.artefacts import compare

    right = compare.run_program

    def wrong(*args, **options):  # type: ignore[no-untyped-def]
        result = right(*args, **options)
        result.outputs[0][0, 0] += 1
        return result

    monkeypatch.setattr(compare, "run_program", wrong)
    assert call("verify", one, "--limit", 1) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "tensors of 1 image (random tensors) differ; first: output " in shown


def test_verify_where_the_oracle_would_take_long(
    one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flow.artefacts import compare

    monkeypatch.setattr(compare, "oracle_limits", lambda *of: None)
    assert call("verify", one, "--limit", 1) == 0
    shown = capsys.readouterr().out
    assert "engines    fsim, fsim in random order, tsim, library (the oracle would take l" in shown


def test_time(one: Path, two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("time", one) == 0
    shown = capsys.readouterr().out
    (program,) = load_artefact(one).programs
    assert all(record.name in shown for record in program.layers) and "latency: " in shown
    assert call("time", one / "vta_0.vta", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["cycles"] == sum(layer["cycles"] for layer in values["layers"]) > 0
    assert call("time", two) == 0
    shown = capsys.readouterr().out
    assert "program vta_0\n" in shown and "program vta_1\n" in shown and "all programs: " in shown
    assert call("time", one, "--max-steps", 5) == 2
    assert "must take at most 5 steps" in capsys.readouterr().err


def test_trace(one: Path, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace", one, "--output", tmp_path / "t.json") == 0
    assert capsys.readouterr().out == f"{tmp_path / 't.json'}\n"
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert call("trace", two, "--output", tmp_path / "t.json") == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "t.vta_0.json"), str(tmp_path / "t.vta_1.json"),
    ]  # fmt: skip


def test_disasm(one: Path, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("disasm", one) == 0
    (program,) = load_artefact(one).programs
    assert len(assemble(capsys.readouterr().out, program.config)) == len(program.insns)
    assert call("disasm", two) == 2
    assert f"{two}: must have one program, got 2: vta_0.vta, vta_1.vta; give one of the" in (
        capsys.readouterr().err
    )
    assert call("disasm", two / "vta_1.vta", "--output", tmp_path / "x.txt") == 0
    assert "FINISH" in (tmp_path / "x.txt").read_text()


def test_no_program_at_all(one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(one, tmp_path / "x"))
    values = json.loads((folder / "manifest.json").read_text())
    values["programs"], values["inputs"][0]["tensors"] = [], []
    values["outputs"][0]["tensor"] = None
    (folder / "manifest.json").write_text(json.dumps(values))
    for command in ("time", "disasm", "verify"):
        assert call(command, folder) == 2
        assert f"{folder}: must have a program, got none; no layer of" in capsys.readouterr().err


def test_random_numbers_fit_the_planes() -> None:
    config, rng = VTAConfig.load("w4a4"), np.random.default_rng(0)
    for planes, low, high in ((1, -8, 7), (2, -128, 119), (3, -128, 127)):
        port = PortTensor(name="x", dtype="int8", shape=(1, 16, 40, 40), address=0, planes=planes)
        found = _random(port, config, rng)
        assert (found.min(), found.max()) == (low, high)
        port.pack(found, config)


def test_a_program_without_inputs(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = load_artefact(one).programs
    replace(program, inputs=()).save(tmp_path / "x.vta")
    assert call("run", tmp_path / "x.vta", tmp_path / "x.npy") == 2
    assert "must be given a .npy file for each of its 0 inputs: , got 1 files" in (
        capsys.readouterr().err
    )
