"""Models that are quantized already: their real values, and what they say of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import ImportedModel, import_model
from flow.frontend.qdq import take_apart
from relay_passes.graph import constant, op_name, read_graph
from relay_passes.scales.kept import KeptTensor
from tests.flow.onnx_models import save
from tests.flow.qdq_models import Builder, model, run, with_clips, with_float_weights
from vta_config.errors import UnsupportedModelError

RNG = np.random.default_rng(0)
#: A weight int8[4, 3, 3, 3] that reaches 127 in each channel.
W1 = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
W1[:, 0, 0, 0] = 127
W2 = RNG.integers(-100, 101, (5, 4)).astype(np.int8)


def network(
    *,
    kind: Any = np.uint8,
    zero: int = 0,
    relu: bool = False,
    weight: NDArray[Any] = W1,
    scale: Any = 0.01,
    weight_zero: Any = 0,
    clip: tuple[int, int] | None = None,
    domain: str = "",
) -> onnx.ModelProto:
    """Make pair -> conv -> (relu) -> pair -> global average -> dense."""
    b = Builder()
    x = b.pair("x", 0.02, 128 if kind == np.uint8 else 0, kind, domain=domain)
    w = b.weight("stem.weight", weight, scale, weight_zero)
    bias = b.tensor("stem.bias", [0.1, -0.2, 0.3, 0.0])
    r = b.node("Conv", [x, w, bias], "c", pads=[1, 1, 1, 1])
    r = b.node("Relu", [r], "r") if relu else r
    r = b.pair(r, 0.03, zero, kind, clip=clip)
    r = b.node("GlobalAveragePool", [r], "p")
    r = b.node("Flatten", [r], "f")
    v = b.weight("fc.weight", W2, 0.02)
    b.node("Gemm", [r, v], "y", transB=1)
    return model(b.nodes, b.tensors)


def imported(proto: onnx.ModelProto, folder: Path, **options: Any) -> ImportedModel:
    return import_model(save(proto, folder / "q.onnx"), **options)


def kinds(found: ImportedModel) -> list[str]:
    return [op_name(b.value) for b in read_graph(found.mod).bindings]


def clip_of(found: ImportedModel) -> Any:
    return next(b for b in read_graph(found.mod).bindings if op_name(b.value) == "clip")


# ---- weights -------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [0.01, [0.01, 0.02, 0.03, 0.004]])
def test_weights_become_what_they_are_dequantized_to(tmp_path: Path, scale: Any) -> None:
    found = imported(network(scale=scale), tmp_path)
    value = next(b.value for b in read_graph(found.mod).bindings if op_name(b.value) == "nn.conv2d")
    shaped = np.asarray(scale, np.float32).reshape(-1, 1, 1, 1)
    assert np.array_equal(constant(value.args[1]), W1.astype(np.float32) * shaped)
    assert found.kept is not None
    assert found.kept.weights["stem"].peaks == (127, 127, 127, 127)
    assert found.kept.weights["fc"].peaks == tuple(np.abs(W2).max(axis=1).tolist())
    assert found.conv_names == ("stem",) and found.dense_names == ("fc",)


def test_weights_with_a_zero_point(tmp_path: Path) -> None:
    shifted = (W1.astype(np.int16) + 128).astype(np.uint8)
    found = imported(network(weight=shifted, weight_zero=128), tmp_path)
    assert found.kept is not None and found.kept.weights["stem"].peaks == (127,) * 4


def with_casts(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Cast integers of activations to the type that they have."""
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0].endswith(".q"):
            cast = f"{node.input[0]}.cast"
            proto.graph.node.append(
                helper.make_node("Cast", [node.input[0]], [cast], cast, to=TensorProto.UINT8)
            )
            node.input[0] = cast
        proto.graph.node.append(node)
    assert any(node.op_type == "Cast" for node in proto.graph.node)
    return proto


@pytest.mark.parametrize("change", [with_clips, with_float_weights, with_casts])
def test_the_forms_of_brevitas_nncf_and_pytorch(tmp_path: Path, change: Any) -> None:
    """Float weights in front of a pair; Clips of integers; Casts to the same type."""
    plain = imported(network(), tmp_path)
    found = imported(change(network()), tmp_path)
    assert plain.kept is not None and found.kept is not None
    assert found.kept.weights == plain.kept.weights
    images = [RNG.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(3)]
    assert np.allclose(run(found.proto, images), run(plain.proto, images), atol=1e-5)


def test_dense_weights_that_are_transposed_first(tmp_path: Path) -> None:
    b = Builder()
    f = b.node("Flatten", [b.pair("x", 0.02, 0, np.int8)], "f")
    w = b.weight("fc.weight", RNG.integers(-90, 91, (5, 192)).astype(np.int8), [0.01] * 5)
    b.node("MatMul", [f, b.node("Transpose", [w], "t", perm=[1, 0])], "y")
    found = imported(model(b.nodes, b.tensors), tmp_path)
    assert found.kept is not None
    (only,) = found.kept.weights.values()
    assert len(only.peaks) == 5 and max(only.peaks) <= 90


def test_a_bias_of_int32(tmp_path: Path) -> None:
    b = Builder()
    w = b.weight("w", W1, 0.01)
    bias = b.weight("b", np.asarray([5, -6, 7, 0], np.int32), 0.0002)
    r = b.node("Conv", [b.pair("x", 0.02, 0, np.int8), w, bias], "c")
    r = b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "f")
    b.node("Gemm", [r, b.tensor("v", RNG.normal(size=(4, 5)))], "y")
    found = imported(model(b.nodes, b.tensors), tmp_path)
    images = [RNG.uniform(-1, 1, size=(1, 3, 8, 8)).astype(np.float32)]
    again = imported(model(b.nodes, b.tensors), tmp_path, qdq="requantize")
    assert np.allclose(run(again.proto, images), run(found.proto, images), atol=0.02)


# ---- activations ---------------------------------------------------------------------------------
def test_a_pair_whose_smallest_integer_is_zero_was_a_relu(tmp_path: Path) -> None:
    found = imported(network(zero=0), tmp_path)
    clip = clip_of(found)
    bounds = [float(getattr(a, "value", a)) for a in clip.value.args[1:]]
    assert bounds == pytest.approx([0.0, 0.03 * 255])
    assert found.kept is not None
    assert found.kept.tensors[clip.var.name].never_negative
    # After a ReLU, or around a zero point within, there is nothing to clip.
    assert "clip" not in kinds(imported(network(relu=True), tmp_path))
    assert "clip" not in kinds(imported(network(zero=100), tmp_path))


def test_numbers_of_activations(tmp_path: Path) -> None:
    found = imported(network(kind=np.int8, zero=-128, clip=(-128, 100)), tmp_path)
    assert found.kept is not None
    tensors = found.kept.tensors
    clip = clip_of(found).var.name
    single = float(np.float32(0.02)), float(np.float32(0.03))
    assert tensors["x"] == KeptTensor(scale=single[0])
    assert tensors[clip] == KeptTensor(scale=single[1], zero_point=-128, qmax=100)


def test_a_zero_point_that_a_clip_excludes_counts(tmp_path: Path) -> None:
    found = imported(network(clip=(10, 200)), tmp_path)
    assert found.kept is not None
    tensor = found.kept.tensors[clip_of(found).var.name]
    assert (tensor.qmin, tensor.qmax) == (0, 200)


def test_the_real_values_are_another_quantization_of_the_same(tmp_path: Path) -> None:
    """Without its pairs the model differs by rounding alone, here less than 1 %."""
    proto = network(kind=np.int8, zero=-128)
    kept, again = (imported(proto, tmp_path, qdq=way) for way in ("keep", "requantize"))
    assert again.kept is None and kept.kept is not None
    assert {node.op_type for node in again.proto.graph.node}.isdisjoint({"QuantizeLinear"})
    images = [RNG.uniform(-1, 1, size=(1, 3, 8, 8)).astype(np.float32) for _ in range(4)]
    real, rounded = run(again.proto, images), run(kept.proto, images)
    assert np.abs(real - rounded).max() < 0.01 * np.abs(real).max()


def test_operators_that_move_integers(tmp_path: Path) -> None:
    """Between the pair may stand what changes no number."""
    b = Builder()
    s, z = b.tensor("s", 0.02), b.tensor("z", 3, np.uint8)
    q = b.node("QuantizeLinear", ["x", s, z], "q")
    q = b.node("MaxPool", [q], "m", kernel_shape=[2, 2], strides=[2, 2])
    r = b.node("DequantizeLinear", [q, s, z], "d")
    r = b.node("Conv", [r, b.weight("w", W1, 0.01)], "c")
    r = b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "f")
    b.node("Gemm", [r, b.weight("fc.weight", W2, 0.02)], "y", transB=1)
    found = imported(model(b.nodes, b.tensors, opset=13), tmp_path)
    assert kinds(found)[0] == "nn.max_pool2d"
    assert found.kept is not None and len(found.kept.tensors) == 2


def test_onnx_runtimes_own_domain(tmp_path: Path) -> None:
    found = imported(network(domain="com.microsoft"), tmp_path)
    assert found.kept is not None and found.kept.tensors["x"].zero_point == 128


def test_integer_results_are_dequantized(tmp_path: Path) -> None:
    proto = network()
    proto.graph.node[-1].output[0] = "logits"
    b = Builder()
    b.node("QuantizeLinear", ["logits", b.tensor("so", 0.1), b.tensor("zo", 100, np.uint8)], "y")
    proto.graph.node.extend(b.nodes)
    proto.graph.initializer.extend(b.tensors)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    found = imported(proto, tmp_path)
    (logits,) = run(found.proto, [np.zeros((1, 3, 8, 8), np.float32)])
    assert logits.dtype == np.float32
    assert np.allclose(logits / 0.1, np.rint(logits / 0.1), atol=1e-4)


# ---- what cannot be taken apart ------------------------------------------------------------------
def change(name: str, value: Any, dtype: Any = np.float32) -> onnx.ModelProto:
    proto = network()
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, dtype), name))
    return proto


@pytest.mark.parametrize(
    ("proto", "sentence"),
    [
        (change("x.s", 0.0), r"node x.q: must have positive finite scales, got 0; quantize the"),
        (change("x.s", np.inf), r"node x.q: must have positive finite scales, got inf; quantize"),
    ],
)
def test_impossible_scales(tmp_path: Path, proto: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence):
        imported(proto, tmp_path)


def refused(b: Builder, sentence: str) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence):
        take_apart(model(b.nodes, b.tensors), "net")


def test_integers_that_are_computed_with() -> None:
    b = Builder()
    s, z = b.tensor("s", 0.02), b.tensor("z", 0, np.uint8)
    q = b.node("QuantizeLinear", ["x", s, z], "q")
    b.node("DequantizeLinear", [b.node("Add", [q, q], "a"), s, z], "y")
    refused(
        b, r"net node a: must not compute with integers between QuantizeLinear and Deq.*got Add"
    )


def test_integer_weights_that_are_computed_with() -> None:
    b = Builder()
    s, z = b.tensor("s", 0.02), b.tensor("z", 0, np.int8)
    q = b.node("QuantizeLinear", [b.tensor("w", W1), s, z], "q")
    b.node("DequantizeLinear", [b.node("Neg", [q], "a"), s, z], "y")
    refused(b, r"net node a: must not compute with integer weights before Deq.*, got Neg; export")


def test_another_scale_behind_than_before() -> None:
    b = Builder()
    z = b.tensor("z", 0, np.uint8)
    q = b.node("QuantizeLinear", ["x", b.tensor("s", 0.02), z], "q")
    b.node("DequantizeLinear", [q, b.tensor("t", 0.03), z], "y")
    refused(b, r"net node y: must dequantize with the scale and zero point of its QuantizeLinear, "
               r"0.02 and 0, got 0.03 and 0; export the model again")  # fmt: skip


def test_integers_from_nowhere() -> None:
    b = Builder()
    b.node("DequantizeLinear", ["x", b.tensor("s", 0.02)], "y")
    refused(b, r"net node y: must dequantize weights, or what a QuantizeLinear made, got tensor x;")


def test_a_scale_that_is_computed() -> None:
    b = Builder()
    b.node("QuantizeLinear", ["x", b.node("Abs", ["x"], "s"), b.tensor("z", 0, np.uint8)], "y")
    refused(b, r"net node y: must have a scale, zero point and limits that are constants, got ten")


def test_floats_of_8_bits() -> None:
    b = Builder()
    tensor = onnx.helper.make_tensor("z", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0])
    b.tensors.append(tensor)
    b.node("QuantizeLinear", ["x", b.tensor("s", 0.02), "z"], "y")
    refused(b, r"net node y: must quantize to integers of at most 32 bits, got FLOAT8E4M3FN; quan")
