"""Integers for simulated quantization: each rule on small graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.stock_relay.annotate import Annotate
from relay_passes.stock_relay.mark_sections import MarkSections
from relay_passes.stock_relay.nodes import post_order, read_nodes, rewrite
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from relay_passes.stock_relay.realize import Realize
from tests.relay_passes.stock_relay.models import (
    lines,
    model,
    ops,
    quantized,
    random,
    refuse,
    run,
    weights,
)

op = relax.op


def test_simulated_quantization_becomes_arithmetic() -> None:
    """Scales 1/16 and 1/128; a weight's integers are computed: 64 and, clipped, 127."""
    kernel = relax.const(np.float32([0.5, 1.0]).reshape(2, 1, 1, 1))
    mod = model((1, 1, 2, 2), lambda emit, x: emit(op.nn.conv2d(x, kernel)))
    options = StockOptions(skip_conv_layers=())
    annotate = Annotate(options)
    before = rewrite(read_nodes(mod), MarkSections(options).rules())
    before = rewrite(before, annotate.rules(), on_shared=annotate.share)
    assert lines(before) == [
        "%0 = simulated_quantize_input(data)",
        "%1 = simulated_quantize_weight(const)",
        "%2 = conv2d(%0, %1)",
        "%3 = simulated_quantize_input(%2)",
        "%4 = cast_hint(%3)",
        "%5 = stop_fusion(%4)",
    ]
    after = rewrite(before, Realize(options).rules())
    assert lines(after) == [
        "%0 = multiply(data, const)",
        "%1 = round(%0)",
        "%2 = clip(%1)",
        "%3 = cast(%2)",
        "%4 = conv2d(%3, const)",
        "%5 = add(%4, const)",
        "%6 = right_shift(%5, const)",
        "%7 = clip(%6)",
        "%8 = cast(%7)",
        "%9 = cast(%8)",
        "%10 = multiply(%9, const)",
    ]
    nodes = [node for node in post_order(after) if node.op not in ("var", "const")]
    constants = [arg.value for node in nodes for arg in node.args if arg.value is not None]
    assert [value.reshape(-1).tolist() for value in constants] == [
        [16.0], [64, 127], [64], [7], [1 / 16],
    ]  # fmt: skip
    assert [n.dtype for n in nodes if n.op == "cast"] == ["int8", "int8", "float32"]
    assert [n.attrs["bounds"] for n in nodes if n.op == "clip"] == [(-127, 127)] * 2


def test_input_rounds_half_away_from_zero() -> None:
    eye = relax.const(np.eye(1, dtype=np.float32).reshape(1, 1, 1, 1))
    mod = model((1, 1, 1, 8), lambda emit, x: emit(op.nn.conv2d(x, eye)))
    below = np.nextafter(np.float32(0.5), np.float32(0))
    steps = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, below, -below], np.float32)
    result = run(StockRelay(StockOptions(skip_conv_layers=()))(mod), (steps / 16)[None, None, None])
    # weight 1 -> scale 2^0/128, clipped to 127/128; x·127/128 rounds back to x
    assert (result.ravel() * 16).tolist() == [-3, -2, -1, 1, 2, 3, 0, 0]


def test_last_residual_sum_wraps_and_the_pool_truncates() -> None:
    eye = relax.const(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1))

    def body(emit: Any, x: Any) -> Any:
        total = emit(op.add(emit(op.nn.conv2d(x, eye)), emit(op.nn.conv2d(x, eye))))
        return emit(op.mean(total, axis=[2, 3], keepdims=True))

    mod = StockRelay(StockOptions(skip_conv_layers=()))(model((1, 2, 1, 4), body))
    data = np.array([[6.0, 6.0, 6.0, 6.0], [-1.0, -1.0, -1.0, -1.125]], np.float32)
    # 6.0 -> 96 · 127/128 -> 95; 95 + 95 = 190 wraps to −66. −16 · 127/128 -> −16; −18 -> −18:
    # sums −32, −32, −32, −36: −132 / 4 = −33 exactly; data below makes it truncate
    result = run(mod, data.reshape(1, 2, 1, 4)).ravel() * 16
    assert result.tolist() == [-66, -33]
    data[1, 3] = -1.0625  # −17 -> −17: −130 / 4 = −32.5, towards zero −32
    assert (run(mod, data.reshape(1, 2, 1, 4)).ravel() * 16).tolist() == [-66, -32]


def test_clip_limits_move_to_the_scale_of_the_integers() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, relax.const(np.full((2, 3, 1, 1), 0.75, np.float32))))
        return emit(op.nn.conv2d(emit(op.clip(conv, 0, 6)), weights(2, 2, 1, 1)))

    graph = quantized(model((1, 3, 4, 4), body), StockOptions(skip_conv_layers=()))
    bounds = [n.attrs["bounds"] for n in post_order(graph) if n.op == "clip"]
    # input; 6 / (1/16 · 1/128) = 12288; requantized; output
    assert bounds == [(-127, 127), (0, 12288), (-127, 127), (-127, 127)]


def test_concatenation_of_two_stays_in_eight_bits_of_three_goes_through_thirty_two() -> None:
    def body(emit: Any, x: Any, count: int) -> Any:
        stem = emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))
        parts = [emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=s))) for s in range(count)]
        joined = emit(op.concat(parts, axis=1))
        return emit(op.nn.conv2d(joined, weights(4, 4 * count, 1, 1, seed=9)))

    x = random(1, 3, 4, 4)
    for count, dtype in ((2, "int8"), (3, "int32")):
        mod = model((1, 3, 4, 4), lambda emit, x, count=count: body(emit, x, count))
        options = StockOptions(skip_conv_layers=())
        joins = [n for n in post_order(quantized(mod, options)) if n.op == "concatenate"]
        assert [n.dtype for n in joins] == [dtype]
        result = run(StockRelay(options)(mod), x)
        assert np.abs(result - run(mod, x)).max() < 0.25


def test_average_pool_and_maximum_pool_of_integers() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))
        pooled = emit(op.nn.max_pool2d(conv, (2, 2), (2, 2)))
        pooled = emit(op.nn.avg_pool2d(pooled, (2, 2), (2, 2)))
        return emit(op.nn.conv2d(pooled, weights(4, 4, 1, 1, seed=1)))

    mod = model((1, 3, 8, 8), body)
    graph = quantized(mod, StockOptions(skip_conv_layers=()))
    kinds = {n.op: n.dtype for n in post_order(graph) if "pool" in n.op}
    assert kinds == {"max_pool2d": "int8", "avg_pool2d": "int32"}
    x = random(1, 3, 8, 8)
    result = run(StockRelay(StockOptions(skip_conv_layers=()))(mod), x)
    assert np.abs(result - run(mod, x)).max() < 0.25


def test_unknown_operator_gets_floats_again() -> None:
    def body(emit: Any, x: Any) -> Any:
        return emit(op.sigmoid(emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))))

    graph = quantized(model((1, 3, 4, 4), body), StockOptions(skip_conv_layers=()))
    assert ops(graph)[-5:] == ["clip", "cast", "cast", "multiply", "other"]


@pytest.mark.parametrize("between", ["max_pool2d", "reshape", None])
def test_shared_int8_tensors_are_not_clipped_again(between: str | None) -> None:
    """Relay clips what has two users once more; where that changes nothing it is not written."""

    def body(emit: Any, x: Any) -> Any:
        stem = emit(op.nn.relu(emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))))
        if between == "max_pool2d":
            stem = emit(op.nn.max_pool2d(stem, (2, 2), (2, 2)))
        elif between == "reshape":
            stem = emit(op.reshape(stem, (1, 4, 2, 8)))
        first = emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=1)))
        return emit(op.add(emit(op.nn.conv2d(first, weights(4, 4, 1, 1, seed=2))), stem))

    mod = model((1, 3, 4, 4), body)
    graph = quantized(mod, StockOptions(skip_conv_layers=()))
    clips = [n for n in post_order(graph) if n.op == "clip" and n.dtype == "int8"]
    assert not clips
    x = random(1, 3, 4, 4)
    result = run(StockRelay(StockOptions(skip_conv_layers=()))(mod), x)
    assert np.abs(result - run(mod, x)).max() < 0.25


def test_zero_bias_stays_zero() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        return emit(op.add(conv, relax.const(np.zeros((1, 2, 1, 1), np.float32))))

    for weight_scale in ("power2", "max"):
        options = StockOptions(skip_conv_layers=(), weight_scale=weight_scale)
        result = run(StockRelay(options)(model((1, 3, 2, 2), body)), np.zeros((1, 3, 2, 2), "f4"))
        assert not result.any()


def test_sum_of_a_quantized_and_a_float_value_after_a_global_pool_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        left, right = (emit(op.nn.conv2d(x, weights(2, 3, 1, 1, seed=s))) for s in (0, 1))
        gate = emit(op.sigmoid(emit(op.mean(right, [2, 3], keepdims=True))))
        return emit(op.add(left, gate), name_hint="total")

    refuse(body, "total: must have all of its operands quantized, or none, for stock")


def test_concatenation_to_a_coarser_scale_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        parts = [emit(op.nn.conv2d(x, weights(2, 3, 1, 1, seed=s))) for s in range(3)]
        return emit(op.concat(parts, axis=1), name_hint="joined")

    refuse(body, "joined: must have operands with scales of at least .*", nbit_activation=4)


def test_shift_of_eight_bit_values_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        parts = [emit(op.sigmoid(x)), emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))]
        joined = emit(op.concat(parts, axis=1), name_hint="joined")
        return emit(op.nn.conv2d(joined, weights(2, 5, 1, 1)))

    refuse(body, "joined: must be int32 to be shifted, for stock")
