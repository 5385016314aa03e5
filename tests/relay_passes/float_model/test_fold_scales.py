"""Factors and offsets per channel: folded where that is exact; the network means the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.float_model.fold_scales import FoldScales, affine_of
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from relay_passes.partition.fallbacks import fallbacks
from tests.relay_passes.models import CNN, images
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig

ARITHMETIC = {"multiply", "divide", "add", "subtract"}


def channels(net: CNN, count: int = 8, *, least: float = 0.5) -> Any:
    values = net.rng.uniform(least, 2, (1, count, 1, 1))
    return relax.const(values.astype(np.float32))


def folded(mod: Any) -> list[str]:
    """Fold, compare the results with those before, and return the operators."""
    result = FoldScales()(mod)
    x = images(1, (1, 3, 12, 12))[0]
    ours, theirs = (HostModule(m)(x)[0] for m in (result, mod))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    return [op_name(b.value) for b in read_graph(result).bindings]


def layers(found: list[str]) -> int:
    return found.count("nn.conv2d") + found.count("matmul")


def between(*steps: Callable[[CNN, Any], Any]) -> Any:
    """Return a network with operators between a convolution and a head."""
    net = CNN()
    x = net.conv(net.data, 8)
    for step in steps:
        x = net.emit(step(net, x))
    return net.module(net.head(x))


def relu(net: CNN, x: Any) -> Any:
    return relax.op.nn.relu(x)


def times(net: CNN, x: Any) -> Any:
    return relax.op.multiply(x, channels(net))


def over(net: CNN, x: Any) -> Any:
    return relax.op.divide(x, channels(net))


def plus(net: CNN, x: Any) -> Any:
    return relax.op.add(channels(net, least=-2), x)


def minus(net: CNN, x: Any) -> Any:
    return relax.op.subtract(x, relax.const(np.float32(1.5)))


def negated(net: CNN, x: Any) -> Any:
    return relax.op.subtract(channels(net), x)


def pool(net: CNN, x: Any) -> Any:
    return relax.op.nn.max_pool2d(x, (2, 2), (2, 2))


def average(net: CNN, x: Any) -> Any:
    return relax.op.nn.avg_pool2d(x, (3, 3), (1, 1), (1, 1, 1, 1))


def pointwise(net: CNN, x: Any) -> Any:
    return relax.op.nn.conv2d(x, net.const(8, 8, 1, 1))


def padded(net: CNN, x: Any) -> Any:
    return relax.op.nn.conv2d(x, net.const(8, 8, 3, 3), padding=1)


def depthwise(net: CNN, x: Any) -> Any:
    return relax.op.nn.conv2d(x, net.const(8, 1, 3, 3), groups=8)


def grouped(net: CNN, x: Any) -> Any:
    return relax.op.nn.conv2d(x, net.const(12, 4, 3, 3), groups=2)


@pytest.mark.parametrize(
    "steps",
    [
        (times,),
        (over, minus),
        (plus, times, plus),
        (negated,),
        (relu, times),
        (relu, pool, times),
        (average, times),
        (negated, relu, average, times, pointwise),
        (relu, times, plus, pointwise),
        (relu, over, padded),
        (relu, minus, depthwise),
        (relu, times, minus, grouped),
    ],
    ids=lambda steps: "-".join(s.__name__ for s in steps),
)
def test_what_folds(steps: Any) -> None:
    found = folded(between(*steps))
    count = sum(op in ("add",) for op in found)
    assert layers(found) == 2 + sum(s in (pointwise, padded, depthwise, grouped) for s in steps)
    assert count <= layers(found) and not (ARITHMETIC - {"add"}) & set(found)


def test_a_factor_between_sums_becomes_a_depthwise_convolution() -> None:
    net = CNN()
    x = net.conv(net.data, 8)
    x = net.batch_norm(net.add(net.relu(x), net.relu(net.conv(x, 8))))
    found = folded(quantizable(net, x))
    assert layers(found) == 4 and "multiply" not in found


def quantizable(net: CNN, x: Any) -> Any:
    from relay_passes.float_model.fold_batch_norm import FoldBatchNorm

    return FoldBatchNorm()(net.module(net.head(net.relu(x))))


@pytest.mark.parametrize(
    "make",
    [
        lambda net: relax.op.multiply(net.data, net.const(1, 3, 1, 1)),
        lambda net: relax.op.multiply(
            net.emit(relax.op.sigmoid(net.conv(net.data, 3))), net.const(1, 3, 1, 1)
        ),
        lambda net: relax.op.multiply(net.relu(net.conv(net.data, 3)), net.const(1, 1, 12, 12)),
    ],
    ids=["an input", "a tensor of the host", "a factor per pixel"],
)
def test_what_stays(make: Any) -> None:
    net = CNN()
    x = net.emit(make(net))
    padded = net.add(x, net.relu(net.conv(x, 3)))
    assert "multiply" in folded(net.module(net.head(padded)))


def test_a_negative_factor_does_not_pass_a_relu() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.emit(relax.op.multiply(x, relax.const(np.float32(-2))))
    found = folded(net.module(net.head(net.add(x, net.relu(net.conv(x, 8))))))
    assert found.count("nn.conv2d") == 3 and "multiply" not in found


def test_what_others_read_stays_as_it_is() -> None:
    net = CNN()
    x = net.conv(net.data, 8)
    y = net.emit(relax.op.multiply(x, channels(net)))
    found = folded(net.module(net.head(net.add(net.conv(x, 8), net.relu(y)))))
    assert found.count("nn.conv2d") == 3


def test_an_offset_is_not_padded() -> None:
    found = folded(between(relu, plus, padded))
    assert found.count("add") == 3  # the bias, the offset, the head's bias
    net = CNN()
    x = net.emit(relax.op.add(net.relu(net.conv(net.data, 8)), channels(net)))
    assert folded(net.module(net.head(net.emit(pointwise(net, x))))).count("add") == 3


def test_factors_far_apart_stay_out_of_the_weights() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.emit(relax.op.clip(x, 0.0, 1.0))
    factor = relax.const(np.geomspace(1, 100, 8).astype(np.float32).reshape(1, 8, 1, 1))
    x = net.emit(relax.op.multiply(x, factor))
    found = folded(net.module(net.head(net.emit(pointwise(net, x)))))
    assert found.count("nn.conv2d") == 3


def test_calls_that_are_affine() -> None:
    net = CNN((1, 2, 3, 3))
    call = net.builder.normalize(relax.op.subtract(relax.const(np.float32(3)), net.data))
    found = affine_of(call, call)
    assert found is not None
    assert (found.factor.tolist(), found.offset.tolist()) == ([-1, -1], [3, 3])
    for other in (
        relax.op.divide(relax.const(np.float32(3)), net.data),
        relax.op.divide(net.data, relax.const(np.float32(0))),
        relax.op.multiply(net.data, relax.const(np.float32(np.inf))),
        relax.op.multiply(net.data, net.data),
        relax.op.multiply(net.data, net.const(2, 2, 1, 1)),
        relax.op.nn.relu(net.data),
    ):
        call = net.builder.normalize(other)
        assert affine_of(call, call) is None


def test_parts_of_a_function_of_one_tensor_stay() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    below = net.emit(relax.op.multiply(relax.const(np.float32(-1)), net.relu(x)))
    y = net.add(net.emit(relax.op.tanh(below)), x)
    assert folded(net.module(net.head(y))).count("multiply") == 1


@settings(max_examples=15)
@given(
    steps=st.lists(
        st.sampled_from([relu, times, over, plus, minus, negated, average, pointwise, padded]),
        max_size=6,
    )
)
def test_any_order_means_the_same(steps: list[Any]) -> None:
    folded(between(*steps))


@pytest.mark.parametrize("make", [times, plus, minus, negated])
def test_a_scaled_sum_runs_on_vta(make: Any, default_config: VTAConfig) -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.emit(make(net, net.add(x, net.relu(net.conv(x, 8)))))
    mod = quantized(net.module(net.head(net.relu(net.conv(net.relu(x), 8)))))
    assert fallbacks(mod, default_config) == ()
    check_meaning(mod, default_config)
