"""resize.py: nearest neighbours as ONNX Runtime finds them, whatever the scale and version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.importer import import_model
from flow.results.evaluate import OnnxRuntime
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model

SHAPE = (1, 3, 8, 8)
IMAGE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def model(
    op: str, inputs: list[str], opset: int, tensors: dict[str, Any], **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(op, ["r", *inputs], ["e"], "extra", **attributes)
    result = tiny_model(extra=(node,), shape=SHAPE, opset=opset)
    for name, value in tensors.items():
        result.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return result


def operators(proto: onnx.ModelProto, folder: Path) -> list[str]:
    """Import a model, which must compute what ONNX Runtime does; return its operators."""
    imported = import_model(save(proto, folder / "m.onnx"))
    (ours,) = HostModule(imported.mod)(IMAGE)
    np.testing.assert_allclose(ours[0], OnnxRuntime(imported.proto)(IMAGE), rtol=1e-4, atol=1e-4)
    return [op_name(b.value) for b in read_graph(imported.mod).bindings]


def scales(height: float, width: float) -> Any:
    return np.asarray([1, 1, height, width], np.float32)


@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("rounding", ["floor", "round_prefer_ceil"])
def test_scales_that_give_no_whole_size(tmp_path: Path, transform: str, rounding: str) -> None:
    proto = model("Resize", ["", "s"], 13, {"s": scales(0.6, 1.3)}, mode="nearest",
                  coordinate_transformation_mode=transform, nearest_mode=rounding)  # fmt: skip
    assert "take" in operators(proto, tmp_path)


def test_scales_that_give_a_whole_size_stay(tmp_path: Path) -> None:
    proto = model("Resize", ["", "s"], 13, {"s": scales(2, 1.5)}, mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    assert "image.resize2d" in operators(proto, tmp_path)


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes"),
    [
        ("Upsample", 7, [], {"scales": [1.0, 1.0, 2.0, 3.0]}),
        ("Upsample", 9, ["s"], {}),
        ("Resize", 10, ["s"], {}),
    ],
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_older_versions(
    tmp_path: Path, op: str, opset: int, inputs: list[str], attributes: dict[str, Any], mode: str
) -> None:
    tensors = {"s": scales(2, 3)} if inputs else {}
    proto = model(op, inputs, opset, tensors, mode=mode, **attributes)
    found = {"nearest": "take", "linear": "image.resize2d"}[mode]
    assert found in operators(proto, tmp_path)  # and equal to ONNX Runtime


def test_empty_scales_say_nothing(tmp_path: Path) -> None:
    empty = np.zeros(0, np.float32)
    tensors = {"roi": empty, "s": empty, "sizes": np.asarray([1, 4, 16, 12])}
    proto = model("Resize", ["roi", "s", "sizes"], 13, tensors, mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    assert "image.resize2d" in operators(proto, tmp_path)


def test_what_onnx_runtime_does_not_run_stays() -> None:
    from flow.frontend.resize import resized

    node = helper.make_node("Resize", ["r", "", "s"], ["e"], "n", mode="nearest")
    bad = numpy_helper.from_array(scales(-0.6, 0.6), "s")
    made, tensors = resized(node, (1, 4, 8, 8), {"s": bad}, 13)
    assert [n.op_type for n in made] == ["Resize"] and not tensors
