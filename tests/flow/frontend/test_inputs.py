"""One form of input: float32, a static shape, channels first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import MissingShapeError, import_model
from flow.frontend.onnx_session import OnnxSession
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import UnsupportedModelError


def operators(mod: Any) -> list[str]:
    return [op_name(binding.value) for binding in read_graph(mod).bindings]


def in_other_floats(proto: onnx.ModelProto, kind: int, cast: bool = False) -> onnx.ModelProto:
    """Return a model with weights, input and output of another type of floats."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    if cast:  # as converters do it: floats in and out
        proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
        proto.graph.node[0].input[0] = "narrow"
        node = helper.make_node("Cast", ["data"], ["narrow"], "cast", to=kind)
        proto.graph.node.insert(0, node)
    return proto


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("cast", [False, True])
def test_other_floats_become_float32(tmp_path: Path, kind: int, cast: bool) -> None:
    plain = tiny_model()
    model = import_model(save(in_other_floats(tiny_model(), kind, cast), tmp_path / "m.onnx"))
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (expected,) = OnnxSession(plain).run(["logits"], {"data": image})
    (found,) = HostModule(model.mod)(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
    assert "astype" not in operators(model.mod)


def test_an_input_of_bytes_that_is_cast_to_floats(tmp_path: Path) -> None:
    proto = tiny_model(elem_type=TensorProto.UINT8)
    proto.graph.node[0].input[0] = "floats"
    cast = helper.make_node("Cast", ["data"], ["floats"], "cast", to=TensorProto.FLOAT)
    proto.graph.node.insert(0, cast)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)
    (expected,) = OnnxSession(proto).run(["logits"], {"data": image})
    (found,) = HostModule(import_model(save(proto, tmp_path / "m.onnx")).mod)(
        image.astype(np.float32)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (4, 3, 8, 8)])
def test_shapes_that_the_file_leaves_open(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save(tiny_model(shape=("N", 3, "H", "W")), tmp_path / "m.onnx")
    sentence = (
        r"m input data: must have a static shape of 1 to 5 dimensions \(only the batch may be "
        r"dynamic\), got \['N', 3, 'H', 'W'\]; give --input-shape, as 1,3,224,224, or"
    )
    with pytest.raises(MissingShapeError, match=sentence):
        import_model(path)
    model = import_model(path, shapes={"": shape})
    assert model.input_shape == model.file_shape == (1, 3, 8, 8)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8), (1, 3, 9, 8)])
def test_shapes_that_the_file_has_otherwise(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save(tiny_model(shape=("N", 3, 8, "W")), tmp_path / "m.onnx")
    sentence = r"m input data: must have the shape that --input-shape gives, .*, got \['N', 3, 8, "
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(path, shapes={"": shape})


def channels_last(*before: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model that takes [N, H, W, C] and transposes it to what its convolution reads."""
    proto = tiny_model(shape=("N", 8, 10, 3))
    last = before[-1].output[0] if before else "data"
    node = helper.make_node("Transpose", [last], ["nchw"], "t", perm=[0, 3, 1, 2])
    proto.graph.node[0].input[0] = "nchw"
    nodes = [*before, node, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    half = numpy_helper.from_array(np.asarray([0.5, 2, 4], np.float32), "half")
    proto.graph.initializer.append(half)
    return proto


@pytest.mark.parametrize("before", [False, True])
def test_channels_last(tmp_path: Path, before: bool) -> None:
    nodes = [helper.make_node("Mul", ["data", "half"], ["scaled"])] if before else []
    proto = channels_last(*nodes)
    model = import_model(save(proto, tmp_path / "m.onnx"))
    assert (model.inputs[0].layout, model.input_shape, model.file_shape) == (
        "NHWC",
        (1, 3, 8, 10),
        (1, 8, 10, 3),
    )
    image = np.random.default_rng(0).normal(size=(1, 8, 10, 3)).astype(np.float32)
    (expected,) = OnnxSession(proto).run(["logits"], {"data": image})
    (found,) = HostModule(model.mod)(image.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert "permute_dims" not in operators(model.mod)[:3]


def test_the_user_may_say_the_layout(tmp_path: Path) -> None:
    path = save(channels_last(), tmp_path / "m.onnx")
    model = import_model(path, layout="NCHW")
    assert (model.inputs[0].layout, model.input_shape) == ("NCHW", (1, 8, 10, 3))


def test_an_image_that_is_used_before_it_is_transposed(tmp_path: Path) -> None:
    proto = channels_last()
    proto.graph.node.append(helper.make_node("Relu", ["data"], ["again"]))
    proto.graph.output.append(helper.make_tensor_value_info("again", 1, ["N", 8, 10, 3]))
    assert import_model(save(proto, tmp_path / "m.onnx")).inputs[0].layout == "NCHW"


@pytest.mark.parametrize("shape", [(1, 12), (12,), (1, 3, 4), (1, 3, 2, 2, 1)])
def test_inputs_of_other_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "w"], ["y"], "dense"),
    ]
    tensors = [
        numpy_helper.from_array(np.asarray([1, -1]), "flat"),
        numpy_helper.from_array(rng.normal(size=(12, 5)).astype(np.float32), "w"),
    ]
    if len(shape) == 1:
        shape = (1, *shape)[: len(shape)]
        tensors[1] = numpy_helper.from_array(rng.normal(size=(1, 5)).astype(np.float32), "w")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, list(shape))],
        [helper.make_tensor_value_info("y", 1, [1, 5])],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = import_model(save(proto, tmp_path / "m.onnx"))
    assert model.input_shape == shape and model.classes == 5
