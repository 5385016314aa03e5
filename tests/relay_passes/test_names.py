"""Names of tensors, and what a module knows of them."""

from __future__ import annotations

import tvm

from relay_passes.names import (
    Names,
    given_names,
    layer_names,
    with_given_names,
    with_layer_names,
)


def test_a_number_follows_a_name_that_is_taken() -> None:
    names = Names(["conv", "conv_3"])
    assert [names.fresh("conv") for _ in range(3)] == ["conv_2", "conv_4", "conv_5"]
    assert [names.fresh("relu") for _ in range(2)] == ["relu", "relu_2"]
    assert names.fresh("conv_2") == "conv_2_2"
    assert Names(["conv", "conv#2"], mark="#").fresh("conv") == "conv#3"


def test_layers_of_tensors_come_back() -> None:
    mod = tvm.IRModule()
    assert layer_names(mod) == {}
    mod = with_layer_names(mod, {"layer2.0.conv1.acc": "layer2.0.conv1"})
    assert layer_names(mod) == {"layer2.0.conv1.acc": "layer2.0.conv1"}
    assert layer_names(with_layer_names(mod, {})) == {}  # in place of those before


def test_that_a_model_has_no_names_is_told_from_silence() -> None:
    mod = tvm.IRModule()
    assert given_names(mod) is None
    assert given_names(with_given_names(mod, [])) == frozenset()
    both = with_layer_names(with_given_names(mod, ["stem", "head", "stem"]), {"a": "b"})
    assert given_names(both) == {"stem", "head"} and layer_names(both) == {"a": "b"}
