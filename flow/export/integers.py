"""Integer operators as ONNX's QuantizeLinear, DequantizeLinear and real operators between them.

A sum becomes int8 by floor(sum / 2^n) here and by rounding to even in ONNX. The sum has the
rounding constant 2^(n-1) in it; without, but half a unit more, no value is half-way between two
integers, and both round alike:

    floor(v / 2^n) = nearest((v - 2^(n-1) + 1/2) / 2^n),    v an integer, n >= 1.

That half unit is a node of its own, an Add of one number, so that a bias remains int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import frexp, log2
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.export.graph import GraphWriter
from flow.export.values import Hint, Int8, Narrowed, Sum, Vector
from vta_config.errors import UnsupportedModelError

#: Integers below this are exact in float32.
EXACT: Final = float(1 << 24)
#: Fraction bits that a number has before it is rounded to 8 bits, so that it fits float32.
_MOST_SHIFT: Final = 15
_LOW, _HIGH = -128, 127


def power_near(scale: float) -> float:
    """Return the power of two next to a scale."""
    return float(2.0 ** round(log2(scale)))


class IntegerWriter:
    """Writes integer operators.

    Parameters
    ----------
    graph : GraphWriter
    hints : dict[str, Hint]
        By product, as `found` had them after a walk before; empty for the first.
    """

    def __init__(self, graph: GraphWriter, hints: Mapping[str, Hint]) -> None:
        """Start without any."""
        self.graph = graph
        self.hints = hints
        self.found: dict[str, Hint] = {}
        self._reals: dict[tuple[str, float, int], str] = {}

    # ---- int8 ------------------------------------------------------------------------------------
    def real_of(self, value: Int8, *, scale: float | None = None, zero: int | None = None) -> str:
        """Return the real tensor of an int8 one, scale * (q - zero)."""
        scale = value.scale if scale is None else scale
        zero = value.zero if zero is None else zero
        key = value.tensor, scale, zero
        if key not in self._reals:
            numbers = self._numbers(scale, zero)
            self._reals[key] = self.graph.node(
                "DequantizeLinear", [value.tensor, *numbers], f"{value.name}.real"
            )
        return self._reals[key]

    def quantized(
        self, real: str, scale: float, zero: int, shape: tuple[int, ...], name: str
    ) -> Int8:
        """Return the int8 tensor of a real one that is scale times integers already."""
        numbers = self._numbers(scale, zero)
        tensor = self.graph.node("QuantizeLinear", [real, *numbers], name)
        return Int8(tensor=tensor, scale=scale, zero=zero, shape=shape, name=name)

    def _numbers(self, scale: float, zero: int) -> tuple[str, str]:
        return (
            self.graph.number(scale, np.float32),
            self.graph.number(zero, np.int8),
        )

    def wide(self, value: Int8) -> Sum:
        """Return an int8 tensor as a sum."""
        channels = value.shape[1]
        reach = max(_HIGH - value.zero, value.zero - _LOW)
        return Sum(
            tensor=self.real_of(value),
            ratio=np.full(channels, 1.0 / value.scale),
            offset=np.full(channels, -float(value.zero)),
            bound=float(reach),
            shape=value.shape,
            name=value.name,
            factor=np.ones(channels),
        )

    # ---- products --------------------------------------------------------------------------------
    def product(
        self,
        kind: str,
        data: Int8,
        weight: NDArray[np.int8],
        axis: int,
        shape: tuple[int, ...],
        name: str,
        usual: float,
        **attributes: Any,
    ) -> Sum:
        """Write a convolution or dense layer of integers.

        Parameters
        ----------
        kind : {"Conv", "Gemm"}
        data : Int8
        weight : int8[...]
            As ONNX lays it out.
        axis : int
            Of its output channels.
        shape : tuple of int
            Of the result.
        name : str
        usual : float
            Scale of the weight where nothing else is known.
        attributes
            Of the node.
        """
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
        hint = self.hints.get(name)
        unit = np.full(len(rows), usual * data.scale) if hint is None else hint.unit
        bias = np.zeros(len(rows)) if hint is None else hint.bias
        reach = _HIGH - data.zero, data.zero - _LOW
        up, down = np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)
        sums = [up * reach[0] + down * reach[1], up * reach[1] + down * reach[0]]
        bound = np.maximum(*sums) + np.abs(bias)
        planes = [(weight, 1)]
        if bound.max(initial=0.0) >= EXACT:
            # w = 16 * high + low: sums of low are small, those of high multiples of 16.
            low = (weight.astype(np.int16) + 8) % 16 - 8
            high = (weight - low) // 16
            planes = [(high.astype(np.int8), 16), (low.astype(np.int8), 1)]
        source = self.real_of(data)
        scales = unit / data.scale
        label = name.removesuffix(".acc")
        bias_name = self._bias(kind, bias, unit, label)
        parts = []
        for number, (plane, unit_of_plane) in enumerate(planes):
            role = "weight" if len(planes) == 1 else ("weight.high", "weight.low")[number]
            own = self._weight(plane, scales * unit_of_plane, axis, f"{label}.{role}")
            inputs = [source, own, *([bias_name] if number == 0 and bias_name else [])]
            parts.append(self.graph.node(kind, inputs, label, **attributes))
        real = parts[0]
        if len(parts) > 1:
            real = self.graph.node("Add", parts, f"{label}.planes")
        return Sum(
            tensor=real,
            ratio=1.0 / unit,
            offset=-data.zero * rows.sum(axis=1) + bias,
            bound=float(bound.max(initial=0.0)),
            shape=shape,
            name=name,
            sources=(name,),
            factor=np.ones(len(rows)),
        )

    def _weight(self, weight: NDArray[np.int8], scales: Vector, axis: int, name: str) -> str:
        same = bool((scales == scales[0]).all())
        numbers = scales[0] if same else scales
        inputs = [
            self.graph.tensor(weight, f"{name}.int8"),
            self.graph.number(numbers, np.float32, f"{name}.scale"),
            self.graph.number(np.zeros(np.shape(numbers)), np.int8, f"{name}.zero_point"),
        ]
        more = {} if same else {"axis": axis}
        return self.graph.node("DequantizeLinear", inputs, name, **more)

    def _bias(self, kind: str, bias: Vector, unit: Vector, name: str) -> str:
        """Return the real bias; "" for none. Gemm's is float, so that runtimes keep it float."""
        if not bias.any():
            return ""
        if np.abs(bias).max() >= EXACT:
            raise _beyond(name, "a bias", np.abs(bias).max())
        if kind == "Gemm":
            return self.graph.tensor((bias * unit).astype(np.float32), f"{name}.bias")
        same = bool((unit == unit[0]).all())
        numbers = unit[0] if same else unit
        inputs = [
            self.graph.tensor(bias.astype(np.int32), f"{name}.bias.int32"),
            self.graph.number(numbers, np.float32, f"{name}.bias.scale"),
        ]
        return self.graph.node(
            "DequantizeLinear", inputs, f"{name}.bias", **({} if same else {"axis": 0})
        )

    # ---- sums ------------------------------------------------------------------------------------
    def scaled(self, value: Sum, ratio: Vector, role: str) -> Sum:
        """Return the same integers of real numbers that are 1 / ratio each."""
        factor = value.ratio / ratio
        if (factor == 1.0).all():
            return value
        number = self._along(factor, value, f"{value.name}.{role}")
        tensor = self.graph.node("Mul", [value.tensor, number], f"{value.name}.scaled")
        return replace(value, tensor=tensor, ratio=ratio)

    def plain(self, value: Sum) -> Sum:
        """Return the same integers of real numbers that are powers of two each, and not negative.

        Then any integer has a real number that float32 holds, and larger ones are larger.
        """
        ratio = np.asarray([abs(r) / _odd(abs(r)) for r in value.ratio])
        return self.scaled(value, ratio, "factor")

    def settled(self, value: Sum) -> Sum:
        """Return the same integers without an offset, which becomes an Add."""
        value = self.plain(value)
        if not value.offset.any():
            return value
        bound = value.bound + float(np.abs(value.offset).max())
        self._check(value.name, bound)
        number = self._along(-value.offset / value.ratio, value, f"{value.name}.offset")
        tensor = self.graph.node("Add", [value.tensor, number], f"{value.name}.biased")
        return replace(value, tensor=tensor, offset=np.zeros_like(value.offset), bound=bound)

    def added(self, left: Sum, right: Sum, name: str, shape: tuple[int, ...]) -> Sum:
        """Write left + right."""
        if right.sources and not left.sources:
            left, right = right, left
        right = self.scaled(right, left.ratio, "factor")
        self._check(name, left.bound + right.bound)
        return Sum(
            tensor=self.graph.node("Add", [left.tensor, right.tensor], name),
            ratio=left.ratio,
            offset=left.offset + right.offset,
            bound=left.bound + right.bound,
            shape=shape,
            name=name,
            sources=(*left.sources, *right.sources),
            factor=left.factor,
        )

    def multiplied(self, left: Sum, right: Sum, name: str, shape: tuple[int, ...]) -> Sum:
        """Write left · right."""
        left, right = self.settled(left), self.settled(right)
        self._check(name, left.bound * right.bound)
        return Sum(
            tensor=self.graph.node("Mul", [left.tensor, right.tensor], name),
            ratio=left.ratio * right.ratio,
            offset=left.offset,
            bound=left.bound * right.bound,
            shape=shape,
            name=name,
            factor=left.factor,
        )

    def chosen(self, kind: str, left: Sum, right: Sum, name: str) -> Sum:
        """Write the larger (Max) or smaller (Min) of two sums."""
        left, right = self.settled(left), self.settled(right)
        right = self.scaled(right, left.ratio, "factor")
        tensor = self.graph.node(kind, [left.tensor, right.tensor], name)
        bound = max(left.bound, right.bound)
        return replace(left, tensor=tensor, bound=bound, name=name, sources=())

    def limited(self, kind: str, value: Sum, limit: Vector, name: str) -> Sum:
        """Write the larger (Max) or smaller (Min) of a sum and integers."""
        if (limit >= value.bound + np.abs(value.offset).max()).all() and kind == "Min":
            return value
        value = self.settled(value)
        if kind == "Max" and not limit.any():
            tensor = self.graph.node("Relu", [value.tensor], name)
        else:
            number = self._along(limit / value.ratio, value, f"{name}.limit")
            tensor = self.graph.node(kind, [value.tensor, number], name)
        bound = max(value.bound, float(np.abs(limit).max())) if kind == "Max" else value.bound
        return replace(value, tensor=tensor, name=name, bound=bound)

    def whole(self, value: Narrowed, name: str) -> Sum:
        """Write a shift or clip whose result stays int32: floor(sum / 2^n), in units of 1."""
        total = value.sum
        if value.shift.any():
            total = self.settled(total)
            total = self.scaled(total, 2.0**value.shift, "shift")
            tensor = self.graph.node("Floor", [total.tensor], name)
            bound = total.bound / float(2.0 ** value.shift.min()) + 1
            ones = np.ones_like(total.ratio)
            total = replace(total, tensor=tensor, ratio=ones, bound=bound, name=name, sources=())
        for kind, limit in (("Max", value.low), ("Min", value.high)):
            if np.isfinite(limit):
                total = self.limited(kind, total, np.full(len(total.ratio), limit), name)
        return total

    # ---- to int8 ---------------------------------------------------------------------------------
    def narrow(self, value: Narrowed, scale: float, zero: int, name: str) -> Int8:
        """Write a sum that becomes int8.

        Parameters
        ----------
        value : Narrowed
        scale : float
            Of the result, a power of two.
        zero : int
            Its zero point.
        name : str
        """
        total, shift = value.sum, value.shift
        half = np.where(shift > 0, 2.0 ** (shift - 1), 0.0)
        left = -total.offset - half - zero * 2.0**shift
        self._find(total, scale / 2.0**shift, left)
        if shift.max() > _MOST_SHIFT or np.abs(left).max() >= EXACT / 4:
            units = total.bound / float(np.abs(total.factor).min())
            if units >= EXACT:
                raise _beyond(name, "a sum", units)
            real = self._wide_floor(total, shift, scale, zero, name)
        else:
            total = self.scaled(total, 2.0**shift / scale, "rescale")
            real = self._rounded(total, left, shift, scale, name)
        real = self._clipped(real, value, scale, zero, name)
        return self.quantized(real, scale, zero, total.shape, name)

    def _find(self, total: Sum, unit: Vector, left: Vector) -> None:
        """Note what would leave no factor and no bias, for the next walk."""
        if (total.factor <= 0).any():
            return
        for place, source in enumerate(total.sources):
            odd = np.asarray([_odd(f) for f in total.factor])
            whole = np.floor(left / total.factor + 0.5) if place == 0 else np.zeros_like(left)
            before = self.hints.get(source)
            if before is not None:
                whole = whole + before.bias
            self.found[source] = Hint(unit=unit * total.factor / odd, bias=whole)

    def _rounded(self, total: Sum, left: Vector, shift: Vector, scale: float, name: str) -> str:
        """Add what is left of the bias, and half a unit so that nothing is half-way."""
        unit = scale / 2.0**shift
        half = np.where(shift > 0, unit / 2, 0.0)
        live = half[half > 0]
        if not left.any():
            number = float(live.min()) if len(live) else 0.0
            if not number:
                return total.tensor
            tensor = self.graph.number(number, np.float32)
        else:
            tensor = self._along(left * unit + half, total, f"{name}.offset")
        return self.graph.node("Add", [total.tensor, tensor], f"{name}.half_up")

    def _wide_floor(self, total: Sum, shift: Vector, scale: float, zero: int, name: str) -> str:
        """Round in float64, where float32 has too few bits: scale * (floor(sum / 2^n) - zero)."""
        wide = self.graph.node("Cast", [total.tensor], f"{name}.wide", to=11)
        ratio, offset = (
            self._along(number / 2.0**shift, total, f"{name}.{role}", np.float64)
            for number, role in ((total.ratio, "ratio"), (-total.offset, "distance"))
        )
        product = self.graph.node("Mul", [wide, ratio], f"{name}.wide.scaled")
        whole = self.graph.node(
            "Floor", [self.graph.node("Add", [product, offset], f"{name}.wide.biased")],
            f"{name}.floor",
        )  # fmt: skip
        inside = [self.graph.number(float(n), np.float64) for n in (-512, 512)]
        near = self.graph.node(
            "Min", [self.graph.node("Max", [whole, inside[0]], f"{name}.low"), inside[1]],
            f"{name}.high",
        )  # fmt: skip
        narrow = self.graph.node("Cast", [near], f"{name}.narrow", to=1)
        point = self.graph.number(-float(zero), np.float32)
        real = self.graph.node("Add", [narrow, point], f"{name}.from_zero")
        factor = self.graph.number(scale, np.float32)
        return self.graph.node("Mul", [real, factor], f"{name}.rounded")

    def _clipped(self, real: str, value: Narrowed, scale: float, zero: int, name: str) -> str:
        """Clip to what QuantizeLinear does not: it has all 256 integers."""
        low, high = value.low, value.high
        if low == zero and high >= _HIGH:
            return self.graph.node("Relu", [real], f"{name}.relu")
        if low <= _LOW and high >= _HIGH:
            return real
        limits = [
            self.graph.number(scale * (n - zero), np.float32)
            for n in (max(low, _LOW), min(high, _HIGH))
        ]
        return self.graph.node("Clip", [real, *limits], f"{name}.clip")

    # ---- numbers ---------------------------------------------------------------------------------
    def _along(self, values: Vector, like: Sum, name: str, dtype: Any = np.float32) -> str:
        """Return a constant of one number a channel, or of one for all."""
        exact = values.astype(dtype)
        if (exact.astype(np.float64) != values).any():
            raise _beyond(like.name, "a factor or bias", np.abs(values).max())
        if (values == values[0]).all():
            return self.graph.number(values[0], dtype, name)
        shape = [1] * len(like.shape)
        shape[1] = -1
        return self.graph.tensor(exact.reshape(shape), name)

    def _check(self, name: str, bound: float) -> None:
        if bound >= 2.0**53:
            raise _beyond(name, "a sum", bound)


def _odd(number: float) -> float:
    """Return a number without its factors of two, in [1, 2): 1.0 where nothing is left."""
    return frexp(number)[0] * 2


def _beyond(name: str, what: str, got: float) -> UnsupportedModelError:
    return UnsupportedModelError(
        name,
        f"must have {what} that float32 holds exactly",
        got=f"{got:g}",
        hint="export another variant",
    )
