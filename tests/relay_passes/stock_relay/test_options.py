"""Relay's options, and what it has no meaning for."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import relax

from relay_passes.stock_relay.options import StockOptions
from vta_config.errors import ConfigError

op = relax.op


def test_bits_of_each_kind() -> None:
    options = StockOptions(nbit_input=7, nbit_weight=4, nbit_activation=20)
    assert [options.bits(kind) for kind in ("input", "weight", "activation")] == [7, 4, 20]
    assert [StockOptions().bits(kind) for kind in ("input", "weight", "activation")] == [8, 8, 32]


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
