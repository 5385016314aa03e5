"""Folders read back; each fault in one sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.artefacts import load as module
from flow.artefacts.load import is_artefact, load_artefact, open_artefact
from flow.data.datasets import image_files
from flow.system.limits import Limits
from vta_config.errors import ArtifactError, CapacityError


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit a manifest."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_folder_and_file(one: Path, two: Path) -> None:
    artefact = open_artefact(one)
    assert [p.symbol for p in artefact.programs] == ["vta_0"] and artefact.plan is not None
    assert artefact.plan == artefact.programs[0].plan and not artefact.needs_library
    assert [p.symbol for p in open_artefact(two).programs] == ["vta_0", "vta_1"]
    alone = open_artefact(one / "vta_0.vta")
    assert alone.manifest is None and alone.plan == artefact.plan and not alone.needs_library
    assert is_artefact(one) and is_artefact(one / "vta_0.vta") and not is_artefact(Path("x.png"))


def test_library_runs_where_the_folder_is(two: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(two, tmp_path / "elsewhere"))
    from tvm import cpu, relax, runtime

    machine = relax.VirtualMachine(load_artefact(moved).library(), cpu())
    result = machine["main"](runtime.tensor(np.zeros((1, 3, 8, 8), np.float32))).numpy()
    assert result.shape == (1, 5) and np.isfinite(result).all()


@pytest.mark.parametrize("name", ["vta_0.vta", "library.so", "plan.json", "scales.txt"])
def test_a_file_that_is_missing_or_another_one(copy_of_one: Path, name: str) -> None:
    file = copy_of_one / name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=f"{name}: must have the SHA-256 .* of manifest.json, "):
        load_artefact(copy_of_one)
    file.unlink()
    sentence = f"{name}: must be a readable file of at most .*, as manifest.json names it, got No s"
    with pytest.raises(ArtifactError, match=sentence):
        load_artefact(copy_of_one)


def test_no_manifest(tmp_path: Path) -> None:
    sentence = "manifest.json: must be a readable manifest, got No such file.*; give a folder that"
    with pytest.raises(ArtifactError, match=sentence):
        load_artefact(tmp_path)


def test_a_foreign_machine(copy_of_one: Path) -> None:
    def block32(values: dict[str, Any]) -> None:
        values["machine"]["NAME"] = "another"

    change(copy_of_one, block32)
    with pytest.raises(ArtifactError, match="must be for the machine of the manifest, another, g"):
        load_artefact(copy_of_one)
    change(copy_of_one, lambda v: v["machine"].update(NAME="default", CLOCK_HZ=1))
    with pytest.raises(ArtifactError, match="manifest, default, got default of other numbers; dep"):
        load_artefact(copy_of_one)


def test_another_program(copy_of_one: Path, two: Path) -> None:
    shutil.copy(two / "vta_1.vta", copy_of_one / "vta_0.vta")
    sum_ = digest(copy_of_one / "vta_0.vta")
    change(copy_of_one, lambda v: v["programs"][0].update(sha256=sum_))
    with pytest.raises(ArtifactError, match="vta_0.vta: must be vta_0, got vta_1; deploy again"):
        load_artefact(copy_of_one)
    shutil.copy(two / "vta_0.vta", copy_of_one / "vta_0.vta")
    sum_ = digest(copy_of_one / "vta_0.vta")
    change(copy_of_one, lambda v: v["programs"][0].update(sha256=sum_))
    sentence = r"must name outputs of its programs: .* \[1, 5, 1, 1\] of vta_0, got "
    with pytest.raises(ArtifactError, match=sentence):
        load_artefact(copy_of_one)
    change(copy_of_one, lambda v: v["inputs"][0]["tensors"][0].update(program="vta_9"))
    with pytest.raises(ArtifactError, match="must name inputs of its programs: .*, got nothing"):
        load_artefact(copy_of_one)


def test_a_plan_that_is_none(copy_of_one: Path) -> None:
    (copy_of_one / "plan.json").write_text("{}")
    sum_ = digest(copy_of_one / "plan.json")
    change(copy_of_one, lambda v: v["plan"].update(sha256=sum_))
    with pytest.raises(ArtifactError, match="plan.json: must be a quantization plan, got KeyError"):
        load_artefact(copy_of_one)


def test_a_program_that_costs_too_much(one: Path) -> None:
    with pytest.raises(CapacityError, match="must take at most 20000 bytes of memory"):
        load_artefact(one, limits=Limits(max_bytes=20000))


def test_library_of_another_host_or_tvm(copy_of_one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(copy_of_one, lambda v: v["library"].update(platform="Plan9 vax"))
    with pytest.raises(ArtifactError, match="library.so: must be for this host, Linux .*got Plan9"):
        load_artefact(copy_of_one).library()
    change(copy_of_one, lambda v: v["library"].update(platform=module.host_platform()))
    change(copy_of_one, lambda v: v["versions"].update({"apache-tvm": "0.9.1"}))
    with pytest.raises(ArtifactError, match="must be built by TVM 0.*, got TVM 0.9; deploy again"):
        load_artefact(copy_of_one).library()
    change(copy_of_one, lambda v: v.update(library=None))
    with pytest.raises(ArtifactError, match="copy: must have a library, which runs the host's ope"):
        load_artefact(copy_of_one).library()


def test_library_that_is_none(copy_of_one: Path) -> None:
    (copy_of_one / "library.so").write_bytes(b"no library")
    sum_ = digest(copy_of_one / "library.so")
    change(copy_of_one, lambda v: v["library"].update(sha256=sum_))
    with pytest.raises(ArtifactError, match="library.so: must be a library that TVM can load, got"):
        load_artefact(copy_of_one).library()


def test_the_page_makes_an_input_for_a_board(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of docs/artefacts.md, run as they are."""
    docs = Path(__file__).parents[3] / "docs"
    lines = (docs / "artefacts.md").read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip() == "from pathlib import Path")
    last = next(i for i, line in enumerate(lines) if "image.tofile(" in line)
    shutil.copytree(one, tmp_path / "out" / "deploy" / "artefact")
    (tmp_path / "docs").mkdir()
    shutil.copy(docs / "gauge.png", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent("\n".join(lines[first : last + 1])), {})
    manifest = load_artefact(one).manifest
    assert manifest is not None and manifest.preprocessing is not None
    (expected,) = image_files([docs / "gauge.png"], manifest.preprocessing)
    given = np.fromfile(tmp_path / "x.bin", np.float32)
    assert given.size == np.prod(manifest.network_inputs[0].shape)
    np.testing.assert_array_equal(given, expected.ravel())
