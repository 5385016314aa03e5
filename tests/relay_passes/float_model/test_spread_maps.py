"""Broadcasts and enlargements in forms that integers have; the network means the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.float_model.spread_maps import SpreadMaps
from relay_passes.graph import op_name, read_graph, static_shape
from relay_passes.host.run import HostModule
from relay_passes.operators.interpolation import KNOWN
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig


def spread(mod: Any) -> list[str]:
    """Rewrite, compare the results with those before, and return the operators."""
    result = SpreadMaps()(mod)
    x = np.random.default_rng(3).normal(size=static_shape(read_graph(mod).params[0]))
    x = x.astype(np.float32)
    ours, theirs = (HostModule(m)(x)[0] for m in (result, mod))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    return [op_name(b.value) for b in read_graph(result).bindings]


def resize(net: CNN, x: Any, size: tuple[int, int], mode: str, **options: Any) -> Any:
    options = {"method": "linear", "rounding_method": "", "layout": "NCHW", **options}
    return net.emit(
        relax.op.image.resize2d(x, size, coordinate_transformation_mode=mode, **options)
    )


def enlarged(
    size: tuple[int, int],
    mode: str = "half_pixel",
    shape: tuple[int, ...] = (1, 3, 4, 5),
    **options: Any,
) -> Any:
    net = CNN(shape)
    return net.module(resize(net, net.data, size, mode, **options))


NEAREST = {"method": "nearest_neighbor", "rounding_method": "floor"}


@pytest.mark.parametrize(
    ("mod", "operators"),
    [
        (enlarged((8, 10)), ["image.resize2d"] * 2),
        (enlarged((7, 3), "align_corners"), ["image.resize2d"] * 2),
        (enlarged((8, 5)), ["image.resize2d"]),
        (enlarged((8, 6), shape=(1, 3, 1, 1)), ["nn.pad"]),
        (enlarged((8, 6), shape=(1, 3, 4, 1)), ["nn.pad", "image.resize2d"]),
        (enlarged((8, 6), "asymmetric", shape=(1, 3, 1, 1), **NEAREST), ["nn.pad"]),
        (enlarged((8, 10), "asymmetric", **NEAREST), ["image.resize2d"]),
        (enlarged((8, 10), method="cubic"), ["image.resize2d"]),
        (enlarged((4, 5), "align_corners"), []),
    ],
    ids=["both", "neither whole", "rows", "a pixel", "a column", "nearest of a pixel", "nearest",
         "cubic", "nothing"],
)  # fmt: skip
def test_enlargements(mod: Any, operators: list[str]) -> None:
    found = [op for op in spread(mod) if op]
    assert found == operators


@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    after=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    mode=st.sampled_from(sorted(KNOWN)),
)
def test_any_interpolation(size: tuple[int, int], after: tuple[int, int], mode: str) -> None:
    assume(mode != "align_corners" or 1 not in after)  # TVM divides by 0
    spread(enlarged(after, mode, (1, 2, *size)))


def test_the_axis_that_leaves_less_comes_first() -> None:
    for size, first in (((8, 20), (8, 5)), ((16, 10), (4, 10))):
        mod = SpreadMaps()(enlarged(size))
        assert static_shape(read_graph(mod).bindings[0].var)[2:] == first


@pytest.mark.parametrize("operator", ["add", "subtract", "maximum", "minimum"])
def test_pairs_of_a_map_and_a_smaller_one(operator: str) -> None:
    net = CNN((1, 6, 4, 5))
    small = net.emit(relax.op.mean(net.data, axis=[2, 3], keepdims=True))
    row = net.emit(relax.op.mean(net.data, axis=[2], keepdims=True))
    one = net.emit(relax.op.mean(net.data, axis=[1], keepdims=True))
    function = getattr(relax.op, operator)
    x = net.emit(function(small, net.data))
    x = net.emit(function(x, row))
    found = spread(net.module(net.emit(function(one, x))))
    assert found == ["mean"] * 3 + ["nn.pad", operator] * 2 + ["take", operator]


def test_both_of_a_pair_may_be_smaller() -> None:
    net = CNN((1, 6, 4, 5))
    rows, columns = (
        net.emit(relax.op.mean(net.data, axis=[axis], keepdims=True)) for axis in (3, 2)
    )
    assert spread(net.module(net.add(rows, columns))) == ["mean"] * 2 + ["nn.pad"] * 2 + ["add"]


def test_constants_and_other_ranks_stay() -> None:
    net = CNN((1, 6, 4, 5))
    x = net.emit(relax.op.add(net.data, net.const(1, 6, 1, 1)))
    flat = net.emit(relax.op.mean(x, axis=[2, 3]))
    last = net.emit(relax.op.mean(flat, axis=[1], keepdims=True))
    assert spread(net.module(net.add(flat, last))) == ["add", "mean", "mean", "add"]


@pytest.mark.parametrize("shape", [(1, 6, 4, 5), (1, 1, 4, 5), (1, 6, 1, 5), (1, 1, 1, 1)])
def test_broadcasts(shape: tuple[int, ...]) -> None:
    net = CNN(shape)
    found = spread(net.module(net.emit(relax.op.broadcast_to(net.data, (1, 6, 4, 5)))))
    assert "broadcast_to" not in found or shape == (1, 6, 4, 5)


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("kind", ["half_pixel", "align_corners", "sum", "pixel"])
def test_they_run_on_vta(kind: str, zero_points: bool, default_config: VTAConfig) -> None:
    net = CNN((1, 3, 6, 6))
    x = net.relu(net.conv(net.data, 20))
    small = net.conv(net.emit(relax.op.mean(x, axis=[2, 3], keepdims=True)), 20, 1)
    if kind == "sum":
        x = net.add(x, small)
    elif kind == "pixel":
        wide = resize(net, small, (6, 6), "half_pixel")
        x = net.emit(relax.op.concat([x, wide], axis=1))
    else:
        wide = resize(net, net.conv(x, 16), (15, 9), kind)
        x = net.emit(relax.op.concat([wide, net.relu(resize(net, x, (15, 9), kind))], axis=1))
    options = replace(RECIPES["profiled_fused"].options, zero_points=zero_points)
    mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))), options)
    assert fallbacks(mod, default_config) == ()
    check_meaning(mod, default_config)
