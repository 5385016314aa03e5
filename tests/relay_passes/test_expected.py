"""The comparison of modules sees every difference that a pass can make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.names import with_layer_names
from tests.relay_passes.expected import assert_becomes, assert_same, names


def module(*, weight: float = 1.0, stride: int = 1, low: float = 0.0) -> Any:
    value = np.full((2, 3, 1, 1), weight, np.float32)

    @I.ir_module
    class Module:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(data, R.const(value), strides=stride)
                y = R.clip(conv, low, 6.0)
                R.output(y)
            return y

    return Module


def test_the_same_is_the_same() -> None:
    assert_same(module(), with_layer_names(module(), {"conv": "layer"}))


@pytest.mark.parametrize("change", [{"weight": 2.0}, {"stride": 2}, {"low": -1.0}])
def test_constants_attributes_and_arguments_count(change: dict[str, Any]) -> None:
    assert_becomes(lambda mod: module(**change), module(), module(**change))
    with pytest.raises(ValueError, match="StructuralEqual check failed"):
        assert_same(module(), module(**change))


def test_names_count() -> None:
    @I.ir_module
    class Renamed:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                layer = R.nn.conv2d(data, R.const(np.ones((2, 3, 1, 1), np.float32)))
                y = R.clip(layer, 0.0, 6.0)
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(module(), Renamed)
    with pytest.raises(AssertionError):
        assert_same(module(), Renamed)
    assert (names(module()), names(Renamed)) == (
        {"main": ["data", "conv", "y"]}, {"main": ["data", "layer", "y"]},
    )  # fmt: skip


def test_what_changes_nothing_does_not_pass() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        assert_becomes(lambda mod: mod, module(), module())
    with pytest.raises(ValueError, match="StructuralEqual check failed"):
        assert_becomes(lambda mod: mod, module(), module(stride=2))
