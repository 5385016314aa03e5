"""Depthwise convolutions: every engine gives what their definition says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.backend import PipelineBackend
from flow.compiler.link import make_program
from flow.compiler.lower import Lowering, lower
from flow.compiler.operators.depthwise_conv2d import weight_slots
from flow.compiler.search import search
from flow.compiler.workbench import Residents
from flow.data.datasets import image_folder
from flow.data.models import load_model, preprocessing_of
from flow.program.layouts import pack_diagonals
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import conv, output_of, requantize, subgraph, weights
from tests.flow.data.test_datasets import write_image
from tests.flow.onnx_models import save
from tests.flow.onnx_models import weights as tensors
from vta_config.errors import CapacityError, UnsupportedModelError
from vta_config.hardware import VTAConfig, preset_names


def depthwise(
    rng: np.random.Generator,
    source: Layer | TensorSpec,
    kernel: tuple[int, int] = (3, 3),
    *,
    name: str = "depthwise",
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilation: tuple[int, int] = (1, 1),
    **options: Any,
) -> Layer:
    """Return a depthwise convolution with random weights."""
    tensor, in_shape = output_of(source)
    n, channels, *size = in_shape
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(size[a] + padding[a] + padding[a + 2] - reach[a]) // stride[a] + 1 for a in (0, 1)]
    post_ops = options.pop("post_ops") if "post_ops" in options else requantize(rng, channels, 8)
    return Layer(
        name=name,
        kind="depthwise_conv2d",
        inputs=(tensor, *(s.tensor for s in post_ops if s.tensor)),
        output=name,
        in_shape=in_shape,
        out_shape=(n, channels, *out),
        weight=weights(rng, channels, 1, *kernel),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        post_ops=post_ops,
        **options,
    )


def sums(layer: Layer, x: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the accumulators, output by output, as the definition of the operator has them."""
    assert layer.weight is not None
    top, left, bottom, right = layer.padding
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sy, sx), (dy, dx), (kh, kw) = layer.stride, layer.dilation, layer.kernel
    result = np.zeros(layer.out_shape, np.int64)
    for n, c, y, column in np.ndindex(*layer.out_shape):
        rows = slice(y * sy, y * sy + (kh - 1) * dy + 1, dy)
        columns = slice(column * sx, column * sx + (kw - 1) * dx + 1, dx)
        result[n, c, y, column] = (padded[n, c, rows, columns] * layer.weight[c, 0]).sum()
    return result


def stored(layer: Layer, x: NDArray[np.int8]) -> NDArray[Any]:
    """Return what the layer stores: bias and rounding constant, shift, clip."""
    total = sums(layer, x)
    for step in layer.post_ops:
        value = np.asarray(step.value, np.int64).reshape(1, -1, 1, 1)
        if step.op == "add_tensor":
            total = total + (x.astype(np.int64) << value)
        else:
            total = {
                "add": np.add,
                "shr": np.right_shift,
                "max": np.maximum,
                "min": np.minimum,
            }[step.op](total, value)
    return total.astype(layer.out_dtype)


def check_engines(layer: Layer, x: TensorSpec, config: VTAConfig) -> Program:
    """Compare fsim in two orders, tsim and the oracle with numpy."""
    graph = subgraph((layer,), x)
    program = make_program(graph, lower(graph, config), config)
    data = weights(np.random.default_rng(7), *x.shape)
    expected = stored(layer, data)
    sim = ProgramSim(program)
    for outputs in (
        sim.run([data]).outputs,
        sim.run([data], seed=3).outputs,
        TSim(program).run([data]).outputs,
        run_program(program, [data]).outputs,
    ):
        np.testing.assert_array_equal(outputs[0].reshape(expected.shape), expected)
    return program


@pytest.mark.parametrize("preset", preset_names())
def test_every_engine_on_every_machine(preset: str) -> None:
    config, rng = VTAConfig.load(preset), np.random.default_rng(1)
    channels = 2 * config.block + 3
    x = TensorSpec(name="x", shape=(config.batch, channels, 9, 11), dtype="int8")
    check_engines(depthwise(rng, x), x, config)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": (2, 2)},
        {"stride": (2, 1), "padding": (0, 2, 1, 0)},
        {"dilation": (2, 3), "padding": (2, 3, 2, 3)},
        {"kernel": (1, 1), "padding": (0, 0, 0, 0)},
        {"kernel": (1, 5), "stride": (2, 2), "padding": (0, 2, 0, 2)},
        {"kernel": (5, 2), "padding": (2, 0, 2, 1)},
        {"kernel": (7, 9), "padding": (0, 0, 0, 0)},
    ],
    ids=str,
)
def test_windows(options: dict[str, Any], default_config: VTAConfig) -> None:
    x = TensorSpec(name="x", shape=(1, 20, 7, 9), dtype="int8")
    check_engines(depthwise(np.random.default_rng(2), x, **options), x, default_config)


@pytest.mark.parametrize("preset", ["default", "small"])
def test_what_needs_many_tiles(preset: str) -> None:
    x = TensorSpec(name="x", shape=(1, 70, 61, 40), dtype="int8")
    config = VTAConfig.load(preset)
    program = check_engines(depthwise(np.random.default_rng(3), x), x, config)
    assert len({insn.origin.tile for insn in program.insns if insn.origin.tile}) > 8


def test_steps_after_it(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(4)
    x = TensorSpec(name="x", shape=(2, 40, 8, 8), dtype="int8")
    bias, *rest = requantize(rng, 40, 9)
    steps = (bias, PostOp(op="add_tensor", value=5, tensor="x"), *rest)
    plain = depthwise(rng, x, post_ops=steps)
    assert plain.inputs == ("x", "x") and plain.macs == 2 * 40 * 8 * 8 * 9
    check_engines(plain, x, default_config)
    check_engines(depthwise(rng, x, post_ops=(), out_dtype="int32"), x, default_config)


def test_diagonal_blocks(default_config: VTAConfig) -> None:
    kernel = weights(np.random.default_rng(5), 20, 1, 2, 3)
    packed = pack_diagonals(kernel, default_config)
    assert packed.shape == (2, 1, 2, 3, 16, 16)
    expected = np.zeros_like(packed)
    for c, y, x in np.ndindex(20, 2, 3):
        expected[c // 16, 0, y, x, c % 16, c % 16] = kernel[c, 0, y, x]
    np.testing.assert_array_equal(packed, expected)


def test_what_does_not_fit(default_config: VTAConfig) -> None:
    x = TensorSpec(name="x", shape=(1, 16, 60, 60), dtype="int8")
    layer = depthwise(np.random.default_rng(6), x, (50, 50), padding=(0, 0, 0, 0))
    with pytest.raises(CapacityError, match="depthwise: its smallest tile must fit .* inp, "):
        check_engines(layer, x, default_config)


@pytest.mark.parametrize("preset", preset_names())
def test_the_largest_windows_that_pass_the_rule_are_lowered(preset: str) -> None:
    config, rng = VTAConfig.load(preset), np.random.default_rng(12)
    planes = [1 if bits == 8 else 3 for bits in (config.inp_bits, config.wgt_bits)]
    taps = config.wgt_depth * 3 // 4 // planes[1]
    side = int((config.inp_depth * 3 // 4 // planes[0]) ** 0.5)
    for kernel, dilation in (((2, taps // 2), 1), ((2, 2), side - 1)):
        size = [(k - 1) * dilation + 2 for k in kernel]
        x = TensorSpec(name="x", shape=(config.batch, 2 * config.block, *size), dtype="int8")
        steps = (PostOp(op="add_tensor", value=3, tensor="r"), *requantize(rng, x.shape[1], 9))
        r = TensorSpec(name="r", shape=(*x.shape[:2], 2, 2), dtype="int8")
        layer = depthwise(
            rng,
            x,
            kernel,
            padding=(0, 0, 0, 0),
            dilation=(dilation, dilation),
            post_ops=steps,
        )
        assert lower(subgraph((layer,), x, r), config).insns


def test_a_search_leaves_its_tiling(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(11)
    x = TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    first = depthwise(rng, x)
    schedule = search(subgraph((first, conv(rng, "conv", first, 16, (1, 1))), x), default_config)
    assert list(schedule.tilings) == ["conv"] and not schedule.forms


def test_it_is_no_product_of_another_sum() -> None:
    rng = np.random.default_rng(8)
    x = TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    added = depthwise(rng, x, post_ops=(), out_dtype="int32")
    must = "product depthwise: must be a conv2d or dense layer added to another, got depthwise_conv"
    with pytest.raises(UnsupportedModelError, match=must):
        conv(rng, "conv", x, 16, (3, 3), padding=(1, 1, 1, 1), summands=(added,))


def separable() -> onnx.ModelProto:
    """Return conv -> depthwise (ReLU6) -> 1 × 1 conv, added to what the first gave -> dense."""
    rng = np.random.default_rng(9)

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=f"{output}_node", **attributes)

    nodes = [
        node("Conv", ["data", "stem", "b0"], "c0", pads=[1] * 4),
        node("Relu", ["c0"], "r0"),
        node("Conv", ["r0", "taps", "b1"], "c1", pads=[1] * 4, group=24),
        node("Clip", ["c1", "zero", "six"], "r1"),
        node("Conv", ["r1", "point", "b2"], "c2"),
        node("Add", ["c2", "r0"], "s"),
        node("Relu", ["s"], "r2"),
        node("Conv", ["r2", "taps", "b1"], "c3", pads=[1] * 4, strides=[2, 2], group=24),
        node("Relu", ["c3"], "r3"),
        node("GlobalAveragePool", ["r3"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "head", "b3"], "logits", transB=1),
    ]
    values = tensors(
        stem=rng.normal(size=(24, 3, 3, 3)),
        taps=rng.normal(size=(24, 1, 3, 3)),
        point=rng.normal(size=(24, 24, 1, 1)) / 5,
        head=rng.normal(size=(5, 24)),
        b0=rng.normal(size=24),
        b1=rng.normal(size=24),
        b2=rng.normal(size=24),
        b3=rng.normal(size=5),
        zero=0.0,
        six=6.0,
    )
    shape = ["N", 3, 12, 12]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "separable", [data], [logits], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["profiled_fused", "fine_residuals"])
def test_a_network_from_onnx(variant: str, tmp_path: Path, default_config: VTAConfig) -> None:
    model = load_model(str(save(separable(), tmp_path / "separable.onnx")))
    backend = PipelineBackend(model, default_config)
    for index in range(8):
        write_image(tmp_path / "images" / f"{index}.png", 30 * index)
    images = image_folder(tmp_path / "images", preprocessing_of(model))
    backend.calibrate(images, lambda done, total: None)
    compiled = backend.compile(variant)
    kinds = [record.kind for p in compiled.model.programs for record in p.layers]
    assert kinds.count("depthwise_conv2d") == 2
    exact = compiled.verify(images.take(3), lambda done, total: None)
    assert exact.mismatches == 0, exact.first
    assert exact.images == 3


def test_weights_that_take_longer_than_the_layer_may_all_lie_there(
    default_config: VTAConfig,
) -> None:
    """256 channels of 3 × 3 pixels load for 5,000 cycles and compute for 2,200."""
    rng = np.random.default_rng(0)
    slots = []
    for size in (3, 12):
        x = TensorSpec(name="x", shape=(1, 256, size, size), dtype="int8")
        layer = depthwise(rng, x)
        (normal,) = Lowering(subgraph((layer,), x), default_config).layers
        capacity = Residents([normal], default_config, "balanced").capacity_of(normal)
        row = normal.shape.constants + 9
        slots += [
            weight_slots(normal.shape, capacity, (1, size, size), planes=(1, 1), row=row),
            weight_slots(
                normal.shape, replace(capacity, wgt=512), (1, size, size), planes=(1, 1), row=row
            ),
        ]
    assert slots == [16, 2, 2, 2]
