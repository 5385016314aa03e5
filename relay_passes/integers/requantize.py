"""Requantize: turn the graph with quantize and dequantize pairs into integer operators.

The pass interprets the graph. Each tensor is one of: a float; an int8 with a scale and a zero
point; an int32 accumulator with a scale, a bound of its magnitude, an offset and a bias not yet
added and a ReLU not yet done. An operator with an integer implementation reads integers and makes
an accumulator; quantize makes it int8:

    q = clip((acc + bias + 2^(n-1)) >> n, qmin, qmax),    n = log2(s_y / (s_x * s_w)),

with bias and rounding constant in one add and the ReLU in the clip. What zero points add, that of
the input -z_x * sum(q_w) and that of the output z_y * 2^n, is part of that constant, too.
Everything else gets floats: the value is dequantized, the operator stays as it is, and runs on the
host.

Every n, every multiplier and every factor of a residual is an integer of the quantization plan. A
graph that the plan was not made for is an error: nothing is found again from scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes import numerics
from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    op_name,
    read_graph,
    replace_main,
    static_shape,
    substitute,
    variables,
)
from relay_passes.integers.elementwise import PAIRS
from relay_passes.integers.emit_steps import emit_steps
from relay_passes.integers.integer_facts import with_facts
from relay_passes.integers.integer_values import (
    Accumulator,
    DoesNotFit,
    Int8Tensor,
    IntegerWeight,
    Lazy,
    column,
    constant_of,
    int8_tensor,
    per_channel,
)
from relay_passes.integers.moves import joined_tensor, moved_tensor
from relay_passes.integers.plan import QuantPlan, expanded, mismatch
from relay_passes.integers.pools import average
from relay_passes.names import Names, layer_names, with_layer_names
from relay_passes.operators.averages import is_average
from relay_passes.operators.calls import (
    ACTIVATIONS,
    AVERAGES,
    MOVES,
    WEIGHT_AXIS,
    ceiling_of,
    integer_form,
    split_bias,
    weight_rows,
)
from relay_passes.operators.chain import NO_SIDES, Padding
from relay_passes.operators.functions import Function, functions_of
from relay_passes.operators.padding import padded
from relay_passes.operators.scale_channels import factors_of
from relay_passes.params import INT32_MAX, QuantParams, Requant
from vta_config.errors import CapacityError
from vta_config.isa import MAX_IMM

#: Shifted left by this, everything but 0 saturates int8, even beside a bias within int8.
_SATURATING_SHIFT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantize(GraphPass):
    """Replace quantize and dequantize by integer arithmetic; see the module's text.

    Multiplied by b / 2^c, it becomes q = clip(((acc + bias + r) * b) >> c), r = round(2^(c-1) / b).

    Parameters
    ----------
    plan : QuantPlan
        As `Quantize` got it, made for the same options.
    """

    plan: QuantPlan

    def transform(self, mod: Module) -> Module:
        """Return the integer module.

        Operators whose accumulator or bias may leave int32 stay floats; see `host_reasons`.

        Raises
        ------
        CalibrationError
            When the plan was made for another graph, or for other options.
        """
        graph = read_graph(mod)
        names = [str(v.name) for v in (*graph.params, *(b.var for b in graph.bindings))]
        functions, host = functions_of(graph), dict(self.plan.host)
        while True:
            run = _Interpreter(names, dict(layer_names(mod)), self.plan, functions, host)
            try:
                for binding in graph.bindings:
                    run.visit(binding)
                results = [run.as_float(run.value(v), v.name) for v in graph.results]
                break
            except DoesNotFit as stop:
                new = {name: str(stop) for name in stop.sources if name not in host}
                assert new, str(stop)  # or this would not end
                host |= new
        result = with_layer_names(replace_main(mod, run.builder, graph, results), run.layers)
        return with_facts(result, errors=run.errors, host=host, plan=self.plan)


class _Interpreter:
    """Interpret one graph; `env` maps its variables to what became of them.

    `layers` maps names of tensors to those of the layers that they belong to. Operators whose names
    are in `host` get floats.
    """

    def __init__(
        self,
        names: Iterable[str],
        layers: dict[str, str],
        plan: QuantPlan,
        functions: Mapping[Expr, Function],
        host: Mapping[str, str],
    ) -> None:
        self.plan = plan
        self.planned = plan.by_output()
        self.functions = functions
        self.host = host
        self.builder = GraphBuilder()
        self.layers = layers
        #: Names of the graph that no tensor has yet: its own tensors keep them.
        self._left = set(names)
        self._names = Names(self._left)
        self.env: dict[Expr, Any] = {}
        self.floats: dict[Expr, Expr] = {}
        #: Accumulators by identity, and what they are as floats: all their readers read one.
        self.reals: dict[int, tuple[Accumulator, Expr]] = {}
        self.errors: dict[str, float] = {}

    def emit(self, expr: Expr, name: str) -> Expr:
        """Bind the graph's tensor `name`, once; another one is called like it, with a number."""
        own = name in self._left
        self._left.discard(name)
        return self.builder.emit(expr, name if own else self._names.fresh(name))

    def step(self, expr: Expr, name: str, role: str) -> Expr:
        """Bind a step on the way to the tensor or layer `name`."""
        var = self.builder.emit(expr, self._names.fresh(f"{name}.{role}"))
        self.layers[str(var.name)] = name
        return var

    def value(self, expr: Expr) -> Any:
        """Return what an operand became."""
        return self.env.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def visit(self, binding: Expr) -> None:
        """Interpret one binding."""
        handler = self.HANDLERS.get(op_name(binding.value))
        if binding.var in self.functions:
            handler = _Interpreter._function
        elif binding.var.name in self.host:
            handler = None
        try:
            result = handler(self, binding) if handler is not None else None
        except CapacityError as error:
            values = (self.value(v) for v in variables(binding.value))
            sources = (v.sources for v in values if isinstance(v, Accumulator))
            names = tuple(dict.fromkeys(s for names in sources for s in names))
            adds = op_name(binding.value) == "add" and split_bias(binding.value) is None
            raise DoesNotFit((binding.var.name,) if adds or not names else names, error) from None
        self.env[binding.var] = self._in_floats(binding) if result is None else result

    # ---- from and to floats ------------------------------------------------------------------
    def as_float(self, value: Any, name: str) -> Expr:
        """Emit the float32 form of a value."""
        if isinstance(value, Accumulator):
            if id(value) not in self.reals:
                self.reals[id(value)] = value, self._real(value)
            return self.reals[id(value)][1]
        if isinstance(value, Int8Tensor):
            return self._scaled(value.var, np.float32(value.scale), value.name, value.zero)
        if isinstance(value, Lazy):
            self.env[value.binding.var] = self._in_floats(value.binding)
            return self.env[value.binding.var]
        if isinstance(value, IntegerWeight):
            return relax.const((value.value * column(value)).astype(np.float32))
        return value

    def _in_floats(self, binding: Expr) -> Expr:
        """Emit an operator as it is: it has no integer implementation."""
        reals = {v: self.as_float(self.value(v), v.name) for v in {*variables(binding.value)}}
        return self.emit(substitute(binding.value, reals), binding.var.name)

    def _real(self, value: Accumulator) -> Expr:
        # A limit that no instruction holds, as of a result that keeps all its bits, is a float.
        top = value.ceiling if (value.ceiling > value.scale * MAX_IMM).any() else np.inf
        try:
            value = self.settle(replace(value, ceiling=np.inf) if np.isfinite(top) else value)
        except CapacityError as error:
            raise DoesNotFit(value.sources, error) from None
        rank, largest = value.var.ty.ndim, float(np.finfo(np.float32).max)
        scale = per_channel(np.minimum(value.scale, largest), rank, np.float32)
        real = self._scaled(value.var, scale, value.name)
        if np.isinf(top):
            return real
        return self.step(relax.op.clip(real, 0.0, top), value.name, "limited")

    def _scaled(self, var: Expr, scale: Any, name: str, zero: int = 0) -> Expr:
        if var not in self.floats:
            wide = self.step(relax.op.astype(var, "float32"), name, "float")
            if zero:
                distance = relax.op.subtract(wide, relax.const(np.float32(zero)))
                wide = self.step(distance, name, "from_zero")
            product = relax.op.multiply(wide, relax.const(scale))
            self.floats[var] = self.step(product, name, "real")
        return self.floats[var]

    def _dequantize(self, binding: Expr) -> Any:
        data, scale = binding.value.args[0], constant(binding.value.args[1])
        weight = constant(data)
        if weight is not None and scale is not None:
            axis = int(binding.value.attrs.axis)
            channels = weight.shape[axis]
            scales = np.broadcast_to(scale.astype(np.float64).reshape(-1), (channels,))
            return IntegerWeight(value=weight, scale=np.asarray(scales))
        value = self.value(data)
        return value if isinstance(value, Int8Tensor) else None

    def _quantize(self, binding: Expr) -> Any:
        scale, zero = (constant(arg) for arg in binding.value.args[1:3])
        if scale is None or scale.size != 1 or zero is None:
            return None
        value = self.value(binding.value.args[0])
        name = str(getattr(binding.value.args[0], "name", binding.var.name))
        params = self._params(name, float(scale), int(zero))
        layer = self.planned.get(name)
        if isinstance(value, Lazy):
            if (steps := self.plan.steps.get(name)) is not None and name not in self.host:
                var = emit_steps(self, steps, value.operands, name)
                return int8_tensor(var, params, name)
            value, layer = self.as_float(value, name), None
        value = self.widen(value) if isinstance(value, Int8Tensor) else value
        if isinstance(value, Accumulator):
            if layer is not None and layer.requant is not None:
                return self.requantize(value, params, layer.requant, name)
            if name not in self.plan.floats:
                raise mismatch(name, "must not be made of integers", "an accumulator")
            value = self.as_float(value, value.name)
        elif layer is not None and not self.host.keys() & set(layer.operators):
            raise mismatch(name, "must be made of integers", "floats")
        return self.quantize_float(value, params, str(binding.var.name))

    def params_of(self, name: str) -> QuantParams | None:
        """Return a tensor's parameters, its scale in float32 as the graph stores it."""
        params = self.plan.tensors.get(name)
        if params is None:
            return None
        return self._params(name, float(np.float32(params.scale[0])), params.zero_point)

    def _params(self, name: str, scale: float, zero: int) -> QuantParams:
        """Return a tensor's parameters, its scale as the graph stores it, in float32."""
        params = self.plan.tensors.get(name)
        if params is None or np.float32(params.scale[0]) != scale:
            planned = "no scale" if params is None else f"the scale {params.scale[0]:.9g}"
            raise mismatch(name, f"must have {planned}", f"{scale:.9g}")
        if params.zero_point != zero:
            raise mismatch(name, f"must have the zero point {params.zero_point}", zero)
        # Whether a tensor without zero point is signed says its ReLU.
        return replace(params, scale=(scale,), signed=not params.zero_point)

    def quantize_float(self, var: Expr, params: QuantParams, name: str) -> Int8Tensor:
        """Emit clip(floor(x * (1 / s) + 0.5) + zero_point, qmin, qmax) as int8, on the host."""
        step, scale = self.step, params.scale[0]
        x = step(relax.op.multiply(var, relax.const(np.float32(1.0 / scale))), name, "scaled")
        x = step(relax.op.add(x, relax.const(np.float32(0.5))), name, "half")
        x = step(relax.op.floor(x), name, "floor")
        if params.zero_point:
            zero = relax.const(np.float32(params.zero_point))
            x = step(relax.op.add(x, zero), name, "zero")
        x = step(relax.op.clip(x, float(params.qmin), float(params.qmax)), name, "clip")
        x = self.emit(relax.op.astype(x, "int8"), name)
        return int8_tensor(x, params, name)

    # ---- accumulators ------------------------------------------------------------------------
    def widen(self, value: Int8Tensor) -> Accumulator:
        """Return an int8 tensor as an accumulator."""
        channels = static_shape(value.var)[1]
        var = self.step(relax.op.astype(value.var, "int32"), value.name, "wide")
        return Accumulator(
            var=var,
            scale=np.full(channels, value.scale),
            bound=np.full(channels, value.bound, np.int64),
            offset=np.full(channels, -value.zero, np.int64),
            bias=np.zeros(channels),
            name=value.name,
        )

    def with_bias(self, acc: Accumulator, bias: NDArray[np.float64], name: str) -> Accumulator:
        """Return what an add of a bias makes of it: a ReLU that it owes is done before."""
        settled = self.settle(acc) if acc.owes_relu else acc
        return replace(settled, bias=settled.bias + bias, name=name)

    def settle(self, acc: Accumulator) -> Accumulator:
        """Emit offset, bias and the ReLU that an accumulator still owes."""
        rounded = numerics.quantize_bias(acc.name, acc.bias, acc.scale)
        acc = self.add_integers(acc, acc.offset + rounded)
        var = acc.var
        if acc.relu:
            var = self.step(relax.op.maximum(var, relax.const(np.int32(0))), acc.name, "max")
        if np.isfinite(acc.ceiling):
            top = numerics.round_half_up(acc.ceiling / acc.scale)
            limit = per_channel(np.minimum(top, 2.0**31 - 1), var.ty.ndim, np.int32)
            var = self.step(relax.op.minimum(var, relax.const(limit)), acc.name, "min")
        offset, bias = np.zeros_like(acc.offset), np.zeros_like(acc.bias)
        return replace(acc, var=var, offset=offset, bias=bias, relu=False, ceiling=float("inf"))

    def add_integers(self, acc: Accumulator, addend: NDArray[np.int64]) -> Accumulator:
        """Emit the add of an int64[C] constant and bound the sum."""
        bound = acc.bound + np.abs(addend)
        numerics.check_accumulator(acc.name, bound)
        if not addend.any():
            return acc
        number = per_channel(addend, acc.var.ty.ndim, np.int32)
        var = self.step(relax.op.add(acc.var, relax.const(number)), acc.name, "bias")
        return replace(acc, var=var, bound=bound)

    def shift_left(self, acc: Accumulator, shift: NDArray[np.int64]) -> Accumulator:
        """Emit the left shift that makes the scale 2^shift times finer, int64[C] >= 0."""
        if not shift.any():
            return acc
        bound = acc.bound << shift
        numerics.check_accumulator(acc.name, bound)
        amount = per_channel(shift, acc.var.ty.ndim, np.int32)
        var = self.step(relax.op.left_shift(acc.var, relax.const(amount)), acc.name, "shl")
        offset, scale = acc.offset << shift, acc.scale / 2.0**shift
        return replace(acc, var=var, bound=bound, offset=offset, scale=scale)

    def requantize(
        self, acc: Accumulator, params: QuantParams, requant: Requant, name: str
    ) -> Int8Tensor:
        """Emit bias, rounding, multiplier, shift, clip and cast; see the module's text."""
        self.errors[name] = requant.relative_error
        zero = params.zero_point
        top = numerics.round_half_up(min(acc.ceiling / params.scale[0], float(params.levels)))
        limits = zero if acc.relu else params.qmin, zero + int(top)
        multiplier, shift = (
            expanded(numbers, len(acc.scale), self.plan.block, name)
            for numbers in (requant.multiplier, requant.shift)
        )
        if (multiplier != 1).any():
            return self._multiplied(acc, params, (multiplier, shift), limits, name)
        acc = self._finer(acc, np.maximum(-shift, 0), params)
        shift = np.maximum(shift, 0)
        bias = constant_of(acc, 2.0**shift, zero)
        acc = self.add_integers(acc, bias + (zero << shift) + ((1 << shift) >> 1))
        return self._narrow(acc.var, params, shift, limits, name)

    def _multiplied(
        self,
        acc: Accumulator,
        params: QuantParams,
        dyadic: tuple[NDArray[np.int64], NDArray[np.int64]],
        limits: tuple[int, int],
        name: str,
    ) -> Int8Tensor:
        """Emit bias, rounding, multiplication by b, shift by c, clip and cast."""
        b, c = dyadic
        zero = params.zero_point
        bias = constant_of(acc, params.scale[0] / acc.scale, zero)
        rounding = numerics.round_half_up((zero + 0.5) * 2.0**c / b).astype(np.int64)
        acc = self.add_integers(acc, bias + rounding)
        numerics.check_accumulator(name, acc.bound * b)
        factor = relax.const(per_channel(b, acc.var.ty.ndim, np.int32))
        var = self.step(relax.op.multiply(acc.var, factor), name, "mul")
        return self._narrow(var, params, c, limits, name)

    def _finer(self, acc: Accumulator, left: NDArray[np.int64], params: QuantParams) -> Accumulator:
        """Shift left to the scale of the output, int64[C] >= 0, which clips to int8.

        Any sum but 0 saturates the output where it counts for 2^8 of its units or more (2^9 where
        it has a zero point): the bias is then added before the shift, and after it what rounding
        left of that.
        """
        scale, twice = params.scale[0], 2 if params.zero_point else 1
        most = np.minimum(left, _SATURATING_SHIFT + twice - 1)
        total = numerics.sum_bound(acc.bound, acc.offset)
        if (left == most).all() and (total << left).max() <= INT32_MAX >> 1:
            return self.shift_left(acc, left)
        enough = (total + 2.0) * acc.scale
        bias = np.clip(acc.bias, -enough, enough)
        whole = numerics.quantize_bias(acc.name, bias, acc.scale)
        half = 128 * twice * scale
        rest = np.clip(bias - whole * acc.scale, -half, half)
        acc = self.add_integers(acc, acc.offset + whole)
        limit = (1 << 15) - 1
        var = self.builder.emit(relax.op.clip(acc.var, -limit, limit), f"{acc.name}.clip")
        bound = np.minimum(acc.bound, limit)
        unit = np.where(left > most, scale * 2.0**most, acc.scale)
        nothing = np.zeros_like(acc.offset)
        acc = replace(acc, var=var, bound=bound, offset=nothing, bias=rest, scale=unit)
        return self.shift_left(acc, most)

    def _narrow(
        self,
        var: Expr,
        params: QuantParams,
        shift: NDArray[np.int64],
        limits: tuple[int, int],
        name: str,
    ) -> Int8Tensor:
        """Emit shift, clip and cast."""
        if shift.any():
            amount = per_channel(shift, var.ty.ndim, np.int32)
            var = self.step(relax.op.right_shift(var, relax.const(amount)), name, "shr")
        var = self.step(relax.op.clip(var, *limits), name, "clip")
        return int8_tensor(self.emit(relax.op.astype(var, "int8"), name), params, name)

    # ---- operators ---------------------------------------------------------------------------
    def _product(self, binding: Expr) -> Any:
        call, form = binding.value, integer_form(binding.value)
        data, weight = self.value(call.args[0]), self.value(call.args[1])
        if not isinstance(data, Int8Tensor) or not isinstance(weight, IntegerWeight):
            return None
        if form is None:
            return None
        var, sides = data.var, form.padding(call)
        if data.zero and any(sides):  # what stands outside is 0.0, too
            padding = Padding(sides, data.zero)
            var, sides = self.step(padded(var, padding), str(binding.var.name), "pad"), NO_SIDES
        expr = form.make(call, var, weight.value, sides)
        return self._sum_of_products(binding, expr, data, weight)

    def _sum_of_products(
        self,
        binding: Expr,
        expr: Expr,
        data: Int8Tensor,
        weight: IntegerWeight,
    ) -> Accumulator:
        name = str(binding.var.name)
        self._check_weight(name, weight)
        layer = self.layers.get(name)
        rows = weight_rows(binding.value, weight.value)
        bound = numerics.accumulator_bound(rows, data.bound)
        numerics.check_accumulator(name, bound)
        # Without a bias the name is the layer's, and what the accumulator becomes is called so.
        var = self.step(expr, name, "acc") if layer is None else self.emit(expr, name)
        return Accumulator(
            var=var,
            scale=data.scale * weight.scale,
            bound=bound,
            offset=-data.zero * rows.sum(axis=1, dtype=np.int64),
            bias=np.zeros(len(bound)),
            name=name if layer is None else layer,
            sources=(name,),
        )

    def _check_weight(self, name: str, weight: IntegerWeight) -> None:
        """Check that a weight has the scales of the plan, as the graph stores them in float32."""
        params = self.plan.weights.get(name)
        if params is None:
            raise mismatch(name, "must have a float weight", "an int8 weight")
        scales = params.scales(len(weight.scale), self.plan.block).astype(np.float32)
        if scales.shape != weight.scale.shape or (scales != weight.scale).any():
            wanted = f"must have a weight with scales from {scales.min():.9g} to {scales.max():.9g}"
            got = f"{weight.scale.min():.9g} to {weight.scale.max():.9g}"
            raise mismatch(name, wanted, got)

    def _add(self, binding: Expr) -> Any:
        name = str(binding.var.name)
        found = split_bias(binding.value)
        if found is not None:
            value = self.value(found[0])
            value = self.widen(value) if isinstance(value, Int8Tensor) else value
            if not isinstance(value, Accumulator):
                return None
            return self.with_bias(value, found[1], name)
        if name not in self.plan.sums and (lazy := self._pair(binding)) is not None:
            return lazy
        left, right = (self.value(a) for a in binding.value.args)
        if isinstance(right, Accumulator) and isinstance(left, Int8Tensor):
            left, right = right, left
        left = self.widen(left) if isinstance(left, Int8Tensor) else left
        if not isinstance(left, Accumulator) or not isinstance(right, Int8Tensor | Accumulator):
            return None
        if static_shape(left.var) != static_shape(right.var):
            return None
        return self._add_tensor(left, right, name)

    def _add_tensor(
        self, acc: Accumulator, other: Int8Tensor | Accumulator, name: str
    ) -> Accumulator:
        """Emit acc + other exactly: other times integers, or both at the finer of their scales."""
        plan = self.plan.sums.get(name)
        if plan is None or {plan.first, plan.second} != {acc.name, other.name}:
            planned = "no sum" if plan is None else f"{plan.first} + {plan.second}"
            raise mismatch(name, f"must be {planned}", f"{acc.name} + {other.name}")
        if plan.left_out:
            return replace(acc, name=name)
        factor, *shifts = (
            expanded(numbers, len(acc.scale), self.plan.block, name)
            for numbers in (plan.multiplier, plan.first_shift, plan.second_shift)
        )
        if (factor != 1).any() and isinstance(other, Int8Tensor):
            return self._add_scaled(acc, other, factor, name)
        addend = self.widen(other) if isinstance(other, Int8Tensor) else other
        acc, addend = (
            self.shift_left(self.settle(v) if v.owes_relu else v, shift)
            for v, shift in zip((acc, addend), shifts, strict=True)
        )
        bound = acc.bound + addend.bound
        numerics.check_accumulator(name, bound)
        return Accumulator(
            var=self.step(relax.op.add(acc.var, addend.var), name, "sum"),
            scale=acc.scale,
            bound=bound,
            offset=acc.offset + addend.offset,
            bias=acc.bias + addend.bias,
            name=name,
            sources=(*acc.sources, *addend.sources),
        )

    def _add_scaled(
        self, acc: Accumulator, other: Int8Tensor, factor: NDArray[np.int64], name: str
    ) -> Accumulator:
        """Emit acc + factor * other, int64[C] >= 1."""
        addend = self.widen(other)
        numerics.check_accumulator(name, bound := acc.bound + addend.bound * factor)
        number = relax.const(per_channel(factor, acc.var.ty.ndim, np.int32))
        product = self.step(relax.op.multiply(addend.var, number), other.name, "scaled")
        return replace(
            acc,
            var=self.step(relax.op.add(acc.var, product), name, "sum"),
            bound=bound,
            offset=acc.offset + addend.offset * factor,
            name=name,
        )

    def _activation(self, binding: Expr) -> Any:
        value, ceiling = self.value(binding.value.args[0]), ceiling_of(binding.value)
        if ceiling is None:
            return None
        if isinstance(value, Lazy):
            return replace(value, binding=binding)
        value = self.widen(value) if isinstance(value, Int8Tensor) else value
        if not isinstance(value, Accumulator):
            return None
        name, ceiling = str(binding.var.name), min(value.ceiling, ceiling)
        return replace(value, relu=True, ceiling=ceiling, name=name)

    def _average(self, binding: Expr) -> Any:
        data = self.value(binding.value.args[0])
        if not isinstance(data, Int8Tensor) or not is_average(binding.value):
            return None
        return average(binding.value, data, str(binding.var.name), self.step, self.widen)

    def _move(self, binding: Expr) -> Any:
        return self._average(binding) if is_average(binding.value) else moved_tensor(self, binding)

    def _function(self, binding: Expr) -> Any:
        x = self.value(self.functions[binding.var].source)
        return Lazy(binding=binding, operands=(x,)) if isinstance(x, Int8Tensor) else None

    def _pair(self, binding: Expr) -> Any:
        factors = factors_of(binding.value)
        left, right = (self.value(a) for a in factors or binding.value.args)
        if not (isinstance(left, Int8Tensor) and isinstance(right, Int8Tensor)):
            return None
        alike = static_shape(left.var) == static_shape(right.var)
        fits = alike if op_name(binding.value) in PAIRS else factors is not None
        return Lazy(binding=binding, operands=(left, right)) if fits else None

    HANDLERS: ClassVar[dict[str, Callable[[_Interpreter, Expr], Any]]] = {
        "quantize": _quantize,
        "dequantize": _dequantize,
        **dict.fromkeys((*PAIRS, "multiply"), _pair),
        "add": _add,
        **dict.fromkeys(AVERAGES, _average),
        **dict.fromkeys(ACTIVATIONS, _activation),
        **dict.fromkeys(WEIGHT_AXIS, _product),
        **dict.fromkeys(MOVES, _move),
        "concat": joined_tensor,
    }
