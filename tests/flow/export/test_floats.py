"""Operators on floats, as ONNX has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from flow.export.floats import writer_of
from flow.export.qdq import export_qdq
from relay_passes.graph import rewrite
from relay_passes.host.run import HostModule
from tests.flow.qdq_models import session
from vta_config.errors import UnsupportedModelError

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)
IMAGE = RNG.normal(size=(1, 4, 6, 6)).astype(np.float32)
OP = relax.op

CASES: dict[str, Any] = {
    "relu": OP.nn.relu,
    "sigmoid": OP.sigmoid,
    "tanh": OP.tanh,
    "silu": OP.nn.silu,
    "leaky": lambda x: OP.nn.leakyrelu(x, 0.1),
    "clip": lambda x: OP.clip(x, -0.5, 0.75),
    "rsqrt": lambda x: OP.rsqrt(OP.abs(x)),
    "trunc": lambda x: OP.trunc(OP.multiply(x, relax.const(np.float32(3)))),
    "softmax": lambda x: OP.nn.softmax(x, axis=1),
    "log_softmax": lambda x: OP.nn.log_softmax(x, axis=1),
    "mean": lambda x: OP.mean(x, axis=[2, 3], keepdims=True),
    "sum": lambda x: OP.sum(x, axis=[1]),
    "max": lambda x: OP.max(x, axis=[2], keepdims=True),
    "transpose": lambda x: OP.permute_dims(x, [0, 2, 3, 1]),
    "reshape": lambda x: OP.reshape(x, (1, 144)),
    "concat": lambda x: OP.concat([x, x], axis=1),
    "max_pool": lambda x: OP.nn.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
    "average": lambda x: OP.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
    "counted": lambda x: OP.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True),
    "conv": lambda x: OP.nn.conv2d(x, relax.const(W), (2, 2), (1, 1, 1, 1), groups=2),
    "nhwc": lambda x: OP.nn.conv2d(
        OP.permute_dims(x, [0, 2, 3, 1]),
        relax.const(RNG.normal(size=(3, 3, 4, 2)).astype(np.float32)),
        data_layout="NHWC",
        kernel_layout="HWIO",
    ),
    "pad": lambda x: OP.nn.pad(x, [0, 0, 0, 0, 1, 2, 3, 0], pad_value=1.5),
    "slice": lambda x: OP.strided_slice(x, [1], [1], [3]),
    "pairs": lambda x: OP.subtract(OP.maximum(x, relax.const(np.float32(0.1))), OP.multiply(x, x)),
}


def module(make: Any) -> Any:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(IMAGE.shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(builder.normalize(make(x)))
        builder.emit_func_output(out)
    return builder.get()


@pytest.mark.parametrize("name", CASES)
def test_operators_mean_the_same(name: str) -> None:
    mod = rewrite(module(CASES[name]), lambda builder, var, value: builder.emit(value, var.name))
    proto = export_qdq(mod, ["y"])
    (expected,) = HostModule(mod)(IMAGE)
    assert np.allclose(session(proto)(IMAGE), expected, atol=1e-5)


def test_operators_that_are_not_known() -> None:
    @I.ir_module
    class Network:
        @R.function
        def main(x: R.Tensor((1, 4), "float32")):
            with R.dataflow():
                y = R.cumsum(x, axis=1)
                R.output(y)
            return y

    sentence = (
        r"y: must be an operator that the export to QDQ knows, got cumsum; export another variant, "
        r"or a model without it"
    )
    with pytest.raises(UnsupportedModelError, match=sentence):
        export_qdq(Network, ["y"])
    assert writer_of(relax.Var("x", None)) is None
