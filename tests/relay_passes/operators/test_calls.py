"""What the operators of the float graph are."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.graph import op_name, read_graph, static_shape
from relay_passes.operators.calls import (
    ceiling_of,
    ends_accumulator,
    has_integer_form,
    split_bias,
    weight_of_rows,
    weight_rows,
)
from tests.relay_passes.models import CNN


def test_rows_of_weights_and_back() -> None:
    net = CNN()
    mod = net.module(net.head(net.conv(net.data, 4, bias=False), classes=5))
    calls = {op_name(b.value): b.value for b in read_graph(mod).bindings}
    conv, dense = calls["nn.conv2d"], calls["matmul"]
    kernel, matrix = (call.args[1].value.numpy() for call in (conv, dense))
    np.testing.assert_array_equal(weight_rows(conv), [kernel[o].ravel() for o in range(4)])
    np.testing.assert_array_equal(weight_rows(dense), [matrix[:, o] for o in range(5)])
    for call, weight in ((conv, kernel), (dense, matrix)):
        back = weight_of_rows(call, weight_rows(call, -weight))
        np.testing.assert_array_equal(back, -weight)
        assert back.flags.c_contiguous


def test_split_bias() -> None:
    x = relax.Var("x", relax.TensorType((1, 3, 4, 4), "float32"))
    full, ones = np.ones((1, 3, 4, 4), np.float32), np.ones((1, 3, 1, 1), np.float32)
    for value in (ones, ones[0], np.float32(1)):
        found = split_bias(relax.op.add(relax.const(value), x))
        assert found is not None
        assert found[0].same_as(x) and found[1].tolist() == [1, 1, 1]
    assert split_bias(relax.op.add(x, relax.const(full))) is None
    assert split_bias(relax.op.add(x, x)) is None
    assert static_shape(x) == (1, 3, 4, 4)


def test_activations_that_integers_express() -> None:
    x = relax.Var("x", relax.TensorType((1, 3, 4, 4), "float32"))
    ceilings = {(0.0, 6.0): 6.0, (0.0, np.inf): np.inf}
    assert ceiling_of(relax.op.nn.relu(x)) == np.inf
    for limits in ((0.0, 6.0), (0.0, np.inf), (-1.0, 1.0), (0.1, 6.0), (0.0, 0.0), (-3.0, 0.0)):
        call, ceiling = relax.op.clip(x, *limits), ceilings.get(limits)
        assert ceiling_of(call) == ceiling
        assert ends_accumulator(call) == has_integer_form(call) == (ceiling is not None)
    assert not ends_accumulator(relax.op.sigmoid(x)) and not ends_accumulator(x)


def test_which_calls_have_integers() -> None:
    x = relax.Var("x", relax.TensorType((1, 3, 4, 4), "float32"))
    pooled = relax.op.nn.max_pool2d(x, (2, 2))
    for call in (relax.op.nn.relu(x), relax.op.add(x, x), relax.op.reshape(x, (1, 48)), pooled):
        assert has_integer_form(call)
    assert has_integer_form(relax.op.mean(x, axis=[2, 3], keepdims=True))
    for call in (relax.op.mean(x, axis=[1]), relax.op.sigmoid(x), relax.op.clip(x, -1.0, 1.0)):
        assert not has_integer_form(call)
