"""What stock Relay's quantization does not take is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from tests.relay_passes.stock_relay.models import model, weights
from vta_config.errors import ConfigError, UnsupportedModelError

op = relax.op


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"global_scale": 0.0}, r"StockOptions.global_scale: must be a positive number, got 0.0"),
        ({"weight_scale": "min"}, r"weight_scale: must be 'power2' or 'max', got 'min'"),
        ({"rounding": "DOWN"}, r"rounding: must be 'UPWARD' or 'TONEAREST', got 'DOWN'"),
        ({"skip_conv_layers": (-1,)}, r"skip_conv_layers: must be indices from 0, got \(-1,\)"),
        ({"dtype_input": "int4"}, r"dtype_input: must be 'int8', 'int16' or 'int32', got 'int4'"),
        ({"nbit_weight": 9}, r"nbit_weight: must be in \[2, 8\] to fit int8, got 9"),
        ({"nbit_input": 1}, r"nbit_input: must be in \[2, 8\] to fit int8, got 1"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        StockOptions(**options)


def refuse(body: Callable[[Any, Any], Any], sentence: str, **options: Any) -> None:
    chosen = StockOptions(**({"skip_conv_layers": ()} | options))
    with pytest.raises(UnsupportedModelError, match=sentence):
        StockRelay(chosen)(model((1, 3, 4, 4), body))


def test_computed_weights_are_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        weight = emit(op.nn.relu(weights(2, 3, 1, 1)))
        return emit(op.nn.conv2d(x, weight), name_hint="conv")

    refuse(body, "conv: must have constant weights, for stock quantization; Relay refuses this")


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


def test_product_of_two_quantized_values_is_refused() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        flat = [emit(op.reshape(conv, (1, 2, 16))) for _ in range(2)]
        return emit(op.multiply(*flat), name_hint="product")

    refuse(body, "product: must not multiply two quantized values")


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
