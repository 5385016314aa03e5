"""Integers as real numbers: sums that become int8 alike, whatever ONNX rounds to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.export.graph import GraphWriter
from flow.export.integers import IntegerWriter, power_near
from flow.export.values import Int8, Narrowed, Real, Sum, Whole
from tests.flow.qdq_models import session
from vta_config.errors import UnsupportedModelError


def test_powers_near() -> None:
    assert [power_near(x) for x in (0.25, 0.26, 0.3, 0.4, 100.0)] == [0.25, 0.25, 0.25, 0.5, 128.0]


def narrowed(
    values: NDArray[Any],
    shift: NDArray[Any],
    *,
    low: float,
    high: float,
    zero: int = 0,
    factor: float = 1.0,
    offset: float = 0.0,
    optimize: bool = True,
) -> NDArray[Any]:
    """Return clip((factor * values - offset) >> shift, low, high) as ONNX Runtime has it.

    `values` is float32[1, C, N, 1], integers.
    """  # fmt: skip
    graph = GraphWriter()
    writer = IntegerWriter(graph, {})
    channels = values.shape[1]
    ones = np.ones(channels)
    total = Sum(
        tensor=graph.fresh("x"), ratio=ones, offset=np.zeros(channels),
        bound=float(np.abs(values).max()), shape=values.shape, name="x", factor=ones,
    ).times(ones * factor)  # fmt: skip
    total = Sum(
        **{name: getattr(total, name) for name in Sum.__slots__} | {"offset": ones * offset}
    )
    int8 = writer.narrow(Narrowed(sum=total, shift=shift, low=low, high=high), 2.0**-3, zero, "y")
    result = writer.real_of(int8, scale=1.0, zero=0)
    model = graph.model([("x", values.shape)], [(result, "result", values.shape)], "net")
    return session(model, optimize=optimize)(values)


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("zero", [0, -128])
@pytest.mark.parametrize(
    ("factor", "offset"), [(1.0, 0.0), (1.0, -37.0), (5.0, 11.0), (32749.0, 7.0)]
)
@pytest.mark.parametrize("most", [0, 1, 3, 9, 15, 20])
def test_sums_become_int8_as_shifts_have_it(
    most: int, factor: float, offset: float, zero: int, optimize: bool
) -> None:
    """Halves go up; each channel has its shift; what float32 does not hold goes by float64."""
    shift = np.asarray([most, max(0, most - 2), most // 2], np.float64)
    units = 2.0 ** shift.reshape(1, 3, 1, 1)
    rng = np.random.default_rng(most)
    largest = min(2.0**most * 200, 2.0**23) / factor + 3
    anything = rng.uniform(-largest, largest, (1, 3, 4000, 1))
    half_way = ((rng.integers(-150, 150, (1, 3, 4000, 1)) + 0.5) * units + offset) / factor
    values = np.rint(np.concatenate([anything, np.clip(half_way, -largest, largest)], axis=2))
    got = narrowed(
        values.astype(np.float32), shift, low=-127 if zero == 0 else -128, high=127,
        zero=zero, factor=factor, offset=offset, optimize=optimize,
    )  # fmt: skip
    exact = np.floor((factor * values - offset) / units)
    assert np.array_equal(got, np.clip(exact, -127 if zero == 0 else -128, 127))


@pytest.mark.parametrize(("low", "high"), [(0, 127), (0, 48), (-7, 7), (-128, 127)])
def test_limits(low: float, high: float) -> None:
    values = np.arange(-300, 300, dtype=np.float32).reshape(1, 1, -1, 1)
    got = narrowed(values, np.ones(1), low=low, high=high)
    assert np.array_equal(got, np.clip(np.floor(values / 2), low, high))


def test_sums_beyond_float32_are_said() -> None:
    values = np.full((1, 1, 1, 1), 2.0**25, np.float32)
    sentence = (
        r"y: must have a sum that float32 holds exactly, got 3.35544e\+07; export another var"
    )
    with pytest.raises(UnsupportedModelError, match=sentence):
        narrowed(values, np.full(1, 20.0), low=-127, high=127)


def test_limits_beyond_float32_are_said() -> None:
    graph, ones = GraphWriter(), np.ones(1)
    total = Sum(
        tensor=graph.fresh("x"), ratio=ones, offset=np.zeros(1), bound=2.0**26,
        shape=(1, 1, 1, 1), name="x", factor=ones,
    )  # fmt: skip
    sentence = r"x: must have a factor or bias that float32 holds exactly, got 1.67772e\+07; export"
    with pytest.raises(UnsupportedModelError, match=sentence):
        IntegerWriter(graph, {}).limited("Min", total, np.full(1, 2.0**24 + 1), "y")


def product(data: NDArray[np.int8], weight: NDArray[np.int8]) -> NDArray[Any]:
    """Return data · weight, int8[1, K] and int8[K, N], by ONNX Runtime without optimizations."""
    graph = GraphWriter()
    writer = IntegerWriter(graph, {})
    source = writer.quantized(graph.fresh("x"), 1.0, -128, data.shape, "q")
    total = writer.product("Gemm", source, weight, 1, (1, weight.shape[1]), "fc.acc", 1.0)
    real = writer.scaled(writer.settled(total), np.ones(weight.shape[1]), "one").tensor
    model = graph.model([("x", data.shape)], [(real, "result", (1, weight.shape[1]))], "net")
    names = [node.op_type for node in model.graph.node]
    assert names.count("Gemm") == (1 if np.abs(weight.astype(int)).sum(axis=0).max() < 65793 else 2)
    return session(model, optimize=False)(data.astype(np.float32) + 128)


@pytest.mark.parametrize("size", [10, 1000, 6000])
def test_products_whose_sums_have_many_bits(size: int) -> None:
    """Float32 adds them in any order; beyond 24 bits the weights are two planes."""
    rng = np.random.default_rng(size)
    data = rng.integers(-128, 128, (1, size)).astype(np.int8)
    weight = rng.choice(np.asarray([-128, -127, 120, 127], np.int8), (size, 4))
    weight[:, 0] = 127
    exact = data.astype(np.int64) @ weight.astype(np.int64)
    assert np.abs(product(data, weight) - exact).max() <= 1 + 2.0**-24 * np.abs(exact).max()
    if size < 6000:
        assert np.array_equal(product(data, weight), exact)


def test_values_are_what_they_say() -> None:
    real = Real(tensor="x", shape=(1,))
    assert real.before is None
    value = Int8(tensor="q", scale=1.0, zero=0, shape=(1, 2), name="q")
    assert value.padding == (0, 0, 0, 0)
    graph = GraphWriter()
    wide = IntegerWriter(graph, {}).wide(value)
    assert wide.bound == 128 and Whole(sum=wide).sum is wide
    doubled = wide.times(np.asarray([2.0, 4.0]))
    assert doubled.bound == 512 and doubled.factor.tolist() == [2.0, 4.0]
