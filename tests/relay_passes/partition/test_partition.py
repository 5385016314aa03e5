"""Grouping into layers, annotated functions and fallbacks; the layers mean what Relax computes."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import GraphBuilder, read_graph, replace_main
from relay_passes.host.run import HostModule
from relay_passes.partition.expose_tensors import expose_tensors
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, find_layers, layers_of, subgraph_of
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.variants import VARIANTS
from tests.relay_passes.layer_oracle import run_subgraph
from tests.relay_passes.models import CNN, images, residual_net
from vta_config import VTAConfig
from vta_config.errors import UnsupportedModelError


def quantized(mod: Any, options: QuantOptions | None = None) -> Any:
    mod = prepare(mod)
    shape = tuple(int(v) for v in read_graph(mod).params[0].ty.shape.values)
    data = images(2, shape)
    measure = partial(collect_moments, images=data)
    observe = partial(profile, images=data)
    return quantize_model(mod, observe(mod), options, measure=measure, observe=observe)


class Int8:
    """Builds an integer module by hand: int8 input, operators as given."""

    def __init__(self, shape: tuple[int, ...] = (1, 4, 6, 6)) -> None:
        self.net = CNN(shape)
        self.data = self.net.data = relax.Var("x", relax.TensorType(shape, "int8"))
        self.emit = self.net.emit

    def wide(self, x: Any, shift: int = 0) -> Any:
        x = self.emit(relax.op.astype(x, "int32"))
        return self.emit(relax.op.left_shift(x, number(shift))) if shift else x

    def conv(self, x: Any, out: int = 4, **kw: Any) -> Any:
        channels = int(x.ty.shape.values[1]) // int(kw.get("groups", 1))
        weight = self.net.rng.integers(-127, 128, (out, channels, 3, 3)).astype(np.int8)
        call = relax.op.nn.conv2d(x, relax.const(weight), padding=1, out_dtype="int32", **kw)
        return self.emit(call)

    def small(self, x: Any, n: int = 9) -> Any:
        x = self.emit(relax.op.right_shift(x, number(n)))
        return self.emit(relax.op.astype(self.emit(relax.op.clip(x, -127, 127)), "int8"))

    def module(self, *results: Any) -> Any:
        return self.net.module(*results)


def refused(mod: Any, config: VTAConfig) -> list[tuple[str, str]]:
    return [(f.operator, f.reason) for f in fallbacks(mod, config)]


def number(value: int) -> Any:
    return relax.const(np.int32(value))


def vector(values: list[int]) -> Any:
    return relax.const(np.asarray(values, np.int32).reshape(1, -1, 1, 1))


def check_meaning(mod: Any, config: VTAConfig) -> list[Any]:
    """Compare every layer's tensor, and return the layers of the only function."""
    exposed, names = expose_tensors(mod, config)
    (function,) = annotated_functions(partition(mod, config))
    subgraph = subgraph_of(function, config)
    assert [layer.output for layer in subgraph.layers] == list(names)
    found = find_layers(mod, config)  # the same where they are known as where they are found again
    (function,) = annotated_functions(partition(mod, config, found))
    np.testing.assert_equal(asdict(subgraph_of(function, config, found)), asdict(subgraph))
    param = read_graph(mod).params[0]
    shape = tuple(int(v) for v in param.ty.shape.values)
    rng = np.random.default_rng(5)
    if str(param.ty.dtype) == "int8":
        x: Any = rng.integers(-128, 128, shape).astype(np.int8)
        outputs = [x, *HostModule(exposed)(x)]
    else:
        x = rng.normal(0, 1, shape).astype(np.float32)
        graph = read_graph(exposed)
        (source,) = (b.var for b in graph.bindings if b.var.name == subgraph.inputs[0].name)
        builder = GraphBuilder()
        builder.bindings = list(graph.bindings)
        results = [source, *graph.results]
        outputs = HostModule(replace_main(exposed, builder, graph, results))(x)
    tensors = run_subgraph(subgraph, [outputs[0]])
    for name, expected in zip(names, outputs[len(outputs) - len(names) :], strict=True):
        np.testing.assert_array_equal(tensors[name].reshape(expected.shape), expected, err_msg=name)
    return list(subgraph.layers)


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_network_is_one_function(variant: str, default_config: VTAConfig) -> None:
    options = VARIANTS[variant].options
    mod = quantized(residual_net(), options)
    machine = replace(default_config, capabilities=options.capabilities)
    assert fallbacks(mod, machine) == ()
    layers = check_meaning(mod, machine)
    kinds = [layer.kind for layer in layers]
    paired = sum(len(layer.summands) for layer in layers)
    assert paired == (variant == "best")
    convolutions = ["conv2d"] * (5 - paired)
    assert kinds == ["conv2d", "max_pool2d", *convolutions, "sum_pool2d", "dense"]
    assert [layer.name for layer in layers][-1] == "dense0" and layers[-1].out_dtype == "int32"
    assert sum(len(layer.inputs) == 2 for layer in layers) == 2


def test_finer_scales_keep_their_meaning(default_config: VTAConfig) -> None:
    options = QuantOptions(chooser=ProfiledScales(weight_granularity="block"))
    check_meaning(quantized(residual_net(), options), default_config)


def test_a_shift_for_each_channel_stays_on_the_host(default_config: VTAConfig) -> None:
    t = Int8()
    acc = t.emit(relax.op.right_shift(t.conv(t.data), vector([9, 10, 9, 9])))
    assert (
        "nn.conv2d",
        "a shift or factor must be the same for all channels of a block",
    ) in refused(t.module(t.small(acc)), default_config)


def test_module_is_annotated(default_config: VTAConfig) -> None:
    mod = partition(quantized(residual_net()), default_config)
    assert sorted(g.name_hint for g in mod.get_global_vars()) == ["main", "vta_0"]
    function = mod["vta_0"]
    assert str(function.attrs["Codegen"]) == "vta"
    assert str(function.attrs["global_symbol"]) == "vta_0"
    subgraph = subgraph_of(function, default_config)
    assert [(s.name, s.dtype) for s in subgraph.inputs] == [("data.q", "int8")]
    assert [(s.name, s.dtype) for s in subgraph.outputs] == [("dense0", "int32")]


def test_chain_of_every_step(default_config: VTAConfig) -> None:
    t = Int8()
    acc = t.conv(t.data)
    acc = t.emit(relax.op.add(acc, vector([1, -2, 3, 400])))
    acc = t.emit(relax.op.add(t.wide(t.data, 5), acc))
    acc = t.emit(relax.op.add(acc, t.wide(t.data)))
    acc = t.emit(relax.op.left_shift(acc, vector([2, 2, 2, 2])))
    acc = t.emit(relax.op.right_shift(acc, vector([11, 11, 11, 11])))
    acc = t.emit(relax.op.nn.relu(acc))
    acc = t.emit(relax.op.maximum(acc, number(2)))
    acc = t.emit(relax.op.minimum(number(90), acc))
    y = t.emit(relax.op.astype(acc, "int8"))
    acc = t.emit(relax.op.add(t.wide(y, 2), number(3)))
    y = t.small(acc, 1)
    (layer,) = check_meaning(t.module(y), default_config)
    assert [s.op for s in layer.post_ops] == [
        "add",
        "add_tensor",
        "add_tensor",
        "shl",
        "shr",
        "max",
        "max",
        "min",
        "shl",
        "add",
        "shr",
        "max",
        "min",
    ]


def test_wrapping_cast_ends_a_layer(default_config: VTAConfig) -> None:
    t = Int8()
    y = t.emit(relax.op.astype(t.conv(t.data), "int8"))
    z = t.small(t.emit(relax.op.add(t.wide(y), number(1))), 1)
    first, second = check_meaning(t.module(z), default_config)
    assert first.post_ops == () and second.kind == "add"


def test_add_of_two_tensors(default_config: VTAConfig) -> None:
    t = Int8()
    a, b = t.small(t.conv(t.data)), t.small(t.conv(t.data))
    total = t.emit(relax.op.add(t.wide(a, 3), t.wide(b, 1)))
    layers = check_meaning(t.module(t.small(total, 2), a, b), default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "conv2d", "add"]
    assert [(s.op, s.value) for s in layers[2].post_ops[:3]] == [
        ("add_tensor", 3),
        ("add_tensor", 1),
        ("shr", 2),
    ]


def test_first_convolution_in_order_does_not_take_a_later_sum(default_config: VTAConfig) -> None:
    t = Int8()
    skip = t.small(t.conv(t.data))
    wide = t.wide(skip, 4)
    acc = t.conv(t.data)
    y = t.small(t.emit(relax.op.add(wide, acc)))
    layers = check_meaning(t.module(y), default_config)
    assert [len(layer.inputs) for layer in layers] == [1, 2]


def test_two_summands_share_an_accumulator(default_config: VTAConfig) -> None:
    t = Int8()
    weight = relax.const(t.net.rng.integers(-9, 10, (4, 4, 1, 1)).astype(np.int8))
    h = t.small(t.conv(t.data))
    main = t.emit(relax.op.add(t.conv(h), vector([1, 2, 3, 4])))
    down = t.emit(relax.op.nn.conv2d(t.data, weight, out_dtype="int32"))
    total = t.emit(relax.op.add(t.emit(relax.op.add(main, down)), t.wide(h, 3)))
    first, second = check_meaning(t.module(t.small(total)), default_config)
    assert not first.summands
    assert [p.kernel for p in second.summands] == [(1, 1)] and len(second.inputs) == 3
    assert [s.op for s in second.post_ops[:2]] == ["add", "add_tensor"]


def test_dense_layers_share_an_accumulator(default_config: VTAConfig) -> None:
    t = Int8((2, 3, 4, 5))
    flat = t.emit(relax.op.reshape(t.data, (2, 60)))
    flat2 = t.emit(relax.op.reshape(t.data, (2, 60)))
    accs = []
    for source in (flat, flat2):
        weight = relax.const(t.net.rng.integers(-9, 9, (60, 7)).astype(np.int8))
        accs.append(t.emit(relax.op.matmul(source, weight, out_dtype="int32")))
    (layer,) = check_meaning(t.module(t.small(t.emit(relax.op.add(*accs)))), default_config)
    assert layer.kind == layer.summands[0].kind == "conv2d"


@pytest.mark.parametrize("reason", ["read twice", "shifted", "grouped"])
def test_what_is_no_common_accumulator(reason: str, default_config: VTAConfig) -> None:
    t = Int8()
    left, right = t.conv(t.data), t.conv(t.data, groups=2 if reason == "grouped" else 1)
    results = [t.small(right)] if reason == "read twice" else []
    if reason == "shifted":
        left = t.emit(relax.op.right_shift(left, number(3)))
        right = t.emit(relax.op.right_shift(right, number(3)))
    mod = t.module(t.small(t.emit(relax.op.add(left, right))), *results)
    assert not any(layer.summands for layer in layers_of(mod, default_config))


def test_requantization_of_one_tensor(default_config: VTAConfig) -> None:
    t = Int8()
    y = t.emit(relax.op.nn.relu(t.wide(t.data)))
    (layer,) = check_meaning(t.module(t.small(y, 1)), default_config)
    assert layer.kind == "add" and layer.inputs == ("x",)


def test_dense_of_a_map_is_a_convolution(default_config: VTAConfig) -> None:
    t = Int8((2, 3, 4, 5))
    flat = t.emit(relax.op.reshape(t.small(t.conv(t.data, 3)), (2, 60)))
    weight = relax.const(t.net.rng.integers(-9, 9, (60, 7)).astype(np.int8))
    y = t.emit(relax.op.matmul(flat, weight, out_dtype="int32"))
    y = t.emit(relax.op.add(y, relax.const(np.arange(7, dtype=np.int32))))
    layers = check_meaning(t.module(y), default_config)
    assert layers[1].kind == "conv2d" and layers[1].kernel == (4, 5)


def test_dense_of_dense(default_config: VTAConfig) -> None:
    t = Int8((1, 5))
    x = t.data
    for _ in range(2):
        weight = relax.const(t.net.rng.integers(-9, 9, (5, 5)).astype(np.int8))
        x = t.small(t.emit(relax.op.matmul(x, weight, out_dtype="int32")), 3)
    assert [layer.kind for layer in check_meaning(t.module(x), default_config)] == ["dense"] * 2


def test_padded_max_pool(default_config: VTAConfig) -> None:
    t = Int8()
    y = t.emit(relax.op.nn.max_pool2d(t.data, (3, 3), (2, 2), (1, 1, 1, 1)))
    (layer,) = check_meaning(t.module(y), default_config)
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1, 1, 1))


def test_foreign_function_is_rejected(default_config: VTAConfig) -> None:
    t = Int8()
    function = t.module(t.wide(t.data))["main"]
    with pytest.raises(
        UnsupportedModelError,
        match="main: lv0: must call a composite function of VTA's, got astype; use partition",
    ):
        subgraph_of(function, default_config)


def test_code_generator_gets_the_function(default_config: VTAConfig) -> None:
    mod = partition(quantized(residual_net()), default_config)
    tvm.relax.analysis.well_formed(mod)
    (function,) = annotated_functions(mod)
    assert subgraph_of(function, default_config).symbol == "vta_0"
