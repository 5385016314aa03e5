"""Integer modules by hand, and the check that layers mean what Relax computes."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from tvm import relax

from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import GraphBuilder, read_graph, replace_main
from relay_passes.host.run import HostModule
from relay_passes.partition.expose_tensors import expose_tensors
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, find_layers, subgraph_of
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from tests.relay_passes.layer_oracle import run_subgraph
from tests.relay_passes.models import CNN, images
from vta_config import VTAConfig


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
