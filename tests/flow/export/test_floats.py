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
from relay_passes.graph import read_graph, rewrite
from relay_passes.host.run import HostModule
from relay_passes.integers.integer_facts import with_facts
from relay_passes.integers.plan import QuantPlan
from relay_passes.params import QuantParams
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


def int8(x: Any) -> Any:
    return OP.astype(x, "int8")


def shifted(x: Any) -> Any:
    """Return integers with the zero point of `PLAN`, which every tensor has."""
    return int8(OP.add(x, relax.const(np.float32(-128))))


def conv8(x: Any, **more: Any) -> Any:
    weight = relax.const(np.ones((3, 3, 6, 2) if more else (2, 4, 3, 3), np.int8))
    more.setdefault("padding", (1, 1, 1, 1))
    return OP.nn.conv2d(x, weight, out_dtype="int32", **more)


PARAMS = QuantParams(scale=(0.5,), bits=8, signed=False, zero_point=-128)
AROUND = [0, 0, 0, 0, 1, 1, 1, 1]
REFUSED: dict[str, Any] = {
    "an integer result": int8,
    "astype from int8 to int8": lambda x: int8(int8(x)),
    "nn.pad with another number than the zero point": lambda x: OP.nn.pad(
        int8(x), AROUND, pad_value=1
    ),
    "permute_dims of a padded tensor": lambda x: OP.permute_dims(
        OP.nn.pad(int8(x), AROUND), [0, 2, 3, 1]
    ),
    "nn.conv2d that pads with 0 for another number": lambda x: conv8(shifted(x)),
    "nn.conv2d of NHWC and HWIO": lambda x: conv8(
        int8(x), data_layout="NHWC", kernel_layout="HWIO"
    ),
}


@pytest.mark.parametrize("got", REFUSED)
def test_integers_that_are_not_known(got: str) -> None:
    mod = rewrite(module(REFUSED[got]), lambda builder, var, value: builder.emit(value, var.name))
    names = [str(binding.var.name) for binding in read_graph(mod).bindings]
    plan = QuantPlan(tensors=dict.fromkeys(names, PARAMS), weights={})
    mod = with_facts(mod, errors={}, host={}, plan=plan)
    sentence = f"must be an operator that the export to QDQ knows, got {got}; export another"
    with pytest.raises(UnsupportedModelError, match=sentence):
        export_qdq(mod, ["y"])
