"""What the operators of the float graph are."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.graph import op_name, read_graph, static_shape
from relay_passes.operators.calls import split_bias, weight_of_rows, weight_rows
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
