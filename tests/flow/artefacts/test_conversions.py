"""How floats become integers, read from what the host does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import parser
from tvm.script import relax as R
from tvm.script import tirx as T

from flow.artefacts.conversions import Dequantizing, Quantizing, read_conversions

#: A partitioned module in TVMScript; BODY is what main does, which ends with r.
PARTITIONED = """
@I.ir_module
class Module:
    @R.function(private=True)
    def vta_0(x: R.Tensor((1, 5), dtype="int8")) -> R.Tensor((1, 5), dtype="int32"):
        with R.dataflow():
            y = R.astype(x, dtype="int32")
            R.output(y)
        return y

    @R.function
    def main(data: R.Tensor((1, 5), dtype="float32")) -> R.Tensor((1, 5), dtype="float32"):
        cls = Module
        with R.dataflow():
            BODY
            R.output(r)
        return r
"""


def module(text: str, **names: Any) -> Any:
    """Parse a module; `names` are constants in it."""
    body = text.strip().replace("\n", "\n" + " " * 12)
    return parser.parse(
        PARTITIONED.replace("BODY", body), extra_vars={"I": I, "R": R, "T": T, **names}
    )


PLAIN = """
q0 = R.multiply(data, R.const(32.0, "float32"))
q1 = R.add(q0, R.const(0.5, "float32"))
q2 = R.floor(q1)
q3 = R.clip(q2, T.float64(-127.0), T.float64(127.0))
q = R.astype(q3, dtype="int8")
"""
ZERO = """
q0 = R.multiply(data, R.const(20.0, "float32"))
q1 = R.add(q0, R.const(0.5, "float32"))
q2 = R.floor(q1)
z = R.add(q2, R.const(-5.0, "float32"))
q3 = R.clip(z, T.float64(-128.0), T.float64(127.0))
q = R.astype(q3, dtype="int8")
"""


def scaled(scale: str = 'R.const(0.25, "float32")') -> str:
    return f"""
lv = cls.vta_0(q)
f = R.astype(lv, dtype="float32")
r = R.multiply(f, {scale})
"""


def test_input_and_result_of_a_program() -> None:
    found = read_conversions(module(PLAIN + scaled()))
    assert found.inputs == (
        Quantizing(
            source="data", parameter=0, program="vta_0", position=0, multiplier=32.0, zero_point=0,
            qmin=-127, qmax=127,
        ),
    )  # fmt: skip
    assert found.results == (
        Dequantizing(program="vta_0", position=0, scale=(0.25,), zero_point=0),
    )


def test_zero_points() -> None:
    text = """
lv = cls.vta_0(q)
f = R.astype(lv, dtype="float32")
m = R.subtract(f, R.const(3.0, "float32"))
r = R.multiply(m, R.const(0.25, "float32"))
"""
    found = read_conversions(module(ZERO + text))
    (quantizing,) = found.inputs
    assert (quantizing.multiplier, quantizing.zero_point) == (20.0, -5)
    assert (quantizing.qmin, quantizing.qmax) == (-128, 127)
    assert found.results == (
        Dequantizing(program="vta_0", position=0, scale=(0.25,), zero_point=3),
    )


@pytest.mark.parametrize(
    "text",
    [
        "lv = cls.vta_0(q)\nf = R.astype(lv, dtype='float32')\nr = R.nn.softmax(f)",
        "lv = cls.vta_0(q)\nf = R.astype(lv, dtype='float32')\nr = R.add(f, f)",
        "lv = cls.vta_0(q)\nf = R.astype(lv, dtype='float32')\nr = R.multiply(f, f)",
    ],
)
def test_more_than_a_scale_is_the_hosts(text: str) -> None:
    assert read_conversions(module(PLAIN + text)).results == (None,)


@pytest.mark.parametrize(
    "change",
    [
        ("0.5", "0.25"),
        ("R.floor(q1)", "R.round(q1)"),
        ("R.floor(q1)", "R.floor(q0)"),
        ("R.multiply(data,", "R.multiply(R.nn.relu(data),"),
        ("R.clip(q2, T.float64(-127.0), T.float64(127.0))", "R.nn.relu(q2)"),
    ],
)
def test_another_way_to_quantize_is_the_hosts(change: tuple[str, str]) -> None:
    assert change[0] in PLAIN
    text = PLAIN.replace(*change).replace("R.nn.relu(data)", "d") + scaled()
    if "R.multiply(d," in text:
        text = "d = R.nn.relu(data)\n" + text
    assert read_conversions(module(text)).inputs == ()


def test_scales_of_channels() -> None:
    numbers = np.array([[1, 2, 4, 8, 16]], np.float32)
    (found,) = read_conversions(module(PLAIN + scaled("R.const(numbers)"), numbers=numbers)).results
    assert found is not None and found.scale == (1, 2, 4, 8, 16)


def test_what_comes_behind_a_scale() -> None:
    text = scaled().replace("r = R.multiply", "l = R.multiply") + "r = R.nn.softmax(l)"
    found = read_conversions(module(PLAIN + text))
    assert found.results == (None,)
    assert found.outputs == (
        Dequantizing(program="vta_0", position=0, scale=(0.25,), zero_point=0),
    )
