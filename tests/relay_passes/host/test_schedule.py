"""relay_passes.host.schedule: the same bits as TVM's plain loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.host.run import HostModule
from relay_passes.host.schedule import FuseRounding, ScheduleConvs


def network(channels: int, body: Callable[[Any], Any], weight: tuple[int, ...]) -> Any:
    """Build relu(conv(data) + bias) over float32 tensors; `body` makes the convolution."""
    rng = np.random.default_rng(5)
    data = relax.Var("data", relax.TensorType((1, 13, 17, channels), "float32"))
    kernel = relax.const(rng.normal(size=weight).astype(np.float32))
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        with builder.dataflow():
            conv = builder.emit(body(data, kernel))
            result = builder.emit_output(relax.op.nn.relu(conv))
        builder.emit_func_output(result)
    return builder.get()


def conv(**options: Any) -> Callable[[Any, Any], Any]:
    return lambda data, kernel: relax.op.nn.conv2d(
        data, kernel, data_layout="NHWC", kernel_layout="HWIO", **options
    )


@pytest.mark.parametrize(
    ("channels", "weight", "options"),
    [
        (3, (7, 7, 3, 64), {"strides": (2, 2), "padding": (3, 3, 3, 3)}),
        (5, (3, 2, 5, 9), {"padding": (0, 1, 2, 3), "dilation": (2, 1)}),
        (1, (1, 1, 1, 1), {}),
    ],
)
def test_bits_are_the_same(channels: int, weight: tuple[int, ...], options: Any) -> None:
    mod = network(channels, conv(**options), weight)
    scheduled = ScheduleConvs()(mod)
    assert [g for g in scheduled.get_global_vars() if "conv2d" in g.name_hint]
    rng = np.random.default_rng(6)
    plain, fast = HostModule(mod), HostModule(scheduled)
    for _ in range(3):
        x = rng.normal(size=(1, 13, 17, channels)).astype(np.float32)
        (ours,), (theirs,) = fast(x), plain(x)
        np.testing.assert_array_equal(ours.view(np.int32), theirs.view(np.int32))


def test_channels_go_innermost() -> None:
    text = ScheduleConvs()(network(3, conv(), (3, 3, 3, 8))).script()
    assert "ry, rx, rc, ff in T.grid(" in text


def test_other_modules_stay_as_they_are() -> None:
    mod = network(6, lambda d, k: relax.op.multiply(d, k), (1, 1, 1, 6))
    tvm.ir.assert_structural_equal(ScheduleConvs()(mod), mod)


# ---- rounding an image ---------------------------------------------------------------------------
def rounding(zero: int, shape: tuple[int, ...]) -> Any:
    """Return clip(floor(data · 3 + ½) + zero, -100, 90) as int8, and a floor that stays float."""
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        with builder.dataflow():
            x = builder.emit(relax.op.multiply(data, relax.const(np.float32(3))))
            x = builder.emit(relax.op.add(x, relax.const(np.float32(0.5))))
            x = builder.emit(relax.op.floor(x))
            if zero:
                x = builder.emit(relax.op.add(x, relax.const(np.float32(zero))))
            x = builder.emit(relax.op.clip(x, -100.0, 90.0))
            x = builder.emit(relax.op.astype(x, "int8"))
            other = builder.emit(relax.op.floor(data))
            result = builder.emit_output(relax.Tuple([x, other]))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize("zero", [0, -7])
def test_rounding_is_one_loop_to_the_same_bits(zero: int) -> None:
    rng = np.random.default_rng(7)
    halves = np.arange(-300, 301, dtype=np.float32) / 6
    edges = np.array([0.0, -0.0, -0.25, 1e-40, -1e-40, np.inf, -np.inf, np.nan], np.float32)
    large = np.float32(2) ** np.arange(20, 40, dtype=np.float32)
    x = np.concatenate([halves, edges[:-3], large - 0.5, -large, rng.normal(size=99) * 40])
    x = x.astype(np.float32)[np.newaxis]
    mod = rounding(zero, x.shape)
    fused = FuseRounding()(mod)
    assert len(fused.functions) == 4  # main, the multiplication, the rounding, the other floor
    for ours, theirs in zip(HostModule(fused)(x), HostModule(mod)(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.tobytes() == theirs.tobytes()


def test_floor_keeps_what_is_no_number() -> None:
    x = np.array([[0.0, -0.0, np.inf, -np.inf, np.nan, -0.5]], np.float32)
    got = HostModule(FuseRounding()(rounding(0, x.shape)))(x)[1]
    np.testing.assert_array_equal(got, np.floor(x))
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.floor(x)))


def test_modules_that_round_nothing_stay_as_they_are() -> None:
    mod = network(6, lambda d, k: relax.op.multiply(d, k), (1, 1, 1, 6))
    tvm.ir.assert_structural_equal(FuseRounding()(mod), mod)
