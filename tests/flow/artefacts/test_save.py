"""What is in the folder, and what is left of an earlier one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from flow.artefacts import save as module
from flow.artefacts.load import load_artefact
from flow.artefacts.networks import open_network
from flow.artefacts.save import scales_text, stored_files
from flow.backend import PipelineCompiled
from relay_passes.integers.plan import QuantPlan
from tests.flow.onnx_models import tiny_model
from tests.flow.small_artefacts import compiled_of, softmax_model, two_model

NAMES = {"library.so", "manifest.json", "plan.json", "runner", "scales.txt", "vta_0.vta"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> PipelineCompiled:
    return compiled_of(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_files(compiled: PipelineCompiled, tmp_path: Path) -> None:
    assert compiled.save_artefact(tmp_path / "a" / "b") == ""
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == NAMES
    runner = folder / "runner"
    assert {path.name for path in runner.iterdir()} == {"Makefile", "vta_program.h", "vta_run.cc"}
    manifest = load_artefact(folder).manifest
    assert manifest is not None
    for file in stored_files(manifest):
        assert hashlib.sha256((folder / file.file).read_bytes()).hexdigest() == file.sha256
    (program,) = compiled.model.programs
    assert (folder / "vta_0.vta").read_bytes() == program.to_bytes()
    assert QuantPlan.from_json(json.loads((folder / "plan.json").read_text())) == compiled.plan


def test_an_earlier_folder_is_replaced(
    compiled: PipelineCompiled, two: Path, tmp_path: Path
) -> None:
    two_programs = compiled_of(two_model(), tmp_path / "two.onnx")
    folder = Path(shutil.copytree(two, tmp_path / "x"))
    (folder / "mine.txt").write_text("kept")
    assert (folder / "vta_1.vta").is_file() and not (folder / "scales.txt").exists()
    compiled.save_artefact(folder)
    assert {path.name for path in folder.iterdir()} == {*NAMES, "mine.txt"}
    two_programs.save_artefact(folder)
    names = {"library.so", "manifest.json", "plan.json", "vta_0.vta", "vta_1.vta", "mine.txt"}
    assert {path.name for path in folder.iterdir()} == names


def test_without_a_compiler(
    compiled: PipelineCompiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.cc, "get_cc", lambda: None)
    note = compiled.save_artefact(tmp_path / "a")
    assert note == "no library.so: no C++ compiler was found that links it"
    loaded = load_artefact(tmp_path / "a")
    assert loaded.manifest is not None and loaded.manifest.library is None
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "/bin/false")
    note = compiled.save_artefact(tmp_path / "b")
    assert note.startswith("no library.so: /bin/false did not link it (")
    assert not (tmp_path / "b" / "library.so").exists()


def test_scales_of_the_board_runner(one: Path) -> None:
    manifest = load_artefact(one).manifest
    assert manifest is not None
    (tensor,), (output,) = manifest.tensors, manifest.outputs
    comment, first, second = scales_text(manifest).splitlines()
    assert comment.startswith("# ")
    kind, position, multiplier, *limits = first.split()
    assert (kind, position, limits) == ("input", "0", ["0", "-127", "127"])
    assert np.float32(multiplier) == np.float32(tensor.multiplier)
    kind, position, zero, scale = second.split()
    assert (kind, position, zero) == ("output", "0", "0") and output.tensor is not None
    assert np.float32(scale) == np.float32(output.tensor.scale[0])


def test_a_softmax_behind_the_program(tmp_path: Path) -> None:
    """The host runs it, and a board has what it begins with."""
    compiled = compiled_of(softmax_model(), tmp_path / "softmax.onnx")
    compiled.save_artefact(tmp_path / "a")
    loaded = load_artefact(tmp_path / "a")
    assert loaded.needs_library and loaded.manifest is not None
    (output,), (program,) = loaded.manifest.outputs, loaded.manifest.programs
    assert output.tensor is None and [tensor.position for tensor in program.outputs] == [0]
    assert (tmp_path / "a" / "runner" / "vta_run.cc").is_file()
    assert (tmp_path / "a" / "scales.txt").read_text() == scales_text(loaded.manifest)
    assert np.isclose(open_network(loaded)(np.zeros((1, 3, 8, 8), np.float32)).sum(), 1)


def test_a_symbol_that_is_no_file_name() -> None:
    assert module._file_stem("vta_0", 3) == "vta_0"
    assert module._file_stem("../x", 3) == "program_3"


def test_what_tvm_logs_is_not_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It logs a warning for each constant of an executable."""

    class Loud:
        def export_library(self, path: str) -> None:
            os.write(2, b"Warning: Scope Saving:")
            Path(path).write_bytes(b"library")

    library, note = module._library(tmp_path, Loud())
    assert library is not None and note == "" and capfd.readouterr().err == ""
