"""Reading and rebuilding the dataflow block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import relax as R

from relay_passes.graph import (
    GraphBuilder,
    GraphPass,
    clip_limits,
    constant,
    op_name,
    read_graph,
    rewrite,
    slices_of,
    source_name,
    static_shape,
)
from tests.relay_passes.models import CNN, residual_net
from vta_config.errors import UnsupportedModelError


def test_identity_rewrite_keeps_the_module() -> None:
    mod = residual_net()
    tvm.ir.assert_structural_equal(rewrite(mod, lambda builder, var, value: value), mod)


def test_names_keep_their_dots() -> None:
    net = CNN()
    mod = net.module(net.relu(net.data))
    named = rewrite(mod, lambda builder, var, value: builder.emit(value, "layer1.0.relu"))
    assert [b.var.name for b in read_graph(named).bindings] == ["layer1.0.relu"]


def test_a_parameter_or_one_result_twice_can_be_returned() -> None:
    net = CNN()
    y = net.relu(net.data)
    graph = read_graph(net.module(net.data, y, y))
    assert [v.name for v in graph.results] == ["data", "lv0", "lv0"]
    assert graph.uses()[net.data][-1] is None or len(graph.uses()[net.data]) == 2


def test_dead_bindings_go() -> None:
    net = CNN()
    net.conv(net.data, 4)
    mod = rewrite(net.module(net.relu(net.data)), lambda builder, var, value: value)
    assert [op_name(b.value) for b in read_graph(mod).bindings] == ["nn.relu"]


def test_looking_at_expressions() -> None:
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    assert op_name(relax.op.nn.relu(x)) == "nn.relu"
    assert op_name(x) == "" and constant(x) is None
    assert constant(relax.const(np.arange(3, dtype=np.int32))).tolist() == [0, 1, 2]
    assert static_shape(x) == (2, 3)


def test_dynamic_shape_is_rejected() -> None:
    @R.function
    def main(x: R.Tensor(("n", 3), "float32")) -> R.Tensor(("n", 3), "float32"):
        with R.dataflow():
            y = R.nn.relu(x)
            R.output(y)
        return y

    with pytest.raises(
        UnsupportedModelError, match=r"x: must have a static shape, got .*; export "
    ):
        read_graph(tvm.IRModule({"main": main}))


def test_control_flow_and_missing_main_are_rejected() -> None:
    @R.function
    def main(c: R.Tensor((), "bool"), x: R.Tensor((2,), "float32")) -> R.Tensor((2,), "float32"):
        if c:
            y = R.nn.relu(x)
        else:
            y = R.negative(x)
        return y

    with pytest.raises(UnsupportedModelError, match="main: must be straight-line code, got If"):
        read_graph(tvm.IRModule({"main": main}))
    with pytest.raises(UnsupportedModelError, match="main: must be a function of the module; impo"):
        read_graph(tvm.IRModule({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failing(GraphPass):
    error: Exception

    def transform(self, mod: Any) -> Any:
        raise self.error


def test_errors_keep_their_kind_through_tvm() -> None:
    error = UnsupportedModelError("conv1", "must be nice", hint="try again")
    with pytest.raises(UnsupportedModelError, match="conv1: must be nice; try again"):
        _Failing(error=error)(residual_net())
    with pytest.raises(ValueError, match="other"):
        _Failing(error=ValueError("other"))(residual_net())
    with pytest.raises(NotImplementedError, match="GraphPass"):
        GraphPass().transform(None)


def test_builder_returns_variables_as_they_are() -> None:
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    assert GraphBuilder().emit(x, "y").same_as(x)


def test_operands_that_are_numbers() -> None:
    x = relax.Var("x", relax.TensorType((1, 8, 4, 4), "float32"))
    assert clip_limits(relax.op.clip(x, -1, 6.5)) == (-1.0, 6.5)
    plain = relax.op.strided_slice(x, [1, -1], [2, 0], [6, 4])
    assert slices_of(plain) == {1: slice(2, 6, 1), 3: slice(0, 4, 1)}
    stepped = relax.op.strided_slice(x, [2], [3], [-5], [-1])
    assert slices_of(stepped) == {2: slice(3, -5, -1)}
    assert source_name(plain) == "x"
    assert source_name(relax.op.add(relax.const(1.0), x)) == source_name(x) == ""
