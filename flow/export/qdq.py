"""Write a quantized model as ONNX with QuantizeLinear and DequantizeLinear (QDQ).

The integer module is followed operator by operator. An int8 tensor becomes QuantizeLinear, its
readers DequantizeLinear; an int32 sum is a real tensor between them. Scales are the powers of two
next to those of the plan, which makes all real numbers exact (`flow.export.integers`); what they
leave out is multiplied once, where integers become floats. Operators on floats are written as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from tvm import relax

from flow.export.floats import writer_of
from flow.export.graph import GraphWriter
from flow.export.integers import IntegerWriter, power_near
from flow.export.values import Hint, Int8, Narrowed, Real, Sum, Value, Vector, Whole
from relay_passes.graph import (
    Expr,
    Module,
    clip_limits,
    constant,
    dtype_of,
    ints,
    op_name,
    read_graph,
    static_shape,
)
from relay_passes.integers.integer_facts import quantization_plan
from relay_passes.integers.plan import QuantPlan
from vta_config.errors import UnsupportedModelError

#: Walks over the module: to find which scales and biases leave nothing, and to write with them.
_WALKS: Final = 2
#: Scale of weights of a module without plan.
_USUAL_SCALE: Final = 2.0**-7
#: Operators on int8 tensors that move numbers, or take the largest of some.
_MOVES: Final = frozenset(
    {"reshape", "permute_dims", "squeeze", "expand_dims", "nn.max_pool2d", "concat"}
    | {"strided_slice", "nn.pad"}
)


def export_qdq(
    mod: Module, outputs: Sequence[str], inputs: Sequence[str] = (), *, name: str = "quantized"
) -> onnx.ModelProto:
    """Return an integer module as an ONNX model, whose integers are the module's.

    Parameters
    ----------
    mod : IRModule
        Quantized.
    outputs : sequence of str
        Names of its results in ONNX.
    inputs : sequence of str
        Of its inputs; by default those of the module.
    name : str
        Of the graph.

    Raises
    ------
    UnsupportedModelError
        When an operator is not known here, or a number has more bits than float32.
    """
    hints: dict[str, Hint] = {}
    for _ in range(_WALKS):
        walk = _Walk(mod, hints, inputs)
        hints = walk.integers.found
    return walk.model(outputs, name)


class _Walk:
    """One walk over a module; `env` maps its variables to what they are in ONNX."""

    def __init__(self, mod: Module, hints: Mapping[str, Hint], inputs: Sequence[str]) -> None:
        """Write every operator."""
        self._module = read_graph(mod)
        self._plan = quantization_plan(mod) or QuantPlan(tensors={}, weights={})
        self.graph = GraphWriter()
        self.integers = IntegerWriter(self.graph, hints)
        self.env: dict[Expr, Value | tuple[Value, ...]] = {}
        names = inputs or [str(param.name) for param in self._module.params]
        self._inputs = []
        for param, own in zip(self._module.params, names, strict=True):
            tensor = self.graph.fresh(own)
            self._inputs.append((tensor, static_shape(param)))
            self.env[param] = Real(tensor=tensor, shape=static_shape(param))
        for binding in self._module.bindings:
            self.env[binding.var] = self._visit(binding)

    def model(self, outputs: Sequence[str], name: str) -> onnx.ModelProto:
        """Return what was written."""
        results = [
            (self._real(self.env[var]), self.graph.fresh(own), static_shape(var))
            for var, own in zip(self._module.results, outputs, strict=True)
        ]
        return self.graph.model(self._inputs, results, name)

    def _visit(self, binding: Expr) -> Value:
        call, name = binding.value, str(binding.var.name)
        if isinstance(call, relax.Var):
            same: Value = self._value(call)
            return same
        kind = op_name(call)
        operands = [self._value(a) for a in _operands(call) if isinstance(a, relax.Var)]
        handler = self.HANDLERS.get(kind)
        integers = any(isinstance(v, Int8 | Sum | Narrowed | Whole) for v in operands)
        if kind == "astype" and dtype_of(binding.var) == "int8":
            return self._to_int8(binding)
        if integers and kind in _MOVES and all(isinstance(v, Int8) for v in operands):
            return self._move(binding, [v for v in operands if isinstance(v, Int8)])
        if integers and handler is not None:
            found = handler(self, binding)
            if found is not None:
                return found
        writer = writer_of(call)
        if writer is None or (integers and not dtype_of(binding.var).startswith("float")):
            raise _unknown(name, kind or type(call).__name__)
        sources = [
            self._real(self._value(a)) if isinstance(a, relax.Var) else self._constant(a, name)
            for a in _operands(call)
            if isinstance(a, relax.Var) or constant(a) is not None
        ]
        tensor = writer(self.graph, call, sources, name)
        return Real(tensor=tensor, shape=static_shape(binding.var), before=self._before(call))

    def _value(self, var: Expr) -> Any:
        return self.env[var]

    def _constant(self, expr: Expr, name: str) -> str:
        value = constant(expr)
        assert value is not None
        if value.size == 1:
            return self.graph.number(value, value.dtype, f"{name}.number")
        return self.graph.tensor(value, f"{name}.constant")

    def _before(self, call: Expr) -> tuple[str, Real, tuple[float, ...]] | None:
        """Remember an Add of a number and a Clip: quantizing a float tensor ends with them."""
        source = self.env.get(call.args[0]) if isinstance(call.args[0], relax.Var) else None
        if not isinstance(source, Real):
            return None
        if op_name(call) == "clip":
            limits = clip_limits(call)
            return "clip", source, limits
        if op_name(call) == "add" and (number := constant(call.args[1])) is not None:
            return ("add", source, (float(number),)) if number.size == 1 else None
        return None

    def _real(self, value: Any) -> str:
        """Return the float tensor of a value."""
        if isinstance(value, Real):
            return value.tensor
        if isinstance(value, Whole):
            total = self.integers.settled(value.sum)
            return self.integers.scaled(total, np.ones_like(total.ratio), "one").tensor
        raise _unknown(getattr(value, "name", "result"), "an integer result")

    def _scale(self, name: str) -> float:
        params = self._plan.tensors.get(name)
        return 1.0 if params is None else power_near(params.scale[0])

    def _zero(self, name: str) -> int:
        params = self._plan.tensors.get(name)
        return 0 if params is None else params.zero_point

    # ---- int8 ------------------------------------------------------------------------------------
    def _to_int8(self, binding: Expr) -> Int8:
        name, value = str(binding.var.name), self._value(binding.value.args[0])
        tensor = name.removesuffix(".q")
        zero = self._zero(name) or self._zero(tensor)
        if isinstance(value, Sum):
            value = Narrowed(sum=value, shift=np.zeros_like(value.ratio))
        if isinstance(value, Narrowed):
            return self.integers.narrow(value, self._scale(tensor), zero, name)
        if not isinstance(value, Real):
            raise _unknown(name, f"astype from {dtype_of(binding.value.args[0])} to int8")
        real, shape, limits = value, value.shape, (-np.inf, np.inf)
        if real.before is not None and real.before[0] == "clip":
            limits = real.before[2][0], real.before[2][1]
            real = real.before[1]
        if zero and real.before is not None and real.before[:1] == ("add",):
            if real.before[2] == (float(zero),):
                real = real.before[1]
            else:
                zero = 0
        else:
            zero = 0
        source = real.tensor
        if limits[0] > -128 or limits[1] < 127:
            bounds = [self.graph.number(n - zero, np.float32) for n in limits]
            source = self.graph.node("Clip", [source, *bounds], f"{name}.clip")
        return self.integers.quantized(source, 1.0, zero, shape, name)

    def _move(self, binding: Expr, values: list[Int8]) -> Int8:
        """Write an operator that moves integers, between a pair of its own."""
        call, name = binding.value, str(binding.var.name)
        first = values[0]
        scale, zero = first.scale, first.zero
        if op_name(call) == "nn.pad" and _pads_pixels(call):
            return self._padded(binding, first)
        if first.padding != (0, 0, 0, 0):
            raise _unknown(name, f"{op_name(call)} of a padded tensor")
        writer = writer_of(call)
        if writer is None:
            raise _unknown(name, op_name(call))
        sources = [self.integers.real_of(v, scale=scale, zero=zero) for v in values]
        if op_name(call) == "nn.pad":  # of real numbers, with 0.0
            self._check_fill(binding, first)
            widths, mode = list(ints(call.attrs.pad_width)), str(call.attrs.pad_mode)
            call = relax.op.nn.pad(call.args[0], widths, pad_mode=mode)
        real = writer(self.graph, call, sources, f"{name}.moved")
        return self.integers.quantized(real, scale, zero, static_shape(binding.var), name)

    def _check_fill(self, binding: Expr, value: Int8) -> None:
        """Check that a Pad adds nothing but what stands for 0.0."""
        call = binding.value
        number = call.args[1] if len(call.args) > 1 else getattr(call.attrs, "pad_value", 0)
        given = constant(number)
        fill = float(getattr(number, "value", number)) if given is None else float(given)
        if str(call.attrs.pad_mode) == "constant" and fill != value.zero:
            name = str(binding.var.name)
            raise _unknown(name, "nn.pad with another number than the zero point")

    def _padded(self, binding: Expr, value: Int8) -> Int8:
        """Leave padding by the zero point to the convolution that reads it."""
        call = binding.value
        widths = ints(call.attrs.pad_width)
        self._check_fill(binding, value)
        top, bottom, left, right = widths[4:]
        own = value.padding
        sides = own[0] + top, own[1] + left, own[2] + bottom, own[3] + right
        return replace(value, padding=sides, shape=static_shape(binding.var))

    # ---- products --------------------------------------------------------------------------------
    def _conv(self, binding: Expr) -> Value | None:
        call = binding.value
        data, weight = self._pair(call)
        if data is None or weight is None:
            return None
        attrs, padding = call.attrs, ints(call.attrs.padding)
        sides = [a + b for a, b in zip(padding, data.padding, strict=True)]
        if any(padding) and data.zero:
            raise _unknown(str(binding.var.name), "nn.conv2d that pads with 0 for another number")
        layouts = str(attrs.data_layout), str(attrs.kernel_layout)
        if layouts != ("NCHW", "OIHW"):
            raise _unknown(str(binding.var.name), f"nn.conv2d of {' and '.join(layouts)}")
        return self._product(
            "Conv", binding, replace(data, padding=(0, 0, 0, 0)), weight, 0,
            pads=sides,
            strides=list(ints(attrs.strides)),
            dilations=list(ints(attrs.dilation)),
            group=int(attrs.groups),
        )  # fmt: skip

    def _dense(self, binding: Expr) -> Value | None:
        data, weight = self._pair(binding.value)
        if data is None or weight is None or weight.ndim != 2 or len(data.shape) != 2:
            return self._interpolated(binding)
        return self._product("Gemm", binding, data, weight, 1)

    def _interpolated(self, binding: Expr) -> Value | None:
        """Write sums of neighbouring rows or columns: a product with a matrix of factors."""
        left, right = binding.value.args
        matrix, name = constant(left), str(binding.var.name)
        rows = matrix is not None
        data, matrix = (right, matrix) if rows else (left, constant(right))
        value = self._value(data) if isinstance(data, relax.Var) else None
        total = None if isinstance(value, Int8) else self._sum_of(value, name)
        if total is None or matrix is None or matrix.ndim != 2 or len(total.shape) != 4:
            return None
        counts = {*matrix.sum(axis=1 if rows else 0).tolist()}
        if len(counts) != 1 or matrix.dtype != np.int32:
            return None
        (count,) = counts
        factors = self.graph.tensor(matrix.astype(np.float32), f"{name}.factors")
        inputs = [factors, total.tensor] if rows else [total.tensor, factors]
        return replace(
            total, tensor=self.graph.node("MatMul", inputs, name), offset=total.offset * count,
            bound=total.bound * count, shape=static_shape(binding.var), name=name,
        )  # fmt: skip

    def _pair(self, call: Expr) -> tuple[Int8 | None, NDArray[np.int8] | None]:
        data = self._value(call.args[0]) if isinstance(call.args[0], relax.Var) else None
        weight = constant(call.args[1])
        known = isinstance(data, Int8) and weight is not None and weight.dtype == np.int8
        return (data, weight) if known else (None, None)

    def _product(
        self, kind: str, binding: Expr, data: Int8, weight: NDArray[np.int8], axis: int, **more: Any
    ) -> Sum:
        name = str(binding.var.name)
        params = self._plan.weights.get(name)
        usual = _USUAL_SCALE if params is None else power_near(max(params.scale))
        shape = static_shape(binding.var)
        return self.integers.product(kind, data, weight, axis, shape, name, usual, **more)

    # ---- sums ------------------------------------------------------------------------------------
    def _sum_of(self, value: Any, name: str) -> Sum | None:
        if isinstance(value, Narrowed):
            return self.integers.whole(value, name)
        if isinstance(value, Int8):
            return self.integers.wide(value)
        if isinstance(value, Whole):
            return value.sum
        return value if isinstance(value, Sum) else None

    def _astype(self, binding: Expr) -> Value | None:
        total = self._sum_of(self._value(binding.value.args[0]), str(binding.var.name))
        if total is None:
            return None
        kind = dtype_of(binding.var)
        return total if kind == "int32" else Whole(sum=total) if kind == "float32" else None

    def _vector(self, expr: Expr, like: Sum) -> Vector | None:
        """Return a constant of one number a channel, or of one for all, as a vector."""
        value = constant(expr)
        if value is None:
            return None
        channels = len(like.ratio)
        shape = [*[1] * (len(like.shape) - value.ndim), *value.shape]
        if value.size == 1:
            return np.full(channels, float(value.reshape(-1)[0]))
        if shape[1] == value.size == channels:
            return value.reshape(-1).astype(np.float64)
        return None

    def _two(self, binding: Expr) -> tuple[Sum, Sum | Vector] | None:
        """Return the operands of a call of two: a sum first, another or a constant second."""
        left, right = binding.value.args
        if constant(left) is not None and op_name(binding.value) != "subtract":
            left, right = right, left
        if not isinstance(left, relax.Var):
            return None
        name = str(binding.var.name)
        first = self._sum_of(self._value(left), name)
        if first is None:
            return None
        if not isinstance(right, relax.Var):
            vector = self._vector(right, first)
            return None if vector is None else (first, vector)
        second = self._sum_of(self._value(right), name)
        return None if second is None else (first, second)

    def _number(self, binding: Expr) -> tuple[Sum, Vector] | None:
        """Return the operands of a call of a sum and a constant."""
        found = self._two(binding)
        return None if found is None or isinstance(found[1], Sum) else (found[0], found[1])

    def _add(self, binding: Expr) -> Value | None:
        if (found := self._two(binding)) is None:
            return None
        first, second = found
        real = isinstance(self._value(binding.value.args[0]), Whole)
        if isinstance(second, Sum):
            shape = static_shape(binding.var)
            return self.integers.added(first, second, str(binding.var.name), shape)
        if real and (second != np.rint(second)).any():
            return None
        result = replace(first, offset=first.offset - second)
        return Whole(sum=result) if real else result

    def _subtract(self, binding: Expr) -> Value | None:
        if (found := self._number(binding)) is None:
            return None
        first, second = found
        real = isinstance(self._value(binding.value.args[0]), Whole)
        if real and (second != np.rint(second)).any():
            return None
        result = replace(first, offset=first.offset + second)
        return Whole(sum=result) if real else result

    def _multiply(self, binding: Expr) -> Value | None:
        if (found := self._two(binding)) is None:
            return None
        first, second = found
        if isinstance(second, Sum):
            made = static_shape(binding.var)
            return self.integers.multiplied(first, second, str(binding.var.name), made)
        if dtype_of(binding.var) == "int32":
            return first.times(second) if second.all() else None
        # Floats: what the power of two that stands for the scale has left out.
        total, name = self.integers.settled(first), str(binding.var.name)
        factor = (second * total.ratio).astype(np.float32)
        if (factor == 1.0).all():
            return Real(tensor=total.tensor, shape=total.shape)
        same = bool((factor == factor[0]).all())
        shape = [1, -1, *[1] * (len(total.shape) - 2)]
        values = factor[:1].reshape(()) if same else factor.reshape(shape)
        number = self.graph.number(values, np.float32, f"{name}.scale")
        tensor = self.graph.node("Mul", [total.tensor, number], name)
        return Real(tensor=tensor, shape=total.shape)

    def _left_shift(self, binding: Expr) -> Value | None:
        if (found := self._number(binding)) is None:
            return None
        return found[0].times(2.0 ** found[1])

    def _right_shift(self, binding: Expr) -> Value | None:
        if (found := self._number(binding)) is None:
            return None
        return Narrowed(sum=found[0], shift=found[1])

    def _clip(self, binding: Expr) -> Value | None:
        value = self._value(binding.value.args[0])
        low, high = (float(getattr(a, "value", a)) for a in binding.value.args[1:3])
        if isinstance(value, Narrowed) and not np.isfinite((value.low, value.high)).any():
            return replace(value, low=low, high=high)
        total = self._sum_of(value, str(binding.var.name))
        if total is None:
            return None
        return Narrowed(sum=total, shift=np.zeros_like(total.ratio), low=low, high=high)

    def _larger(self, binding: Expr) -> Value | None:
        return self._limited(binding, "Max")

    def _smaller(self, binding: Expr) -> Value | None:
        return self._limited(binding, "Min")

    def _limited(self, binding: Expr, kind: str) -> Value | None:
        if (found := self._two(binding)) is None:
            return None
        first, second = found
        name = str(binding.var.name)
        if isinstance(second, Sum):
            return self.integers.chosen(kind, first, second, name)
        return self.integers.limited(kind, first, second, name)

    def _relu(self, binding: Expr) -> Value | None:
        total = self._sum_of(self._value(binding.value.args[0]), str(binding.var.name))
        if total is None:
            return None
        zero = np.zeros_like(total.ratio)
        return self.integers.limited("Max", total, zero, str(binding.var.name))

    def _reduced(self, binding: Expr) -> Value | None:
        """Write the sum over an image."""
        call, name = binding.value, str(binding.var.name)
        total = self._sum_of(self._value(call.args[0]), name)
        if total is None or len(total.shape) != 4 or not bool(call.attrs.keepdims):
            return None
        if sorted(int(a) % 4 for a in call.attrs.axis or ()) != [2, 3]:
            return None
        count = total.shape[2] * total.shape[3]
        axes = self.graph.number([2, 3], np.int64, "axes")
        tensor = self.graph.node("ReduceSum", [total.tensor, axes], name, keepdims=1)
        return replace(
            total, tensor=tensor, offset=total.offset * count, bound=total.bound * count,
            shape=static_shape(binding.var), name=name,
        )  # fmt: skip

    def _moved_sum(self, binding: Expr) -> Value | None:
        """Write a reshape of sums that keeps their channels."""
        call, name = binding.value, str(binding.var.name)
        value = self._value(call.args[0])
        total, shape = self._sum_of(value, name), static_shape(binding.var)
        if total is None or len(shape) < 2 or shape[:2] != total.shape[:2]:
            return None
        writer = writer_of(call)
        assert writer is not None
        tensor = writer(self.graph, call, [total.tensor], name)
        result = replace(total, tensor=tensor, shape=shape, name=name)
        return Whole(sum=result) if isinstance(value, Whole) else result

    HANDLERS: ClassVar[dict[str, Callable[[_Walk, Expr], Value | None]]] = {
        "nn.conv2d": _conv,
        "matmul": _dense,
        "astype": _astype,
        "add": _add,
        "subtract": _subtract,
        "multiply": _multiply,
        "left_shift": _left_shift,
        "right_shift": _right_shift,
        "clip": _clip,
        "maximum": _larger,
        "minimum": _smaller,
        "nn.relu": _relu,
        "sum": _reduced,
        "reshape": _moved_sum,
        "squeeze": _moved_sum,
    }


def _pads_pixels(call: Expr) -> bool:
    """Whether a Pad adds rows and columns of one number, as a convolution may by itself."""
    widths = ints(call.attrs.pad_width)
    return str(call.attrs.pad_mode) == "constant" and len(widths) == 8 and not any(widths[:4])


def _operands(call: Expr) -> list[Expr]:
    """Return the tensors that a call reads, those of a tuple one by one."""
    if not isinstance(call, relax.Call):
        return []
    found: list[Expr] = []
    for arg in call.args:
        found += list(arg.fields) if isinstance(arg, relax.Tuple) else [arg]
    return found


def _unknown(name: str, got: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        name,
        "must be an operator that the export to QDQ knows",
        got=got,
        hint="export another variant, or a model without it",
    )
