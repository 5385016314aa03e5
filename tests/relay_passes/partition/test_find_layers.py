"""Layers found in a graph: where they start, what they take in, where they end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from relay_passes.partition.read import layers_of
from tests.relay_passes.partition.integers import (
    Int8,
    check_meaning,
    number,
    vector,
)
from vta_config import VTAConfig


def test_chain_of_every_post_op(default_config: VTAConfig) -> None:
    t = Int8()
    acc = t.conv(t.data)
    acc = t.emit(relax.op.add(acc, vector([1, -2, 3, 400])))
    acc = t.emit(relax.op.add(t.wide(t.data, 5), acc))
    acc = t.emit(relax.op.add(acc, t.wide(t.data)))
    acc = t.emit(relax.op.left_shift(acc, vector([2, 2, 2, 2])))
    acc = t.emit(relax.op.right_shift(acc, vector([11, 11, 11, 11])))
    acc = t.emit(relax.op.nn.relu(acc))
    acc = t.emit(relax.op.maximum(acc, number(2)))
    acc = t.emit(relax.op.minimum(number(90), acc))
    y = t.emit(relax.op.astype(acc, "int8"))
    acc = t.emit(relax.op.add(t.wide(y, 2), number(3)))
    y = t.small(acc, 1)
    (layer,) = check_meaning(t.module(y), default_config)
    assert [s.op for s in layer.post_ops] == [
        "add",
        "add_tensor",
        "add_tensor",
        "shl",
        "shr",
        "max",
        "max",
        "min",
        "shl",
        "add",
        "shr",
        "max",
        "min",
    ]


@pytest.mark.parametrize("limit", [relax.op.minimum, relax.op.maximum])
def test_limits_that_differ_by_channel_stay_on_the_host(
    limit: Callable[..., relax.Expr], default_config: VTAConfig
) -> None:
    t = Int8()
    acc = t.emit(limit(t.conv(t.data), vector([1, 2, 3, 400])))
    layers = check_meaning(t.module(t.small(acc)), default_config)
    assert [(layer.kind, layer.post_ops, layer.out_dtype) for layer in layers] == [
        ("conv2d", (), "int32")
    ]


def test_wrapping_cast_ends_a_layer(default_config: VTAConfig) -> None:
    t = Int8()
    y = t.emit(relax.op.astype(t.conv(t.data), "int8"))
    z = t.small(t.emit(relax.op.add(t.wide(y), number(1))), 1)
    first, second = check_meaning(t.module(z), default_config)
    assert first.post_ops == () and second.kind == "add"


def test_add_of_two_tensors(default_config: VTAConfig) -> None:
    t = Int8()
    a, b = t.small(t.conv(t.data)), t.small(t.conv(t.data))
    total = t.emit(relax.op.add(t.wide(a, 3), t.wide(b, 1)))
    layers = check_meaning(t.module(t.small(total, 2), a, b), default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "conv2d", "add"]
    assert [(s.op, s.value) for s in layers[2].post_ops[:3]] == [
        ("add_tensor", 3),
        ("add_tensor", 1),
        ("shr", 2),
    ]


def test_first_convolution_in_order_does_not_take_a_later_sum(default_config: VTAConfig) -> None:
    t = Int8()
    skip = t.small(t.conv(t.data))
    wide = t.wide(skip, 4)
    acc = t.conv(t.data)
    y = t.small(t.emit(relax.op.add(wide, acc)))
    layers = check_meaning(t.module(y), default_config)
    assert [len(layer.inputs) for layer in layers] == [1, 2]


def test_two_summands_share_an_accumulator(default_config: VTAConfig) -> None:
    t = Int8()
    weight = relax.const(t.net.rng.integers(-9, 10, (4, 4, 1, 1)).astype(np.int8))
    h = t.small(t.conv(t.data))
    main = t.emit(relax.op.add(t.conv(h), vector([1, 2, 3, 4])))
    down = t.emit(relax.op.nn.conv2d(t.data, weight, out_dtype="int32"))
    total = t.emit(relax.op.add(t.emit(relax.op.add(main, down)), t.wide(h, 3)))
    first, second = check_meaning(t.module(t.small(total)), default_config)
    assert not first.summands
    assert [p.kernel for p in second.summands] == [(1, 1)] and len(second.inputs) == 3
    assert [s.op for s in second.post_ops[:2]] == ["add", "add_tensor"]


def test_dense_layers_share_an_accumulator(default_config: VTAConfig) -> None:
    t = Int8((2, 3, 4, 5))
    flat = t.emit(relax.op.reshape(t.data, (2, 60)))
    flat2 = t.emit(relax.op.reshape(t.data, (2, 60)))
    accs = []
    for source in (flat, flat2):
        weight = relax.const(t.net.rng.integers(-9, 9, (60, 7)).astype(np.int8))
        accs.append(t.emit(relax.op.matmul(source, weight, out_dtype="int32")))
    (layer,) = check_meaning(t.module(t.small(t.emit(relax.op.add(*accs)))), default_config)
    assert layer.kind == layer.summands[0].kind == "conv2d"


@pytest.mark.parametrize("reason", ["read twice", "shifted", "grouped"])
def test_what_is_no_common_accumulator(reason: str, default_config: VTAConfig) -> None:
    t = Int8()
    left, right = t.conv(t.data), t.conv(t.data, groups=2 if reason == "grouped" else 1)
    results = [t.small(right)] if reason == "read twice" else []
    if reason == "shifted":
        left = t.emit(relax.op.right_shift(left, number(3)))
        right = t.emit(relax.op.right_shift(right, number(3)))
    mod = t.module(t.small(t.emit(relax.op.add(left, right))), *results)
    assert not any(layer.summands for layer in layers_of(mod, default_config))


def test_requantization_of_one_tensor(default_config: VTAConfig) -> None:
    t = Int8()
    y = t.emit(relax.op.nn.relu(t.wide(t.data)))
    (layer,) = check_meaning(t.module(t.small(y, 1)), default_config)
    assert layer.kind == "add" and layer.inputs == ("x",)


def test_dense_of_a_map_is_a_convolution(default_config: VTAConfig) -> None:
    t = Int8((2, 3, 4, 5))
    flat = t.emit(relax.op.reshape(t.small(t.conv(t.data, 3)), (2, 60)))
    weight = relax.const(t.net.rng.integers(-9, 9, (60, 7)).astype(np.int8))
    y = t.emit(relax.op.matmul(flat, weight, out_dtype="int32"))
    y = t.emit(relax.op.add(y, relax.const(np.arange(7, dtype=np.int32))))
    layers = check_meaning(t.module(y), default_config)
    assert layers[1].kind == "conv2d" and layers[1].kernel == (4, 5)


def test_dense_of_dense(default_config: VTAConfig) -> None:
    t = Int8((1, 5))
    x = t.data
    for _ in range(2):
        weight = relax.const(t.net.rng.integers(-9, 9, (5, 5)).astype(np.int8))
        x = t.small(t.emit(relax.op.matmul(x, weight, out_dtype="int32")), 3)
    assert [layer.kind for layer in check_meaning(t.module(x), default_config)] == ["dense"] * 2


def test_padded_max_pool(default_config: VTAConfig) -> None:
    t = Int8()
    y = t.emit(relax.op.nn.max_pool2d(t.data, (3, 3), (2, 2), (1, 1, 1, 1)))
    (layer,) = check_meaning(t.module(y), default_config)
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1, 1, 1))


def test_a_view_whose_reader_is_found_behind_it(default_config: VTAConfig) -> None:
    """A vector as a map of one pixel, which is then repeated: moves are looked for last."""
    t = Int8((1, 6))
    weight = t.net.rng.integers(-127, 128, (6, 4)).astype(np.int8)
    x = t.small(t.emit(relax.op.matmul(t.data, relax.const(weight), out_dtype="int32")))
    x = t.emit(relax.op.reshape(x, (1, 4, 1, 1)))
    x = t.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 0, 5, 0, 5], pad_mode="replicate"))
    layers = check_meaning(t.module(t.small(t.conv(x))), default_config)
    assert [layer.kind for layer in layers] == ["dense", "move", "move", "conv2d"]
