"""Relay's *calibrate* and *realize*: integers for simulated quantization.

`Realize` does what calibrate and realize do in Relay: it gives each ``simulated_quantize`` a scale,
and replaces it by integers. Scales are float32, and so is the arithmetic on them: whether
log2 of a ratio "is an integer" decides between a shift and a multiplication.

Source: behaviour and sources of Apache TVM 0.9 (python/tvm/relay/quantize/_calibrate.py,
src/relay/quantize/realize.cc, src/relay/qnn/utils.cc), restated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from relay_passes.stock_relay.nodes import Array, Node, Rule, constant, unsupported
from relay_passes.stock_relay.options import Kind, StockOptions
from vta_config.isa import MAX_IMM
from vta_config.portable import MAX_SHIFT

#: What makes no value larger, and none smaller but to zero.
_KEEPS_RANGE: Final = frozenset("cast max_pool2d relu reshape transpose strided_slice".split())
#: Bits of a fixed-point multiplier: a float factor is multiplier · 2^(shift − 31).
_MULTIPLIER_BITS: Final = 31
#: Products are shifted by so many bits at most, beyond which they are 0.
_PRODUCT_BITS: Final = 62
#: int32 is shifted by so many bits at most, beyond which it is 0 (or -1 without rounding).
_LONGEST_SHIFT: Final = 31
#: Where the scales of two operands are further apart, the finer one gives up bits.
_MOST_OCTAVES: Final = 12
#: It then keeps so many below the other one's last, or what int32 holds beside 8 bits.
_KEPT_OCTAVES: Final = (10, 22)
#: Smallest scale of a constant, whose products are still float32 numbers.
_SMALLEST_SCALE: Final = 2.0**-100


@dataclass(frozen=True, slots=True, eq=False)
class _Integer:
    """Integers (or rounded floats) `node` that stand for node · scale."""

    node: Node
    scale: np.float32
    dtype: str
    arithmetic: _Arithmetic

    def realize(self) -> Node:
        """Turn them into floats again."""
        data = self.arithmetic.cast(self.node, "float32")
        return self.arithmetic.binary("multiply", data, constant(self.scale, "float32"))


@dataclass(slots=True)
class _Arithmetic:
    """Makes elementwise nodes: constants are computed, and the same node is made once."""

    storage: str
    _made: dict[tuple[Any, ...], Node] = field(default_factory=dict)

    def make(self, op: str, args: tuple[Node, ...], dtype: str, **attrs: Any) -> Node:
        """Return an operation, or its result on constants."""
        values = [arg.value for arg in args]
        if all(value is not None for value in values):
            return constant(_COMPUTE[op](*values, **attrs), dtype)
        key = (op, dtype, *map(_key, args), *((k, tuple(v)) for k, v in attrs.items()))
        if key not in self._made:
            name = next((arg.name for arg in args if arg.name), "")
            self._made[key] = Node(op=op, args=args, dtype=dtype, attrs=attrs, name=name)
        return self._made[key]

    def binary(self, op: str, left: Node, right: Node) -> Node:
        """Return a binary operation of the left operand's type."""
        return self.make(op, (left, right), left.dtype)

    def scalar(self, op: str, data: Node, number: float) -> Node:
        """Return a binary operation with a number."""
        return self.binary(op, data, constant(number, data.dtype))

    def clip(self, data: Node, low: float, high: float) -> Node:
        """Return data clipped to limits, as it is where a clip before has done that."""
        source = data
        while source.op in _KEEPS_RANGE:
            source = source.args[0]
        if source.op == "clip" and not data.dtype.startswith("float"):
            least, most = source.attrs["bounds"]
            if low <= least <= 0 <= most <= high and most <= np.iinfo(data.dtype).max:
                return data
        return self.make("clip", (data,), data.dtype, bounds=(low, high))

    def shift_right(self, data: Node, shift: int, *, rounded: bool) -> Node:
        """Return data >> shift of int32, half of the divisor added before when `rounded`.

        (x + 2^(n-1)) >> n is ((x >> k) + 2^(n-1-k)) >> (n - k): large constants cost VTA time.
        """
        shift = min(shift, _LONGEST_SHIFT)
        if rounded and (first := shift - MAX_SHIFT) > 0:
            data, shift = self.scalar("right_shift", data, first), MAX_SHIFT
        if rounded:
            data = self.scalar("add", data, 1 << (shift - 1))
        return self.scalar("right_shift", data, shift)

    def shift_left(self, data: Node, shift: int, limit: int) -> Node:
        """Return data << shift of integers that are clipped to ±limit afterwards.

        Where shifting could leave int32, what saturates anyway is clipped before.
        """
        most = limit.bit_length() + 1
        if shift > most and limit <= MAX_IMM:
            data, shift = self.clip(data, -limit - 1, limit + 1), most
        return self.scalar("left_shift", data, min(shift, _LONGEST_SHIFT))

    def cast(self, data: Node, dtype: str) -> Node:
        """Return data in another type; what was clipped to the storage type goes through it.

        (The values are the same, and the boundary between host and VTA is then an 8-bit tensor.)
        """
        if data.dtype == dtype:
            return data
        if data.dtype == "float32" and data.op == "clip" and dtype != self.storage:
            high = max(abs(bound) for bound in data.attrs["bounds"])
            if high <= np.iinfo(self.storage).max:
                data = self.cast(data, self.storage)
        return self.make("cast", (data,), dtype)

    def fixed_point(self, data: Node, factor: np.float32, rounding: str) -> Node:
        """Return data · factor as int32, by a 32-bit multiplier and a 64-bit product.

        factor ≈ multiplier · 2^(shift − 31); result = (data · 2^max(shift, 0) · multiplier + half)
        >> (31 + max(−shift, 0)).
        """
        mantissa, shift = math.frexp(float(factor))
        shift = max(_MULTIPLIER_BITS - _PRODUCT_BITS, min(shift, _LONGEST_SHIFT))
        multiplier = math.floor(mantissa * 2**_MULTIPLIER_BITS + 0.5)
        if multiplier == 2**_MULTIPLIER_BITS:
            multiplier, shift = multiplier // 2, shift + 1
        data = self.cast(data, "int64")
        if shift > 0:
            data = self.scalar("left_shift", data, shift)
        data = self.scalar("multiply", data, multiplier)
        total = _MULTIPLIER_BITS + max(-shift, 0)
        half = 1 << (total - 1)
        if rounding == "UPWARD":
            data = self.scalar("add", data, half)
        else:
            sign = self.make("not_negative", (data,), "bool")
            ends = constant(half, "int64"), constant(half - 1, "int64")
            data = self.binary("add", data, self.make("where", (sign, *ends), "int64"))
        return self.cast(self.scalar("right_shift", data, total), "int32")


def _key(node: Node) -> Any:
    """Return what tells operands apart: scalars by value, everything else by identity."""
    if node.value is not None and node.value.ndim == 0:
        return ("scalar", node.dtype, node.value.item())
    return node


def _round_half_away(values: Array) -> Array:
    """Round half away from zero, exactly."""
    whole = np.floor(np.abs(values))
    return np.asarray(np.copysign(whole + (np.abs(values) - whole >= 0.5), values))


_COMPUTE: Final[dict[str, Callable[..., Any]]] = {
    "add": np.add,
    "multiply": np.multiply,
    "left_shift": np.left_shift,
    "right_shift": np.right_shift,
    "cast": lambda values: values,
    "clip": lambda values, bounds: np.clip(values, *bounds),
    "round": _round_half_away,
    "not_negative": lambda values: values >= 0,
    "where": np.where,
}


@dataclass(slots=True)
class Realize:
    """Replace `simulated_quantize` by integer arithmetic, with the scales of global calibration."""

    options: StockOptions
    arithmetic: _Arithmetic = field(init=False)

    def __post_init__(self) -> None:
        """Make the node maker."""
        self.arithmetic = _Arithmetic(self.options.dtype_input)

    def rules(self) -> dict[str, Rule]:
        """Return the rule of each operator that has one."""
        keeping = "relu reshape strided_slice transpose".split()
        return dict.fromkeys(keeping, self._identity) | {
            "simulated_quantize": self._quantize,
            "stop_fusion": lambda node, args: args[0],
            "cast_hint": self._cast_hint,
            "conv2d": self._weighted,
            "dense": self._weighted,
            "multiply": self._multiply,
            "add": self._add,
            "clip": self._clip,
            "concatenate": self._concatenate,
            "max_pool2d": self._max_pool2d,
            "avg_pool2d": self._average,
            "global_avg_pool2d": self._average,
        }

    def _integer(self, node: Node, scale: np.float32, dtype: str) -> _Integer:
        """Return a node with its scale."""
        return _Integer(node, scale, dtype, self.arithmetic)

    def _scale(self, node: Node) -> np.float32:
        """Calibrate one `simulated_quantize`: its float32 scale."""
        kind: Kind = node.attrs["kind"]
        largest = self.options.global_scale
        if kind == "weight":
            value = node.args[0].value
            assert value is not None
            largest = float(np.abs(value).max(initial=0))
            smallest = _SMALLEST_SCALE * (1 << (self.options.bits(kind) - 1))
            if largest == 0:  # Relay's `max` divides by zero here; zeros are zeros on any scale
                largest = 1.0
            elif self.options.weight_scale == "power2":
                largest = math.ldexp(1.0, math.ceil(math.log(largest, 2)))
            largest = max(largest, smallest)
        scale: np.float32 = np.float32(largest / (1 << (self.options.bits(kind) - 1)))
        return scale

    def _quantize(self, node: Node, args: list[Any]) -> _Integer:
        """Change the scale of integers, or round floats (half away from zero); then clip."""
        make = self.arithmetic
        (data,) = args
        scale = self._scale(node)
        limit = np.float32(2 ** (self.options.bits(node.attrs["kind"]) - 1) - 1).item()
        if not isinstance(data, _Integer):
            scaled = make.scalar("multiply", data, np.float32(1) / scale)
            whole = make.make("round", (scaled,), "float32")
            return self._integer(make.clip(whole, -limit, limit), scale, "float32")
        value = data.node
        if data.scale != scale:
            shift = _log2(np.float32(scale / data.scale))
            if not shift.is_integer():
                factor = np.float32(data.scale / scale)
                value = make.fixed_point(value, factor, self.options.rounding)
            else:
                if value.dtype != self.options.dtype_activation:
                    raise unsupported(
                        node, f"must be {self.options.dtype_activation} to be shifted"
                    )
                if shift > 0:
                    rounded = self.options.round_for_shift
                    value = make.shift_right(value, int(shift), rounded=rounded)
                else:
                    value = make.shift_left(value, -int(shift), int(limit))
        clipped = make.clip(value, -limit, limit)
        return self._integer(make.cast(clipped, data.dtype), scale, data.dtype)

    def _identity(self, node: Node, args: list[Any]) -> _Integer | None:
        """Do the same on integers."""
        (data,) = args
        if not isinstance(data, _Integer):
            return None
        result = node.with_args((data.node,), dtype=data.node.dtype)
        return self._integer(result, data.scale, data.dtype)

    def _cast_hint(self, node: Node, args: list[Any]) -> _Integer | None:
        """Store in the input type; values beyond it wrap."""
        (data,) = args
        if not isinstance(data, _Integer):
            return None
        dtype = self.options.dtype_input
        return self._integer(self.arithmetic.cast(data.node, dtype), data.scale, dtype)

    def _weighted(self, node: Node, args: list[Any]) -> _Integer | None:
        """Convolve integers; the scales multiply."""
        data, weight = args
        if not isinstance(data, _Integer) or not isinstance(weight, _Integer):
            return None
        dtype = self.options.dtype_activation
        operands = (
            self.arithmetic.cast(data.node, self.options.dtype_input),
            self.arithmetic.cast(weight.node, self.options.dtype_weight),
        )
        return self._integer(
            node.with_args(operands, dtype=dtype), data.scale * weight.scale, dtype
        )

    def _multiply(self, node: Node, args: list[Any]) -> _Integer | None:
        """Multiply integers; the scales multiply."""
        if not all(isinstance(value, _Integer) for value in args):
            return None
        dtype = self.options.dtype_activation
        operands = [self.arithmetic.cast(value.node, dtype) for value in args]
        return self._integer(
            node.with_args(operands, dtype=dtype), args[0].scale * args[1].scale, dtype
        )

    def _add(self, node: Node, args: list[Any]) -> _Integer | None:
        """Add integers on the finer of the two scales."""
        if not any(isinstance(value, _Integer) for value in args):
            return None
        operands, scale = self._unified(node, args, self.options.dtype_activation)
        dtype = self.options.dtype_activation
        return self._integer(node.with_args(operands, dtype=dtype), scale, dtype)

    def _concatenate(self, node: Node, args: list[Any]) -> _Integer | None:
        """Concatenate integers on one scale: the finer of two, a fixed one for more."""
        if not any(isinstance(value, _Integer) for value in args):
            return None
        dtype = self.options.dtype_activation
        if len(args) == 2 and args[1].dtype == self.options.dtype_input:
            dtype = self.options.dtype_input
        operands, scale = self._unified(node, args, dtype)
        return self._integer(node.with_args(operands, dtype=dtype), scale, dtype)

    def _unified(
        self, node: Node, args: list[_Integer], dtype: str
    ) -> tuple[list[Node], np.float32]:
        """Bring operands to one type and one scale."""
        if not all(isinstance(value, _Integer) for value in args):
            raise unsupported(node, "must have all of its operands quantized, or none")
        if len(args) == 2:
            scale = self._common_scale(*(value.scale for value in args))
        else:
            steps = 2 ** (self.options.nbit_activation - 1)
            scale = np.float32(self.options.global_scale / steps)
        operands = []
        for reference, value in zip(node.args, args, strict=True):
            data = value.node
            is_input = reference.attrs.get("kind") == "input"
            if value.dtype == dtype and is_input:  # a shared operand: stored, then read again
                data = self.arithmetic.cast(data, self.options.dtype_input)
            data = self.arithmetic.cast(data, dtype)
            if len(args) == 2 and value.scale < scale:
                octaves = round(_log2(np.float32(scale / value.scale)))
                operands.append(self.arithmetic.shift_right(data, octaves, rounded=False))
            else:
                operands.append(self._rescaled(node, data, value.scale, scale))
        return operands, scale

    def _common_scale(self, *scales: np.float32) -> np.float32:
        """Return the finer of two scales, or a coarser one where int32 cannot hold that.

        Relay takes the finer one always, and its integers overflow. Bits below the output's
        rounding constant change nothing: they go first.
        """
        scale, coarse = min(scales), max(scales)
        octaves = math.ceil(_log2(np.float32(coarse / scale)))
        if octaves <= _MOST_OCTAVES:
            return scale
        output = np.float32(self.options.global_scale / (1 << (self.options.nbit_input - 1)))
        free = max(0, math.floor(_log2(np.float32(output / scale))) - 1)
        kept, most = _KEPT_OCTAVES
        dropped = max(min(octaves - kept, free), octaves - most, 0)
        common: np.float32 = scale * np.float32(2.0**dropped)
        return common

    def _rescaled(self, node: Node, data: Node, old: np.float32, new: np.float32) -> Node:
        """Return data · old / new: a shift, an integer factor, or a fixed-point product."""
        if old == new:
            return data
        factor = np.float32(old / new)
        shift = _log2(factor)
        if shift <= 0:
            raise unsupported(node, f"must have operands with scales of at least {new:g}")
        if shift.is_integer():
            return self.arithmetic.scalar("left_shift", data, int(shift))
        if float(factor).is_integer():
            return self.arithmetic.scalar("multiply", data, int(factor))
        product = self.arithmetic.fixed_point(data, factor, self.options.rounding)
        return self.arithmetic.cast(product, data.dtype)

    def _clip(self, node: Node, args: list[Any]) -> _Integer | None:
        """Clip integers to the limits on their scale, cut to integers within the type."""
        (data,) = args
        if not isinstance(data, _Integer):
            return None
        bounds = [bound / float(data.scale) for bound in node.attrs["bounds"]]
        if data.node.dtype != "float32":
            info = np.iinfo(data.node.dtype)
            bounds = [math.trunc(min(max(bound, info.min), info.max)) for bound in bounds]
        clipped = self.arithmetic.clip(data.node, *bounds)
        return self._integer(clipped, data.scale, data.dtype)

    def _max_pool2d(self, node: Node, args: list[Any]) -> _Integer | None:
        """Pool in the input type."""
        (data,) = args
        if not isinstance(data, _Integer):
            return None
        return self._cast_and_forward(node, data, self.options.dtype_input)

    def _average(self, node: Node, args: list[Any]) -> _Integer | None:
        """Sum in the activation type; the division truncates."""
        (data,) = args
        if not isinstance(data, _Integer):
            return None
        return self._cast_and_forward(node, data, self.options.dtype_activation)

    def _cast_and_forward(self, node: Node, data: _Integer, dtype: str) -> _Integer:
        """Do the operation on integers of a type."""
        operand = self.arithmetic.cast(data.node, dtype)
        return self._integer(node.with_args((operand,), dtype=dtype), data.scale, dtype)


def _log2(factor: np.float32) -> float:
    """Return log2 of a float32 as a float32: what Relay compares with an integer."""
    return float(np.float32(math.log2(float(factor))))
