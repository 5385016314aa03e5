"""Networks with several inputs: each has a scale of its own; an image is a row of all numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flow.__main__ import main
from flow.data.datasets import image_files, image_folder
from flow.frontend.importer import MissingShapeError, import_model
from flow.frontend.onnx_session import OnnxSession
from flow.input_request import parse_request
from flow.results.evaluate import OnnxRuntime
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save
from tests.flow.several_inputs import LEFT, RIGHT, ROW, three_inputs, write_images
from vta_config.errors import CalibrationError, ConfigError, FlowError, UnsupportedModelError

NUMBERS = sum(int(np.prod(shape)) for shape in (LEFT, RIGHT, ROW))


def values(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    shapes = {"left": LEFT, "right": RIGHT, "row": ROW}
    return {n: rng.normal(size=(1, *s)).astype(np.float32) for n, s in shapes.items()}


def row(inputs: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate([x.reshape(1, -1) for x in inputs.values()], axis=1)


@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_a_row_of_all_inputs(tmp_path: Path, batch: int | str) -> None:
    proto = three_inputs(batch)
    model = import_model(save(proto, tmp_path / "m.onnx"))
    assert model.input_shape == (1, NUMBERS)
    assert [value.name for value in model.inputs] == ["left", "right", "row"]
    assert [value.shape[1:] for value in model.inputs] == [LEFT, RIGHT, ROW]
    inputs = values()
    (expected,) = OnnxSession(three_inputs(1)).run(["logits"], inputs)
    (found,) = HostModule(model.mod)(row(inputs))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(OnnxRuntime(model.proto)(row(inputs)), expected[0], atol=1e-4)


def test_channels_last_of_one_input(tmp_path: Path) -> None:
    model = import_model(save(three_inputs(channels_last=True), tmp_path / "m.onnx"))
    first = model.inputs[0]
    assert (first.layout, first.shape, first.file_shape) == ("NHWC", (1, 3, 8, 8), (1, 8, 8, 3))
    write_images(tmp_path / "last", 2, channels_last=True)
    write_images(tmp_path / "first", 2)
    for name in ("last", "first"):
        data = image_folder(tmp_path / name, None, inputs=model.inputs)
        assert len(data) == 4
        assert next(iter(data)).shape == (1, NUMBERS)


def test_open_dimensions(tmp_path: Path) -> None:
    path = save(three_inputs(side="S"), tmp_path / "m.onnx")
    with pytest.raises(MissingShapeError, match=r"input left: must have a static shape"):
        import_model(path)
    request = parse_request({"input_shape": ["left=1,3,8,8"]})
    assert import_model(path, shapes=request.wanted_shapes).input_shape == (1, NUMBERS)
    sentence = "must have the inputs that --input-shape names, got {}; give NAME=SHAPE for inputs "
    sentence += "among left, right, row"
    for given, got in (
        (["middle=1,3,8,8"], "no middle"),
        (["1,3,8,8"], "a shape without a name for 3 inputs"),
    ):
        shapes = parse_request({"input_shape": given}).wanted_shapes
        with pytest.raises(UnsupportedModelError, match=sentence.format(got)):
            import_model(path, shapes=shapes)


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        (["1,3,8,8"], {"": (1, 3, 8, 8)}),
        (["a=1,3", "b=c=1x7"], {"a": (1, 3), "b=c": (1, 7)}),
        ({"a": [1, 3], "b": "1,7"}, {"a": (1, 3), "b": (1, 7)}),
    ],
)
def test_shapes_by_name(given: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    assert parse_request({"input_shape": given}).wanted_shapes == shapes


@pytest.mark.parametrize("given", [["a=1,x"], {"a": [0]}, ["a=1,3", "1,7"], ["1,3", "1,7"]])
def test_shapes_that_are_none(given: Any) -> None:
    with pytest.raises(ConfigError, match="--input-shape: must be numbers"):
        parse_request({"input_shape": given}).wanted_shapes["a"]


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_files_that_are_no_inputs(tmp_path: Path) -> None:
    inputs = import_model(save(three_inputs(), tmp_path / "m.onnx")).inputs
    ok = {"left": np.zeros(LEFT, "f4"), "right": np.zeros(RIGHT, "f4"), "row": np.zeros(ROW, "f4")}
    (image,) = image_files([save_npz(tmp_path / "ok.npz", **ok)], None, inputs=inputs)
    assert image.shape == (1, NUMBERS)

    def refused(path: Path, sentence: str) -> None:
        with pytest.raises(CalibrationError, match=sentence):
            image_files([path], None, inputs=inputs)

    needs = r"must be a .npz file with one array for each input: left, right, row, got "
    refused(save_npz(tmp_path / "a.npz", left=ok["left"]), needs + "left; write it with")
    refused(save_npz(tmp_path / "b.npz", **ok, more=ok["row"]), needs + "left, right, row, more")
    (tmp_path / "c.png").write_bytes(b"x")
    refused(tmp_path / "c.png", needs + "a .png file")
    (tmp_path / "d.npz").write_bytes(b"x")
    refused(tmp_path / "d.npz", "must be an array of numpy, got truncated or damaged")
    refused(tmp_path / "none.npz", "must be an array of numpy, got no such file")
    wrong = ok | {"row": np.zeros(6, "f4")}
    refused(save_npz(tmp_path / "e.npz", **wrong), r"row.npy: must have the shape \[7\]")
    uneven = ok | {"row": np.zeros((2, *ROW), "f4")}
    refused(
        save_npz(tmp_path / "f.npz", **uneven),
        "must have as many images in each array, got 1 in left, 1 in right, 2 in row",
    )


def test_deploy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(three_inputs(), tmp_path / "m.onnx")
    write_images(tmp_path / "images", 6)
    write_images(tmp_path / "more", 4)
    (tmp_path / "images" / "labels.csv").write_text("filename,label_index\n0.npz,3\n1.npz,4\n")
    out = tmp_path / "out"
    code = main(
        ["deploy", "--model", str(path), "--images", str(tmp_path / "images"), "--calibration",
         str(tmp_path / "more"), "--output", str(out), "--variant", "profiled_fused",
         "--variant", "best", "--variant", "w4a8_learned"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    report = json.loads((out / "report.json").read_text())
    float32, fused, best = report["variants"]
    assert float32["images"] == 12
    assert float32["top1"] is not None
    assert fused["centred_sqnr_db"] > 20
    assert best["centred_sqnr_db"] > 30
    assert all(v["exact"]["mismatches"] == 0 for v in (fused, best))
    assert best["placement"]["fallbacks"] == []
    (skipped,) = report["skipped"]
    assert "torch" in skipped["reason"] or "must be one tensor" in skipped["reason"]
    scales = report["plan"]["tensors"]
    assert len({scales[name]["scale"][0] for name in ("left", "right", "row")}) == 3


def test_learning_and_distilling_need_one_input(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import torch

    from relay_passes.calibration.distill import DistillOptions, distill
    from relay_passes.host.torch_graph import TorchGraph

    mod = import_model(save(three_inputs(), tmp_path / "m.onnx")).mod
    sentence = "model input: must be one tensor, to learn or to distill, got 3: left, right, row"
    with pytest.raises(FlowError, match=sentence):
        TorchGraph(mod, torch)
    with pytest.raises(FlowError, match=sentence):
        next(iter(distill(mod, DistillOptions())))


def test_no_inputs(tmp_path: Path) -> None:
    proto = three_inputs()
    names = {value.name: value for value in proto.graph.input}
    del proto.graph.input[:]
    for name, shape in (("left", LEFT), ("right", RIGHT), ("row", ROW)):
        zeros = np.zeros((1, *shape), np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(zeros, name))
    assert len(names) == 3
    with pytest.raises(UnsupportedModelError, match="must have inputs and outputs, got 0 and 1"):
        import_model(save(proto, tmp_path / "m.onnx"))


def test_an_estimate_names_each_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(three_inputs(), tmp_path / "m.onnx")
    assert main(["estimate", "--model", str(path), "--output", str(tmp_path)]) == 0
    assert "inputs left 1×3×8×8, right 1×5×8×8, row 1×7\n" in capsys.readouterr().out
    model = json.loads((tmp_path / "estimate.json").read_text())["model"]
    assert model["inputs"][2] == {"name": "row", "shape": [1, 7]}
