"""Operands that are quantized, each to its kind; what is left alone."""

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
from tests.relay_passes.stock_relay.models import (
    lines,
    model,
    quantized,
    random,
    refuse,
    run,
    weights,
)

op = relax.op


def annotated(mod: Any, **options: Any) -> tuple[list[str], list[str]]:
    """Return a graph after marking, and what annotating makes of it."""
    chosen = StockOptions(**({"skip_conv_layers": ()} | options))
    before = rewrite(read_nodes(mod), MarkSections(chosen).rules())
    annotate = Annotate(chosen)
    return lines(before), lines(rewrite(before, annotate.rules(), on_shared=annotate.share))


def test_operands_are_quantized_each_to_its_kind() -> None:
    def body(emit: Any, x: Any) -> Any:
        y = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        y = emit(op.nn.relu(emit(op.add(y, weights(1, 2, 1, 1)))))
        return emit(op.nn.conv2d(y, weights(2, 2, 1, 1)))

    before, after = annotated(model((1, 3, 4, 4), body))
    assert before == [
        "%0 = conv2d(data, const)",
        "%1 = add(%0, const)",
        "%2 = relu(%1)",
        "%3 = cast_hint(%2)",
        "%4 = stop_fusion(%3)",
        "%5 = conv2d(%4, const)",
        "%6 = cast_hint(%5)",
        "%7 = stop_fusion(%6)",
    ]
    assert after == [
        "%0 = simulated_quantize_input(data)",
        "%1 = simulated_quantize_weight(const)",
        "%2 = conv2d(%0, %1)",
        "%3 = simulated_quantize_weight(const)",  # biases are weights too
        "%4 = add(%2, %3)",
        "%5 = relu(%4)",
        "%6 = simulated_quantize_input(%5)",
        "%7 = cast_hint(%6)",
        "%8 = stop_fusion(%7)",
        "%9 = simulated_quantize_weight(const)",
        "%10 = conv2d(%8, %9)",
        "%11 = simulated_quantize_input(%10)",
        "%12 = cast_hint(%11)",
        "%13 = stop_fusion(%12)",
    ]


def test_of_two_sums_the_right_one_is_stored_and_shared_tensors_once() -> None:
    def body(emit: Any, x: Any) -> Any:
        left = emit(op.reshape(emit(op.nn.conv2d(x, weights(3, 3, 1, 1))), (1, 3, 16)))
        right = emit(op.reshape(emit(op.nn.conv2d(x, weights(3, 3, 1, 1))), (1, 3, 16)))
        return emit(op.add(left, right))

    assert annotated(model((1, 3, 4, 4), body))[1] == [
        "%0 = simulated_quantize_input(data)",
        "%1 = simulated_quantize_weight(const)",
        "%2 = conv2d(%0, %1)",
        "%3 = simulated_quantize_input(%2)",
        "%4 = cast_hint(%3)",
        "%5 = stop_fusion(%4)",
        "%6 = reshape(%5)",
        "%7 = simulated_quantize_weight(const)",
        "%8 = conv2d(%0, %7)",
        "%9 = simulated_quantize_input(%8)",
        "%10 = cast_hint(%9)",
        "%11 = stop_fusion(%10)",
        "%12 = reshape(%11)",
        "%13 = add(%6, %12)",
    ]


def test_convolutions_to_skip_stay_floats() -> None:
    """The hint of a section in which nothing is quantized is dropped."""

    def body(emit: Any, x: Any) -> Any:
        y = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        return emit(op.nn.conv2d(y, weights(2, 2, 1, 1)))

    assert annotated(model((1, 3, 4, 4), body), skip_conv_layers=(0,))[1] == [
        "%0 = conv2d(data, const)",
        "%1 = stop_fusion(%0)",
        "%2 = simulated_quantize_input(%1)",
        "%3 = simulated_quantize_weight(const)",
        "%4 = conv2d(%2, %3)",
        "%5 = simulated_quantize_input(%4)",
        "%6 = cast_hint(%5)",
        "%7 = stop_fusion(%6)",
    ]


def residual(emit: Any, data: Any, *, swap: bool = False) -> Any:
    """conv0 -> relu -> (conv1, conv2) -> add -> global pool."""
    stem = emit(op.nn.relu(emit(op.nn.conv2d(data, weights(4, 3, 1, 1), out_dtype="float32"))))
    first = emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=1)), name_hint="first")
    second = emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=2)), name_hint="second")
    total = emit(op.add(second, first) if swap else op.add(first, second))
    return emit(op.mean(total, axis=[2, 3], keepdims=True))


@pytest.mark.parametrize(("swap", "skipped"), [(False, "first"), (True, "second")])
def test_convolutions_are_counted_operands_first_not_in_program_order(
    swap: bool, skipped: str
) -> None:
    mod = model((1, 3, 4, 4), lambda emit, x: residual(emit, x, swap=swap))
    graph = quantized(mod, StockOptions(skip_conv_layers=(1,)))
    floats = [n.name for n in post_order(graph) if n.op == "conv2d" and n.dtype == "float32"]
    assert floats == [skipped]


@pytest.mark.parametrize(("skip", "dtype"), [(True, "float32"), (False, "int32")])
def test_dense_layer_is_quantized_on_request_without_a_global_pool(skip: bool, dtype: str) -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))
        flat = emit(op.reshape(conv, (1, 64)))
        out = emit(op.matmul(flat, weights(64, 10, seed=3)))
        return emit(op.add(out, relax.const(random(10, seed=4))))

    mod = model((1, 3, 4, 4), body)
    graph = quantized(mod, StockOptions(skip_dense_layer=skip))
    assert [n.dtype for n in post_order(graph) if n.op == "dense"] == [dtype]
    x = random(1, 3, 4, 4, seed=5)
    result = run(StockRelay(StockOptions(skip_dense_layer=skip))(mod), x)
    assert np.abs(result - run(mod, x)).max() < 0.3


def test_nothing_is_quantized_after_a_global_pool() -> None:
    def body(emit: Any, x: Any) -> Any:
        pooled = emit(op.mean(emit(op.nn.conv2d(x, weights(4, 3, 1, 1))), [2, 3], keepdims=True))
        return emit(op.nn.conv2d(pooled, weights(4, 4, 1, 1, seed=1)))

    graph = quantized(model((1, 3, 4, 4), body), StockOptions(skip_conv_layers=None))
    assert [n.dtype for n in post_order(graph) if n.op == "conv2d"] == ["int32", "float32"]


def test_computed_weights_are_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        weight = emit(op.nn.relu(weights(2, 3, 1, 1)))
        return emit(op.nn.conv2d(x, weight), name_hint="conv")

    refuse(body, "conv: must have constant weights, for stock quantization; Relay refuses this")


def test_product_of_two_quantized_values_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        flat = [emit(op.reshape(conv, (1, 2, 16))) for _ in range(2)]
        return emit(op.multiply(*flat), name_hint="product")

    refuse(body, "product: must not multiply two quantized values")
