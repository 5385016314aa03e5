"""clips.py: ReLU6 is one operator, whichever way ONNX states its bounds, and runs on VTA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flow.backend import PipelineBackend, PipelineCompiled
from flow.data.datasets import image_folder
from flow.data.models import preprocessing_of
from flow.frontend.importer import import_model
from flow.results.evaluate import OnnxRuntime
from relay_passes.graph import Module, op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.data.test_datasets import write_image
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config import VTAConfig
from vta_config.errors import UnsupportedModelError


def with_clip(
    low: float | None, high: float | None, *, form: str = "initializer", opset: int = 13
) -> onnx.ModelProto:
    """Return the tiny model with a Clip behind its Relu; None leaves a bound out."""
    bounds = {"min": low, "max": high}
    given = {name: value for name, value in bounds.items() if value is not None}
    if form == "attribute":
        return tiny_model(extra=(helper.make_node("Clip", ["r"], ["e"], **given),), opset=opset)
    names = ["r", *(name if name in given else "" for name in bounds)]
    nodes = [helper.make_node("Clip", names, ["e"])]
    tensors = weights(**given)
    if form == "constant":
        nodes = [
            *(helper.make_node("Constant", [], [t.name], value=t) for t in tensors),
            *nodes,
        ]
    if form == "computed":
        nodes = [
            *(helper.make_node("Abs", [f"{t.name}0"], [t.name]) for t in tensors),
            *nodes,
        ]
        tensors = weights(**{f"{name}0": value for name, value in given.items()})
    model = tiny_model(extra=tuple(nodes), opset=opset)
    if form != "constant":
        model.graph.initializer.extend(tensors)
    return model


def operators(mod: Module) -> list[str]:
    return [op_name(b.value) for b in read_graph(mod).bindings]


FORMS = [("attribute", 10), ("initializer", 11), ("initializer", 13), ("constant", 13)]


@pytest.mark.parametrize(("form", "opset"), FORMS)
def test_clip_is_one_operator(form: str, opset: int, tmp_path: Path) -> None:
    model = import_model(save(with_clip(0.1, 0.5, form=form, opset=opset), tmp_path / "m.onnx"))
    assert operators(model.mod)[:3] == ["nn.conv2d", "nn.relu", "clip"]
    clip = read_graph(model.mod).bindings[2].value
    assert [float(a.value) for a in clip.args[1:]] == pytest.approx([0.1, 0.5])
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (ours,) = HostModule(model.mod)(image)
    np.testing.assert_allclose(ours[0], OnnxRuntime(model.proto)(image), rtol=1e-5, atol=1e-5)


def test_bounds_in_the_wrong_order_are_imported_as_before(tmp_path: Path) -> None:
    model = import_model(save(with_clip(6.0, 0.0, form="initializer"), tmp_path / "m.onnx"))
    assert operators(model.mod).count("nn.relu") == 1 and "clip" not in operators(model.mod)


@pytest.mark.parametrize(("low", "high"), [(0.1, None), (None, 6.0)])
def test_one_bound_is_one_operator(low: float | None, high: float | None, tmp_path: Path) -> None:
    """The largest number of float32 stands for the other."""
    model = import_model(save(with_clip(low, high, form="initializer"), tmp_path / "m.onnx"))
    assert operators(model.mod)[:3] == ["nn.conv2d", "nn.relu", "clip"]
    limits = [float(a.value) for a in read_graph(model.mod).bindings[2].value.args[1:]]
    largest = float(np.finfo(np.float32).max)
    assert limits == pytest.approx([low or -largest, high or largest])


def test_computed_bounds_are_bounds(tmp_path: Path) -> None:
    model = import_model(save(with_clip(0.0, 6.0, form="computed"), tmp_path / "m.onnx"))
    assert operators(model.mod)[:3] == ["nn.conv2d", "nn.relu", "clip"]


def test_a_bound_must_be_a_number(tmp_path: Path) -> None:
    sentence = r"m tensor max: must hold finite numbers, got 1 of 1 that are NaN or infinite; check"
    model = with_clip(0.0, float("nan"), form="initializer")
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(model, tmp_path / "m.onnx"))


def test_other_numbers_of_relus_are_imported_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flow.frontend import importer

    def one_more(proto: Any) -> Any:
        hidden, bounds = hide(proto)
        return hidden, {**bounds, "another": (0.0, 1.0)}

    hide = importer.hide_clips
    monkeypatch.setattr(importer, "hide_clips", one_more)
    model = import_model(save(with_clip(0.0, 6.0), tmp_path / "m.onnx"))
    assert "clip" not in operators(model.mod)


def relu6_model() -> onnx.ModelProto:
    """Return conv 3x3/2, then an inverted residual of 1x1 convolutions, ReLU6 throughout."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (8, 3, 3, 3), "expand": (24, 8, 1, 1), "project": (8, 24, 1, 1)}
    tensors = weights(
        **{f"{n}__weight": rng.normal(0, 1.5 / s[1] ** 0.5, s) for n, s in shapes.items()},
        head__weight=rng.normal(size=(5, 8)),
        head__bias=rng.normal(size=5),
        low=0,
        high=6,
    )
    nodes = [
        helper.make_node("Conv", ["data", "stem.weight"], ["c0"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Clip", ["c0", "low", "high"], ["r0"]),
        helper.make_node("Conv", ["r0", "expand.weight"], ["c1"]),
        helper.make_node("Clip", ["c1", "low", "high"], ["r1"]),
        helper.make_node("Conv", ["r1", "project.weight"], ["c2"]),
        helper.make_node("Add", ["c2", "r0"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "relu6", [data], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("variant", ["stock_relay", "profiled_fused", "best"])
def test_relu6_runs_on_vta(variant: str, default_config: VTAConfig, tmp_path: Path) -> None:
    model = import_model(save(relu6_model(), tmp_path / "m.onnx"))
    for index in range(4):
        write_image(tmp_path / "images" / f"{index}.png", 60 * index)
    images = image_folder(tmp_path / "images", preprocessing_of(model), labelled=False)
    backend = PipelineBackend(model, default_config)
    backend.calibrate(images, lambda done, total: None)
    if variant == "stock_relay":
        compiled = backend.compile(variant)
    else:
        made = backend.pipeline.compile(backend.pipeline.form(variant))
        compiled = PipelineCompiled(model=made, network=made.network())
    exact = compiled.verify(images, lambda done, total: None)
    assert exact.mismatches == 0, exact.first
    kinds = [layer.kind.split("+")[0] for layer in compiled.layers]
    if variant == "stock_relay":  # its ends are on the host
        assert kinds.count("conv2d") >= 2
    else:
        assert compiled.placement.fallbacks == () and kinds.count("conv2d") == 3
