"""A network of fewer bits before and after quantization, and what is left of it for VTA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.calibration.profiling import profile
from relay_passes.graph import constant, read_graph
from relay_passes.params import QuantParams
from relay_passes.partition.read import layers_of
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.scales.bit_widths import Limits, Widths
from relay_passes.scales.power_of_two import ProfiledScales
from vta_config import VTAConfig

W0 = np.asarray([[[[1.0]]], [[[-0.5]]]], np.float32)
W1 = np.asarray([[[[1.0]], [[0.25]]]], np.float32)


@I.ir_module
class Before:
    """Two convolutions of 1 x 1 with a ReLU between."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")) -> R.Tensor((1, 1, 2, 2), "float32"):
        with R.dataflow():
            y = R.nn.conv2d(data, R.const(W0))
            z = R.nn.relu(y)
            x = R.nn.conv2d(z, R.const(W1))
            R.output(x)
        return x


# Scales: data 1/8 (8 at most, within 119); W0 1/64 at 8 bits; z 2 at 4 bits (8 within 7);
# W1 1/4 at 4 bits. The first accumulator has 1/512: to z shift right by 10. The second has 1/2.
@I.ir_module
class After:
    """The same in integers: 8 bits within 119, then 4."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")) -> R.Tensor((1, 1, 2, 2), "float32"):
        with R.dataflow():
            a = R.multiply(data, R.const(8.0, "float32"))
            b = R.add(a, R.const(0.5, "float32"))
            c = R.floor(b)
            d = R.clip(c, -119, 119)
            e = R.astype(d, "int8")
            f = R.nn.conv2d(e, R.const(np.int8(64 * W0)), out_dtype="int32")
            g = R.add(f, R.const(512, "int32"))
            h = R.right_shift(g, R.const(10, "int32"))
            i = R.clip(h, 0, 7)
            j = R.astype(i, "int8")
            k = R.nn.conv2d(j, R.const(np.int8(4 * W1)), out_dtype="int32")
            m = R.astype(k, "float32")
            n = R.multiply(m, R.const(0.5, "float32"))
            R.output(n)
        return n


def quantized() -> Any:
    mod = prepare(Before)
    narrow = Widths(weight_bits=4, activation_bits=4)
    second = str(read_graph(mod).bindings[2].var.name)
    options = QuantOptions(
        chooser=ProfiledScales(),
        widths={second: narrow},
        limits=Limits(weight=119, activation=119),
    )
    image = np.asarray([[[[8.0, -8.0], [1.0, 2.0]]]], np.float32)
    return quantize_model(mod, profile(mod, [image]), options)


def test_before_and_after() -> None:
    found, expected = quantized(), After
    left, right = (read_graph(m).bindings for m in (found, expected))
    for a, b in zip(left, right, strict=True):
        assert a.value.op.same_as(b.value.op), (a, b)
        for x, y in zip(a.value.args, b.value.args, strict=True):
            if (value := constant(y)) is not None:
                np.testing.assert_array_equal(constant(x), value)
                assert constant(x).dtype == value.dtype  # type: ignore[union-attr]
            elif isinstance(y, tvm.relax.Var):
                assert str(x.ty) == str(y.ty)
            else:  # a limit of a clip
                assert float(x.value) == float(y.value)


def test_layers_clip_to_their_bits(default_config: VTAConfig) -> None:
    """What a compiler gets clips to 7; a network of 8 bits on the same machine to 119."""
    layers = layers_of(quantized(), default_config)
    steps = {op.op: op.value for op in layers[0].post_ops}
    assert (steps["max"], steps["min"]) == (0, 7)
    assert int(np.abs(layers[0].weight).max()) == 64 and int(np.abs(layers[1].weight).max()) == 4  # type: ignore[arg-type]
    mod = prepare(Before)
    limited = QuantOptions(limits=Limits(weight=119, activation=119))
    plain = replace(limited, limits=Limits())
    image = np.asarray([[[[119.0, -119.0], [1.0, 2.0]]]], np.float32)
    for options, most in ((limited, 119), (plain, 127)):
        layers = layers_of(quantize_model(mod, profile(mod, [image]), options), default_config)
        assert {s.value for s in layers[0].post_ops if s.op == "min"} == {most}
    assert QuantParams(scale=(1.0,), limit=119).qmin == -119
