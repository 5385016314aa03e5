"""What commands of one variant and one program show and write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from flow.data.digits import digit_images
from flow.data.models import DIGITS, bundled_data, load_model
from relay_passes.integers.plan import QuantPlan
from tests.flow.fakes import PLAN, FakeBackend, call
from tests.flow.onnx_models import save, tiny_model


def test_scales_shows_the_plan(fake: type[FakeBackend], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("scales", "--variant", "profiled") == 0
    shown = capsys.readouterr()
    assert shown.err == "" and "weight scale" in shown.out
    row = next(line for line in shown.out.splitlines() if "conv1" in line)
    assert row.replace("│", " ").split() == [
        "conv1", "conv1", "2^-1", "2^-4", "to", "2^-3", "2^-5", "to", "2^-4", "2^-2",
        "8,", "4,", "8", "2,", "3", "1", "0",
    ]  # fmt: skip
    assert call("scales", "--json") == 0
    assert QuantPlan.from_json(json.loads(capsys.readouterr().out)) == PLAN
    with pytest.raises(SystemExit):  # another quantization, which has no plan
        call("scales", "--variant", "stock_relay")
    assert "invalid choice: 'stock_relay'" in capsys.readouterr().err


def test_verify_says_that_all_is_equal(
    fake: type[FakeBackend], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify") == 0
    assert "20 tensors of 20 images compared, all equal" in capsys.readouterr().out
    assert call("verify", "--json") == 0
    wanted = {"images": 20, "tensors": 20, "mismatches": 0, "first": ""}
    assert json.loads(capsys.readouterr().out) == wanted
    fake.mismatches = 3
    assert call("verify", "--json") == 1
    assert json.loads(capsys.readouterr().out)["first"] == "conv1 on fsim"


def test_compile_writes_a_file(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compile", "--output", tmp_path / "new") == 0
    assert (tmp_path / "new" / "digits-resnet18.vta").read_bytes() == b"program"
    assert (tmp_path / "new" / "digits-resnet18.artefact" / "manifest.json").is_file()
    shown = capsys.readouterr().out
    assert "7 bytes, 1 layers" in shown and shown.endswith("digits-resnet18.artefact\n")


def test_compile_writes_into_a_folder(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compile", "--output", tmp_path / "net.vta") == 2
    assert (
        "--output: must be a folder, in which the program is called MODEL.vta, got "
        f"{tmp_path / 'net.vta'}; give the folder, as --output {tmp_path}"
    ) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_run_classifies(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "zero.png"
    Image.fromarray(digit_images()[0][0]).save(image)
    (tmp_path / "names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    assert call("run", image, "--top", 2, "--names", tmp_path / "names.txt") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "digit" in line]
    assert len(rows) == 2 and "digit 0" in rows[0]
    assert call("run", image, "--top", 1, "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert [found["class"] for found in answer["classes"]] == [0]


def test_run_classifies_tensors(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bundled_data(load_model(DIGITS))[0]  # type: ignore[index]
    np.save(tmp_path / "two.npy", np.concatenate([data[0], data[1]]))
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    assert call("run", tmp_path / "two.npy", "--top", 1) == 0
    text = capsys.readouterr().out
    labels = data.targets
    assert labels is not None
    for index in (0, 1):
        (row,) = (line for line in text.splitlines() if f"image {index}" in line)
        assert str(labels[index]) in row.replace(f"image {index}", "")
    assert call("run", tmp_path / "two.npy", tmp_path / "x.png") == 2
    sentence = "images: must be pictures or float tensors (.npy, .npz), not both, got x.png and tw"
    assert sentence in capsys.readouterr().err


def test_class_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("run", "x.png", "--names", tmp_path / "no.txt") == 2
    text = capsys.readouterr().err
    assert "no.txt: must be a text file with one class name per line, got " in text


def test_run_shows_the_range_of_each_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a network that is no classifier, with preprocessing out of the file beside it."""
    proto = tiny_model(shape=("N", 3, "H", "W"))
    proto.graph.output.append(helper.make_tensor_value_info("r", 1, ["N", 4, "H", "W"]))
    model = save(proto, tmp_path / "net.onnx")
    (tmp_path / "net.input.json").write_text('{"input_shape": "1,3,8,8", "scale": 0.01}')
    np.save(tmp_path / "x.npy", np.ones((3, 8, 8), np.float32))
    folder = tmp_path / "calibration"
    folder.mkdir()
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(2, 3, 8, 8)))
    options = ("--model", model, "--calibration", folder, "--variant", "profiled_fused")
    assert call("run", *options, tmp_path / "x.npy") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "×" in line]
    assert [row[1:3] for row in rows] == [["logits", "1×5"], ["r", "1×4×8×8"]]
    assert float(rows[1][3]) == 0.0 < float(rows[1][4]) < float(rows[1][5])
    assert call("run", *options, "--mean", "1,2", tmp_path / "x.npy") == 2
    assert "--mean: must be one number, or one for each of 3 channels" in capsys.readouterr().err
