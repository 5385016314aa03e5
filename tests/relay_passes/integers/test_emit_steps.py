"""Steps as operators of the integer graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from relay_passes.graph import op_name
from relay_passes.integers.emit_steps import emit_steps
from relay_passes.integers.integer_values import Int8Tensor
from relay_passes.integers.steps import TIMES, Step, StepsPlan, TensorSteps
from tests.relay_passes.integers.test_steps import PLAN


class Recorder:
    """Binds operators and keeps them."""

    def __init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.bound: list[tuple[str, str]] = []

    def emit(self, expr: Any, name: str) -> Any:
        expr = self.builder.normalize(expr)
        self.bound.append((op_name(expr), name))
        return relax.Var(name, expr.ty)

    def step(self, expr: Any, name: str, role: str) -> Any:
        return self.emit(expr, f"{name}.{role}")


def test_one_operator_a_step_and_a_cast_a_tensor() -> None:
    operands = [
        Int8Tensor(
            var=relax.Var(name, relax.TensorType((1, 2, 3, 3), "int8")),
            scale=1.0,
            bound=127,
            name=name,
        )
        for name in "xy"
    ]
    recorder = Recorder()
    result = emit_steps(recorder, PLAN, operands, "z")
    assert str(result.name) == "z" and str(result.ty.dtype) == "int8"
    assert [op for op, _ in recorder.bound] == [
        *("astype", "multiply", "minimum", "astype"),  # the part
        *("astype", "multiply", "astype", "multiply", "add", "maximum"),
        *("astype", "add", "add", "right_shift", "astype"),
    ]
    assert np.unique([name.partition(".")[0] for _, name in recorder.bound]).tolist() == ["z"]


def test_a_product_subtracts_zero_points() -> None:
    operands = [
        Int8Tensor(
            var=relax.Var(name, relax.TensorType((1, 2, size, size), "int8")),
            scale=1.0,
            bound=127,
            name=name,
        )
        for name, size in (("x", 3), ("s", 1))
    ]
    for zero in (0, -127):
        times = Step(op=TIMES, value=(zero,), tensor="s")
        steps = Step(op="add_scaled", value=(1,), tensor="x"), times
        recorder = Recorder()
        plan = StepsPlan(parts=(TensorSteps(suffix="", steps=steps),))
        result = emit_steps(recorder, plan, operands, "z")
        assert [int(n) for n in result.ty.shape.values] == [1, 2, 3, 3]
        centred = ["add"] if zero else []
        assert [op for op, _ in recorder.bound] == [
            *("astype", "astype", *centred, "multiply", "astype"),
        ]
