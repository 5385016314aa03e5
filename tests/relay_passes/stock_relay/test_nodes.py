"""The graph that stock quantization rewrites: reading, rules, writing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.stock_relay.nodes import (
    Node,
    count_uses,
    post_order,
    read_nodes,
    rewrite,
    write_nodes,
)
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from tests.relay_passes.expected import assert_becomes, assert_same
from tests.relay_passes.stock_relay.models import (
    lines,
    model,
    random,
    refuse,
    weights,
)
from vta_config.errors import UnsupportedModelError

op = relax.op


def test_operands_come_first_from_left_to_right_and_once() -> None:
    a, b = Node(op="var", name="a"), Node(op="var", name="b")
    left, right = Node(op="relu", args=(a,)), Node(op="add", args=(b, a))
    root = Node(op="add", args=(left, right))
    assert list(post_order(root)) == [a, left, b, right, root]
    assert count_uses(root) == {a: 2, b: 1, left: 1, right: 1, root: 1}
    assert left != Node(op="relu", args=(a,))  # equal only to itself


def test_a_deep_graph_needs_no_recursion() -> None:
    node = Node(op="var")
    for _ in range(20_000):
        node = Node(op="relu", args=(node,))
    assert sum(1 for _ in post_order(node)) == 20_001


def test_a_rule_sees_the_node_and_its_new_operands() -> None:
    x = Node(op="var", name="x")
    shared = Node(op="relu", args=(x,))
    root = Node(op="add", args=(shared, Node(op="clip", args=(shared,))))
    seen: list[tuple[str, list[str]]] = []

    def rule(node: Node, args: list[Any]) -> Node | None:
        seen.append((node.op, [arg.op for arg in args]))
        return Node(op="negative", args=args) if node.op == "relu" else None

    after = rewrite(root, {"relu": rule, "clip": rule})
    assert lines(after) == ["%0 = negative(x)", "%1 = clip(%0)", "%2 = add(%0, %1)"]
    assert seen == [("relu", ["var"]), ("clip", ["negative"])]
    assert rewrite(root, {}) is root
    # What every user of a shared node sees, each operand slot in turn.
    hint = rewrite(root, {}, on_shared=lambda value: Node(op="hint", args=(value,)))
    assert lines(hint) == [
        "%0 = relu(x)", "%1 = hint(%0)", "%2 = hint(%0)", "%3 = clip(%2)", "%4 = add(%1, %3)",
    ]  # fmt: skip


def test_what_was_read_is_written_again() -> None:
    @I.ir_module
    class Module:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                pool = R.nn.max_pool2d(data, (2, 2), (2, 2))
                clip = R.clip(pool, 0.0, 6.0)
                both = R.concat((clip, pool), axis=1)
                mean = R.mean(both, axis=[2, 3], keepdims=True)
                R.output(mean)
            return mean

    assert lines(read_nodes(Module)) == [
        "%0 = max_pool2d(data)",
        "%1 = clip(%0)",
        "%2 = concatenate(%1, %0)",
        "%3 = global_avg_pool2d(%2)",
    ]
    assert_same(write_nodes(read_nodes(Module), Module), Module)


def test_reshaped_constants_and_batch_norms_are_computed() -> None:
    """s = (1 / sqrt(var + eps)) · gamma and t = -mean · s + beta."""

    @I.ir_module
    class Module:
        @R.function
        def main(data: R.Tensor((1, 2, 4, 4), "float32")):
            with R.dataflow():
                norm = R.nn.batch_norm(
                    data,
                    R.const(np.float32([2, 3])),
                    R.const(np.float32([5, 2])),
                    R.const(np.float32([1, 2])),
                    R.const(np.float32([3.75, 0.75])),
                    axis=1,
                    epsilon=0.25,
                    training=False,
                )
                first = norm[0]
                row = R.reshape(R.const(np.float32([7, 8])), R.shape([1, 2, 1, 1]))
                y = R.add(first, row)
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 2, 4, 4), "float32")):
            with R.dataflow():
                first_scaled = R.multiply(data, R.const(np.float32([1, 3]).reshape(1, 2, 1, 1)))
                first_add = R.add(first_scaled, R.const(np.float32([4, -4]).reshape(1, 2, 1, 1)))
                y = R.add(first_add, R.const(np.float32([7, 8]).reshape(1, 2, 1, 1)))
                R.output(y)
            return y

    assert_becomes(lambda mod: write_nodes(read_nodes(mod), mod), Module, After)


def test_written_module_keeps_parameters_and_names_tensors_after_their_layers() -> None:
    def body(emit: Any, x: Any) -> Any:
        first = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)), name_hint="conv1")
        total = emit(op.add(first, relax.const(random(1, 2, 1, 1))), name_hint="bias1")
        return emit(op.nn.conv2d(total, weights(2, 2, 1, 1)), name_hint="conv2")

    mod = StockRelay(StockOptions(skip_conv_layers=()))(model((1, 3, 2, 2), body))
    assert [p.name for p in mod["main"].params] == ["data"]
    values = {str(b.var.name): b.value for b in mod["main"].body.blocks[0].bindings}
    assert {"data.round", "data.int8", "conv1.acc", "bias1.shr", "bias1.clip", "conv2.acc"} <= set(
        values
    )
    assert list(values["bias1.add"].args[1].value.shape) == [1, 2, 1, 1]
    assert values["conv2.acc"].args[0].ty.dtype == "int8"


def test_calls_of_other_functions_are_refused() -> None:
    builder = relax.BlockBuilder()
    inner, data = (relax.Var(n, relax.TensorType((1, 3, 4, 4), "float32")) for n in ("x", "data"))
    with builder.function("helper", [inner]):
        helper = builder.emit_func_output(builder.emit(op.nn.relu(inner)))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(relax.Call(helper, [data]), name_hint="call")
        builder.emit_func_output(result)
    sentence = "call: must be a call of a Relax operator, for stock quantization, got Call; inline"
    with pytest.raises(UnsupportedModelError, match=sentence):
        StockRelay()(builder.get())


def test_batch_norm_with_parameters_that_are_not_constant_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        vector = emit(op.nn.relu(relax.const(np.ones(3, np.float32))))
        rest = [relax.const(np.ones(3, np.float32))] * 3
        norm = emit(op.nn.batch_norm(x, vector, *rest, axis=1, training=False))
        return emit(relax.TupleGetItem(norm, 0), name_hint="norm")

    refuse(body, "norm: must have constant gamma, beta, mean and variance; bind the parameters")
