"""relay_passes.host.schedule: the same bits as TVM's plain loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.host.run import HostModule
from relay_passes.host.schedule import ScheduleConvs


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
