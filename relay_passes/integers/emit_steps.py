"""Emit steps as operators of the integer graph, which the search for layers reads as post-ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
from tvm import relax

from relay_passes.graph import Expr
from relay_passes.integers.integer_values import Int8Tensor, per_channel
from relay_passes.integers.steps import TIMES, Step, StepsPlan

#: The operator of Relax of a step that reads no tensor.
_OPERATORS: Final = {
    "add": relax.op.add,
    "shr": relax.op.right_shift,
    "max": relax.op.maximum,
    "min": relax.op.minimum,
}


class Emitter(Protocol):
    """What binds operators to names: `Requantize`'s interpreter."""

    def emit(self, expr: Expr, name: str) -> Expr:
        """Bind the tensor `name`."""

    def step(self, expr: Expr, name: str, role: str) -> Expr:
        """Bind a step on the way to the tensor `name`."""


def emit_steps(
    emitter: Emitter, plan: StepsPlan, operands: Sequence[Int8Tensor], name: str
) -> Expr:
    """Emit what a plan says and return the int8 tensor `name`.

    Parameters
    ----------
    emitter : Emitter
    plan : StepsPlan
    operands : sequence of Int8Tensor
        What it reads, by their names.
    name : str
    """
    tensors = {operand.name: operand.var for operand in operands}
    var: Expr = None
    for part in plan.parts:
        var = None
        for step in part.steps:
            var = _emitted(emitter, var, step, tensors, name)
        whole = part is plan.parts[-1]
        cast = relax.op.astype(var, "int8")
        var = emitter.emit(cast, name) if whole else emitter.step(cast, name, "part")
        tensors[part.suffix] = var
    return var


def _emitted(emitter: Emitter, var: Expr, step: Step, tensors: dict[str, Expr], name: str) -> Expr:
    """Emit one step on an accumulator, None for 0."""
    if step.tensor is None:
        number = _operand(step, var)
        return emitter.step(_OPERATORS[step.op](var, number), name, step.op)
    tensor = emitter.step(relax.op.astype(tensors[step.tensor], "int32"), name, "wide")
    if step.op == TIMES:
        if step.value != (0,):
            opposite = replace(step, value=tuple(-v for v in step.value))
            centred = relax.op.add(tensor, _operand(opposite, tensor))
            tensor = emitter.step(centred, name, "from_zero")
        return emitter.step(relax.op.multiply(var, tensor), name, "product")
    if step.value != (1,):
        product = relax.op.multiply(tensor, _operand(step, tensor))
        tensor = emitter.step(product, name, "scaled")
    return tensor if var is None else emitter.step(relax.op.add(var, tensor), name, "sum")


def _operand(step: Step, var: Expr) -> Expr:
    values = np.asarray(step.value, np.int64)
    return relax.const(per_channel(values, var.ty.ndim, np.int32))
