"""Sections of quantized operators: where they begin and where they end."""

from __future__ import annotations

from typing import Any

from tvm import relax

from relay_passes.stock_relay.mark_sections import MarkSections
from relay_passes.stock_relay.nodes import read_nodes, rewrite
from relay_passes.stock_relay.options import StockOptions
from tests.relay_passes.stock_relay.models import (
    lines,
    model,
    refuse,
    weights,
)

op = relax.op


def marked(mod: Any) -> tuple[list[str], list[str]]:
    """Return a graph and what marking makes of it."""
    before = read_nodes(mod)
    return lines(before), lines(rewrite(before, MarkSections(StockOptions()).rules()))


def test_a_convolution_begins_a_section_and_the_next_ends_it() -> None:
    def body(emit: Any, x: Any) -> Any:
        y = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        y = emit(op.add(y, weights(1, 2, 1, 1)))
        y = emit(op.nn.max_pool2d(emit(op.nn.relu(y)), (2, 2), (2, 2)))
        return emit(op.nn.conv2d(y, weights(2, 2, 1, 1)))

    before, after = marked(model((1, 3, 4, 4), body))
    assert before == [
        "%0 = conv2d(data, const)",
        "%1 = add(%0, const)",
        "%2 = relu(%1)",
        "%3 = max_pool2d(%2)",
        "%4 = conv2d(%3, const)",
    ]
    assert after == [
        *before[:4],
        "%4 = cast_hint(%3)",
        "%5 = stop_fusion(%4)",
        "%6 = conv2d(%5, const)",
        "%7 = cast_hint(%6)",
        "%8 = stop_fusion(%7)",
    ]


def test_a_residual_sum_ends_both_sections_and_begins_one() -> None:
    def body(emit: Any, x: Any) -> Any:
        y = emit(op.nn.conv2d(x, weights(3, 3, 1, 1)))
        return emit(op.add(emit(op.nn.conv2d(y, weights(3, 3, 1, 1))), y))

    assert marked(model((1, 3, 4, 4), body))[1] == [
        "%0 = conv2d(data, const)",
        "%1 = cast_hint(%0)",
        "%2 = stop_fusion(%1)",
        "%3 = conv2d(%2, const)",
        "%4 = cast_hint(%3)",
        "%5 = stop_fusion(%4)",
        "%6 = cast_hint(%0)",  # every end is a node of its own
        "%7 = stop_fusion(%6)",
        "%8 = add(%5, %7)",
        "%9 = cast_hint(%8)",
        "%10 = stop_fusion(%9)",
    ]


def test_sums_and_products_with_what_has_no_section() -> None:
    """A sum with the input ends the section; a product ends one and begins the next."""

    def body(emit: Any, x: Any) -> Any:
        y = emit(op.add(x, emit(op.nn.conv2d(x, weights(3, 3, 1, 1)))))
        return emit(op.multiply(emit(op.nn.conv2d(y, weights(3, 3, 1, 1))), weights(1, 3, 1, 1)))

    assert marked(model((1, 3, 4, 4), body))[1] == [
        "%0 = conv2d(data, const)",
        "%1 = cast_hint(%0)",
        "%2 = stop_fusion(%1)",
        "%3 = add(data, %2)",
        "%4 = conv2d(%3, const)",
        "%5 = cast_hint(%4)",
        "%6 = stop_fusion(%5)",
        "%7 = multiply(%6, const)",
        "%8 = cast_hint(%7)",
        "%9 = stop_fusion(%8)",
    ]


def test_a_global_pool_ends_a_section_even_where_there_is_none() -> None:
    def body(emit: Any, x: Any) -> Any:
        return emit(op.mean(emit(op.nn.relu(x)), axis=[2, 3], keepdims=True))

    before, after = marked(model((1, 3, 4, 4), body))
    assert before == ["%0 = relu(data)", "%1 = global_avg_pool2d(%0)"]
    assert after == [
        "%0 = relu(data)",
        "%1 = cast_hint(%0)",
        "%2 = stop_fusion(%1)",
        "%3 = global_avg_pool2d(%2)",
    ]


def test_weights_from_a_convolution_are_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        weight = emit(op.nn.conv2d(x, weights(3, 3, 1, 1)))
        return emit(op.nn.conv2d(x, weight), name_hint="conv")

    refuse(body, "conv: must have constant weights, for stock quantization")


def test_product_of_two_convolutions_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        left, right = (emit(op.nn.conv2d(x, weights(2, 3, 1, 1, seed=s))) for s in (0, 1))
        return emit(op.multiply(left, right), name_hint="product")

    refuse(body, "product: must not multiply two results of convolutions")
