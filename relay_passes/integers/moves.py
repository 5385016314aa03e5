"""Integers of what only moves: the call on int8, and a concatenation of tensors of one scale.

A concatenation's operand that has another scale or zero point is converted once: its number times
b / 2^c, rounded and clipped as an accumulator is.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, Final, Protocol

from tvm import relax

from relay_passes.graph import Expr, ints, op_name
from relay_passes.integers.integer_values import Accumulator, Int8Tensor
from relay_passes.integers.plan import LayerPlan
from relay_passes.operators.calls import is_concat, is_move, moved
from relay_passes.params import QuantParams, Requant

#: The largest b of b / 2^c between the scales of two int8 tensors: an error of at most 0.2 %.
_MOST: Final = 511


class Interpreter(Protocol):
    """What turns the operators of a graph into integers, one by one."""

    @property
    def planned(self) -> dict[str, LayerPlan]:
        """The layers of the plan, by output."""
        ...

    def value(self, expr: Expr) -> Any:
        """Return what an operand became."""
        ...

    def emit(self, expr: Expr, name: str) -> Expr:
        """Bind a tensor of the graph."""
        ...

    def widen(self, value: Int8Tensor) -> Accumulator:
        """Return an int8 tensor as an accumulator."""
        ...

    def params_of(self, name: str) -> QuantParams | None:
        """Return the parameters of a tensor as the graph stores them."""
        ...

    def requantize(
        self, acc: Accumulator, params: QuantParams, requant: Requant, name: str
    ) -> Int8Tensor:
        """Emit what makes int8 of an accumulator."""
        ...


def converted_name(concat: str, place: int) -> str:
    """Return the name of a concatenation's operand in its scale."""
    return f"{concat}.in{place}"


def small_ratio(ratio: float) -> Requant:
    """Return b / 2^c next to a ratio of two scales of int8 tensors, b of few bits."""
    exact, best = Fraction(ratio), (0, 0)
    for shift in range(31):
        multiplier = round(exact * 2**shift)
        if multiplier > _MOST:
            break
        near = abs(Fraction(best[0], 2 ** best[1]) - exact)
        if multiplier and abs(Fraction(multiplier, 2**shift) - exact) < near:
            best = multiplier, shift
    return Requant(multiplier=(best[0],), shift=(best[1],), ratio=(exact,))


def moved_tensor(run: Interpreter, binding: Expr) -> Int8Tensor | None:
    """Emit an operator that moves int8; None where it reads floats, or computes."""
    call, data = binding.value, run.value(binding.value.args[0])
    if not isinstance(data, Int8Tensor) or not is_move(call):
        return None
    expr = relax.Call(call.op, [data.var, *call.args[1:]], call.attrs, call.ty_args)
    if op_name(call) == "nn.pad" and str(call.attrs.pad_mode) == "constant":
        widths = list(ints(call.attrs.pad_width))
        expr = relax.op.nn.pad(data.var, widths, pad_mode="constant", pad_value=float(data.zero))
    name = str(binding.var.name)
    return replace(data, var=run.emit(expr, name), name=name)


def joined_tensor(run: Interpreter, binding: Expr) -> Int8Tensor | None:
    """Emit a concatenation of int8, its operands in its own scale; None where one is a float."""
    name, call = str(binding.var.name), binding.value
    params = run.params_of(name)
    if params is None or not is_concat(call):
        return None
    parts = [run.value(field) for field in moved(call)]
    if not all(isinstance(part, Int8Tensor) for part in parts):
        return None
    for place, part in enumerate(parts):
        layer = run.planned.get(converted_name(name, place))
        if layer is not None and layer.requant is not None:
            parts[place] = run.requantize(run.widen(part), params, layer.requant, layer.output)
    expr = relax.op.concat([part.var for part in parts], axis=int(call.attrs.axis))
    return Int8Tensor(
        var=run.emit(expr, name),
        scale=params.scale[0],
        bound=max(part.bound for part in parts),
        zero=params.zero_point,
        name=name,
    )
