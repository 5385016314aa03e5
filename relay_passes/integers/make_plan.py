"""Make the quantization plan: from real scales to integers, once, in float64.

`Quantize` and `FuseConvRelu` themselves say where integers go: they run on the scales alone first.
The graph that they leave is then followed by what matters of its tensors: scales, and bounds. Where
an accumulator becomes int8, the ratio of its scale to the tensor's must be a power of two (or next
to b / 2^c, where the machine multiplies); where a residual is added, its scale must be an integer
times the accumulator's, or both must be powers of two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes import numerics
from relay_passes.graph import (
    Expr,
    Module,
    constant,
    op_name,
    read_graph,
    static_shape,
)
from relay_passes.integers.elementwise import (
    FAR_SCALES,
    MANY_LINES,
    PAIRS,
    function_steps,
    pair_steps,
    product_steps,
)
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.moves import converted_name, small_ratio
from relay_passes.integers.plan import LayerPlan, QuantPlan, SumPlan, expanded, grouped
from relay_passes.integers.planned_values import PlannedInt8, PlannedPair, PlannedSum
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.steps import StepsPlan
from relay_passes.names import layer_names
from relay_passes.operators.averages import NO_AVERAGE, averaged, is_average
from relay_passes.operators.calls import (
    ACTIVATIONS,
    AVERAGES,
    MOVES,
    WEIGHT_AXIS,
    ceiling_of,
    ends_accumulator,
    integer_form,
    is_move,
    moved,
    split_bias,
    weight_rows,
)
from relay_passes.operators.functions import Function, functions_of
from relay_passes.operators.scale_channels import factors_of
from relay_passes.params import MAX_INT32_SHIFT, QuantParams, Requant
from relay_passes.rounding.nearest import NearestRounder, WeightRounder
from relay_passes.scales.accumulators import fused_ends, paired_layers, unfused_ends
from relay_passes.scales.scales import Scales
from vta_config.errors import CalibrationError, CapacityError

#: Accumulators whose scales are further apart are not added as integers.
_MOST_OCTAVES: Final = 12
#: How far a dyadic ratio may be from the one that is meant.
_NEXT_TO: Final = 2.0**-7
#: Why the host adds two tensors, and why it quantizes one.
NO_COMMON_SCALE: Final = "the operands have no common integer scale"
NO_SHIFT: Final = "its scale is not a power of two times the scale of its operand"


def make_plan(
    mod: Module,
    scales: Scales,
    *,
    rounder: WeightRounder | None = None,
    fuse: bool = True,
    dyadic: bool = False,
    block: int = 16,
) -> QuantPlan:
    """Return the plan of a float module: every integer that follows from its scales.

    Parameters
    ----------
    mod : IRModule
        Float module that the scales were chosen for, its biases final.
    scales : Scales
        Of every tensor and weight.
    rounder : WeightRounder, optional
        As `Quantize` gets it: what its integers sum to says how many bits a multiplier may have.
        By default to nearest.
    fuse : bool
        Whether `FuseConvRelu` follows `Quantize`.
    dyadic : bool
        Whether a ratio of scales that is no power of two becomes b / 2^c (HAWQ-V3, Yao et al.,
        arXiv 2011.10680), with as many bits of b as int32 allows.
    block : int
        Output channels a block, for granularity ``block``.

    Raises
    ------
    CalibrationError
        When the scale of a layer's output is no power of two times its accumulator's, and the
        machine does not multiply.
    """
    draft = QuantPlan(tensors=scales.tensors, weights=scales.weights, block=block)
    marked = Quantize(plan=draft, rounder=rounder or NearestRounder(block=block))(mod)
    ends = _meant_ends(mod, fuse=fuse)
    if fuse:
        marked = FuseConvRelu()(marked)
    graph = read_graph(marked)
    labels, functions = layer_names(mod), functions_of(graph)
    host: dict[str, str] = {}
    while True:
        planner = _Planner(draft, ends, labels, functions, host, dyadic=dyadic)
        for binding in graph.bindings:
            planner.visit(binding)
        if planner.host == host:
            return planner.plan()
        host = planner.host  # its operators make floats


def _meant_ends(mod: Module, *, fuse: bool) -> dict[str, set[str]]:
    """Return where choosers may mean each layer's accumulator to end: alone, or in a pair."""
    ends = (fused_ends(mod), fused_ends(mod, paired_layers(mod))) if fuse else ()
    result: dict[str, set[str]] = {}
    for found in ends or (unfused_ends(mod),):
        for name, end in found.items():
            result.setdefault(name, set()).add(end.output)
    return result


_Value: TypeAlias = "PlannedInt8 | PlannedSum | PlannedPair | NDArray[np.int8] | None"


class _Planner:
    """Follow one graph; `env` maps its variables to integers and int8 weights, None for floats."""

    def __init__(
        self,
        draft: QuantPlan,
        ends: Mapping[str, set[str]],
        labels: Mapping[str, str],
        functions: Mapping[Expr, Function],
        host: Mapping[str, str],
        *,
        dyadic: bool,
    ) -> None:
        self.draft = draft
        self.ends = ends
        self.labels = labels
        self.functions = functions
        self.dyadic = dyadic
        self.host = dict(host)
        self.floats: dict[str, str] = {}
        self.env: dict[Expr, _Value] = {}
        self.layers: list[LayerPlan] = []
        self.sums: dict[str, SumPlan] = {}
        self.converted: dict[str, QuantParams] = {}
        self.steps: dict[str, StepsPlan] = {}
        self.summands: dict[str, str] = {}  # and the tensors that they read

    def plan(self) -> QuantPlan:
        """Return the draft with its integers."""
        taken = {name for layer in self.layers for name in layer.operators}
        rest = [
            LayerPlan(name=self._label((name,), name), inputs=(data,), operators=(name,))
            for name, data in self.summands.items()
            if name not in taken
        ]
        return replace(
            self.draft,
            tensors={**self.draft.tensors, **self.converted},
            layers=(*self.layers, *rest),
            sums=self.sums,
            host=self.host,
            floats=self.floats,
            steps=self.steps,
        )

    def visit(self, binding: Expr) -> None:
        """Follow one binding."""
        handler = self.HANDLERS.get(op_name(binding.value))
        if binding.var in self.functions:
            return  # as a whole, where it becomes int8
        if handler is not None and binding.var.name not in self.host:
            self.env[binding.var] = handler(self, binding)

    def value(self, expr: Expr) -> _Value:
        """Return what an operand is."""
        return self.env.get(expr) if isinstance(expr, relax.Var) else None

    def _label(self, summands: tuple[str, ...], output: str) -> str:
        """Return the name of the layer that a product belongs to, else of what it makes."""
        return self.labels.get(summands[0], summands[0]) if summands else output

    # ---- pairs -------------------------------------------------------------------------------
    def _dequantize(self, binding: Expr) -> _Value:
        data = binding.value.args[0]
        weight = constant(data)
        return self.value(data) if weight is None else weight

    def _quantize(self, binding: Expr) -> _Value:
        source = binding.value.args[0]
        name, value = str(source.name), self._widen(source)
        params = self.draft.tensors[name]
        stepped = self._stepped(source, params, name)
        requant = None if stepped or value is None else self._requant(value, params, name)
        if value is not None and requant is not None:
            self.layers.append(
                LayerPlan(
                    name=self._label(value.summands, name),
                    inputs=value.inputs,
                    operators=value.operators,
                    output=name,
                    requant=requant,
                )
            )
        by_host = (
            value is None and not stepped
        ) or name in self.floats  # `Requantize` calls it like its integers
        return PlannedInt8(
            name=str(binding.var.name) if by_host else name,
            tensor=name,
            scale=params.scale[0],
            bound=params.bound,
            zero=params.zero_point,
            reach=params.levels,
        )

    def _stepped(self, source: Expr, params: QuantParams, name: str) -> bool:
        """Plan a tensor that integers make element by element; tell whether it is one."""
        value, function, steps = self.value(source), self.functions.get(source), None
        operands: tuple[PlannedInt8, ...]
        if name in self.host:
            return False
        if isinstance(value, PlannedSum) and value.pair is not None and not self.dyadic:
            if _exponents(value.scale / params.scale[0]) is None:
                value = value.pair
                self.sums.pop(value.operators[0])
        if isinstance(value, PlannedPair):
            operands, operators, reason = value.operands, value.operators, FAR_SCALES
            limits = params.qmin, params.qmax
            if value.relu:
                top = numerics.round_half_up(min(value.ceiling / params.scale[0], params.levels))
                limits = params.zero_point, params.zero_point + int(top)
            left, right = (x.operand for x in operands)
            if value.kind == "multiply":
                steps = product_steps(left, right, params, limits)
            else:
                steps = pair_steps(value.kind, (left, right), params, limits)
        elif function is not None:
            x = self.value(function.source)
            if not isinstance(x, PlannedInt8):
                return False
            operands, reason = (x,), MANY_LINES
            operators = tuple(str(b.var.name) for b in function.bindings)
            steps = function_steps(function, x.operand, params)
        else:
            return False
        if steps is None:
            self.host |= dict.fromkeys(operators, reason)
            return False
        shift = steps.shift
        requant = Requant(multiplier=(1,), shift=(shift,), ratio=(Fraction(2) ** -shift,))
        self.steps[name] = steps
        self.layers.append(
            LayerPlan(
                name=name,
                inputs=tuple(x.tensor for x in operands),
                operators=operators,
                output=name,
                requant=requant,
            )
        )
        return True

    def _requant(self, value: PlannedSum, params: QuantParams, name: str) -> Requant | None:
        """Return multipliers and shifts of an accumulator; None where the host converts it."""
        ratio = value.scale / params.scale[0]
        exponents = _exponents(ratio)
        try:
            if exponents is not None:
                # Shifted left by the most, everything but 0 saturates, and so it does by more.
                shifts = grouped(np.maximum(-exponents, -MAX_INT32_SHIFT), self.draft.block)
                return Requant(
                    multiplier=(1,) * len(shifts),
                    shift=tuple(shifts.tolist()),
                    ratio=tuple(Fraction(2) ** -n for n in shifts.tolist()),
                )
            if self.dyadic:
                return self._multiplied(value, ratio, params.zero_point)
        except CapacityError as error:
            reason = f"{name}: {str(error).partition('; ')[0]}"
            if value.summands:
                self.host |= dict.fromkeys(value.summands, reason)
            else:
                self.floats[name] = reason
            return None
        if any(name in self.ends.get(product, ()) for product in value.summands):
            worst = next(i for i, r in enumerate(ratio) if numerics.exact_log2(r) is None)
            raise CalibrationError(
                name,
                "must have a scale that is a power of two times its accumulator's scale",
                got=f"{1 / ratio[worst]:.6g} times it in channel {worst}",
                hint="choose weight scales to fit, or allow multipliers (dyadic)",
            )
        self.floats[name] = NO_SHIFT
        return None

    def _multiplied(self, value: PlannedSum, ratio: NDArray[np.float64], zero: int) -> Requant:
        """Return b / 2^c next to each ratio; b has the bits that the sum leaves of int32."""
        most = numerics.sum_bound(value.bound, value.offset)
        bias = numerics.output_bias(value.name, value.bias, value.scale, most, 1 / ratio, zero)
        added = bias + value.offset + numerics.round_half_up(zero / ratio)
        # b / 2^c is only next to the ratio, and so is the zero point's part.
        more = numerics.round_half_up((0.5 + abs(zero) * _NEXT_TO) / ratio) + 1
        bound = value.bound + np.abs(added) + more
        exact = numerics.dyadic(ratio, int(bound.max()))
        columns = list(zip(exact.multiplier, exact.shift, exact.ratio, strict=True))
        first = {(b, c): i for i, (b, c, _) in reversed(list(enumerate(columns)))}
        chosen = grouped(np.asarray([first[b, c] for b, c, _ in columns]), self.draft.block)
        if len(chosen) == len(columns):
            return exact
        multiplier, shift, meant = zip(*(columns[i] for i in chosen.tolist()), strict=True)
        return Requant(multiplier=multiplier, shift=shift, ratio=meant)

    def _widen(self, source: Expr) -> PlannedSum | None:
        """Return an accumulator, or an int8 tensor as one."""
        value = self.value(source)
        if isinstance(value, PlannedInt8):
            channels = static_shape(source)[1]
            return PlannedSum(
                name=value.name,
                scale=np.full(channels, value.scale),
                bound=np.full(channels, float(value.bound)),
                offset=np.full(channels, -float(value.zero)),
                bias=np.zeros(channels),
                inputs=(value.tensor,),
            )
        return value if isinstance(value, PlannedSum) else None

    # ---- operators ---------------------------------------------------------------------------
    # A handler returns None where the operator reads floats. One that stays on the host for another
    # reason also says it, as the report shows it: `self.host.setdefault(name, REASON)`.
    def _product(self, binding: Expr) -> _Value:
        call, name = binding.value, str(binding.var.name)
        data, weight = (self.value(operand) for operand in call.args)
        if not isinstance(data, PlannedInt8) or not isinstance(weight, np.ndarray):
            return None
        if integer_form(call) is None:
            return None
        rows = weight_rows(call, weight)
        bound = np.zeros(len(rows))
        if self.dyadic:
            bound = numerics.accumulator_bound(rows, data.bound).astype(np.float64)
        self.summands[name] = data.tensor
        return PlannedSum(
            name=self._label((name,), name),
            scale=data.scale * self.draft.weights[name].scales(len(rows), self.draft.block),
            bound=bound,
            offset=-data.zero * rows.sum(axis=1, dtype=np.float64),
            bias=np.zeros(len(rows)),
            inputs=(data.tensor,),
            operators=(name,),
            summands=(name,),
        )

    def _add(self, binding: Expr) -> _Value:
        name = str(binding.var.name)
        if (found := split_bias(binding.value)) is not None:
            value = self._widen(found[0])
            return None if value is None else value.with_bias(found[1], name)
        left, right = binding.value.args
        pair = self._pair(binding)
        if isinstance(self.value(left), PlannedInt8) and isinstance(self.value(right), PlannedSum):
            left, right = right, left
        acc, other, narrow = self._widen(left), self._widen(right), self.value(right)
        if acc is None or other is None or static_shape(left) != static_shape(right):
            return None
        integers = narrow if isinstance(narrow, PlannedInt8) else None
        plan = self._sum(acc, other, integers, name, told=pair is None)
        if pair is not None and (plan is None or plan.left_out):
            return pair
        if plan is None:
            self.host.setdefault(name, NO_COMMON_SCALE)
            return None
        self.sums[name] = plan
        if plan.left_out:
            return acc.after(name, pair=None)
        if set(plan.multiplier) != {1}:
            factor = expanded(plan.multiplier, len(acc.scale), self.draft.block, name)
            inputs = (*acc.inputs, *other.inputs)
            bound, offset = (
                first + second * factor
                for first, second in ((acc.bound, other.bound), (acc.offset, other.offset))
            )
            return acc.after(name, bound=bound, offset=offset, inputs=inputs, pair=pair)
        acc, other = acc.settle(), other.settle()
        first, second = (
            2.0 ** expanded(shifts, len(acc.scale), self.draft.block, name)
            for shifts in (plan.first_shift, plan.second_shift)
        )
        return replace(
            acc,
            name=name,
            scale=acc.scale / first,
            bound=acc.bound * first + other.bound * second,
            offset=acc.offset * first + other.offset * second,
            bias=acc.bias + other.bias,
            inputs=(*acc.inputs, *other.inputs),
            operators=(*acc.operators, *other.operators, name),
            summands=(*acc.summands, *other.summands),
            pair=pair,
        )

    def _sum(
        self,
        acc: PlannedSum,
        other: PlannedSum,
        integers: PlannedInt8 | None,
        name: str,
        *,
        told: bool,
    ) -> SumPlan | None:
        """Return how `other` is added to `acc`; None where their scales do not fit, to be told."""
        plan = SumPlan(first=acc.name, second=other.name)
        left_out = replace(plan, multiplier=(0,))
        block = self.draft.block
        if integers is not None and not acc.owes_relu:
            if (integers.reach * integers.scale < acc.scale / 2).all():
                return left_out  # less than half a unit: rounds to 0
            factor = numerics.exact_integers(integers.scale / acc.scale)
            if factor is not None and not _is_one_shift(factor):
                return replace(plan, multiplier=tuple(grouped(factor, block).tolist()))
        ratios = _exponents(other.scale / acc.scale)
        equal = ratios is not None and not ratios.any()  # in each channel, which may still differ
        finest = acc.scale if equal else min(float(acc.scale.min()), float(other.scale.min()))
        first, second = (_exponents(value.scale / finest) for value in (acc, other))
        known = [int(shifts.max()) for shifts in (first, second) if shifts is not None]
        apart = max(known, default=0)
        below = integers is not None and bool((other.scale < acc.scale).all())
        if below and (apart > _MOST_OCTAVES or len(known) < 2):
            return left_out  # less than a unit of the accumulator each
        if first is None or second is None:
            return None
        if apart > _MOST_OCTAVES and not told:
            return None
        if apart > _MOST_OCTAVES:
            must = f"must add tensors whose scales are at most 2^{_MOST_OCTAVES} apart"
            self.host[name] = f"{name}: {must}, got 2^{apart}"
            return None
        shifts = (tuple(grouped(part, block).tolist()) for part in (first, second))
        return replace(plan, first_shift=next(shifts), second_shift=next(shifts))

    def _pair(self, binding: Expr) -> PlannedPair | None:
        kind, name = op_name(binding.value), str(binding.var.name)
        factors = factors_of(binding.value)
        operands = factors or binding.value.args
        left, right = (self.value(a) for a in operands)
        if not (isinstance(left, PlannedInt8) and isinstance(right, PlannedInt8)):
            return None
        alike = static_shape(operands[0]) == static_shape(operands[1])
        if not (alike if kind in PAIRS else factors is not None):
            return None
        return PlannedPair(kind=kind, operators=(name,), operands=(left, right))

    def _activation(self, binding: Expr) -> _Value:
        value, name = self._widen(binding.value.args[0]), str(binding.var.name)
        pair, ceiling = self.value(binding.value.args[0]), ceiling_of(binding.value)
        if isinstance(pair, PlannedPair) and ceiling is not None:
            return pair.limited(ceiling, name)
        if not ends_accumulator(binding.value):
            self.host.setdefault(name, ACTIVATIONS[op_name(binding.value)].otherwise)
            return None
        if value is None:
            return None
        assert ceiling is not None
        pair = value.pair and value.pair.limited(ceiling, name)
        return value.after(name, owes_relu=True, pair=pair)

    def _average(self, binding: Expr) -> _Value:
        data, name = self.value(binding.value.args[0]), str(binding.var.name)
        if not is_average(binding.value):
            if op_name(binding.value) == "nn.avg_pool2d":
                self.host.setdefault(name, NO_AVERAGE)
            return None
        if not isinstance(data, PlannedInt8):
            return None
        value, count = self._widen(binding.value.args[0]), averaged(binding.value)
        assert value is not None
        return value.after(
            name,
            scale=value.scale / count,
            bound=value.bound * count,
            offset=value.offset * count,
        )

    def _move(self, binding: Expr) -> _Value:
        if is_average(binding.value):
            return self._average(binding)
        data = self.value(binding.value.args[0])
        name = str(binding.var.name)
        if not isinstance(data, PlannedInt8) or not is_move(binding.value):
            return None
        return replace(data, name=name, tensor=name)

    def _concat(self, binding: Expr) -> _Value:
        name, fields = str(binding.var.name), moved(binding.value)
        params, parts = self.draft.tensors.get(name), [self.value(field) for field in fields]
        if params is None or not parts:
            return None
        bounds = []
        for place, (field, part) in enumerate(zip(fields, parts, strict=True)):
            if not isinstance(part, PlannedInt8):
                return None
            same = part.scale == params.scale[0] and part.zero == params.zero_point
            if same and part.reach <= params.levels:
                bounds.append(part.bound)
                continue
            value, output = self._widen(field), converted_name(name, place)
            assert value is not None
            ratio = part.scale / params.scale[0]
            shifts = _exponents(value.scale / params.scale[0]) is not None
            requant = self._requant(value, params, output) if shifts else small_ratio(ratio)
            if requant is None:
                return None
            self.converted[output] = params
            self.layers.append(
                LayerPlan(
                    name=output, inputs=value.inputs, operators=(), output=output, requant=requant
                )
            )
            bounds.append(params.bound)
        return PlannedInt8(
            name=name,
            tensor=name,
            scale=params.scale[0],
            bound=max(bounds),
            zero=params.zero_point,
            reach=params.levels,
        )

    HANDLERS: ClassVar[dict[str, Callable[[_Planner, Expr], _Value]]] = {
        "quantize": _quantize,
        "dequantize": _dequantize,
        **dict.fromkeys((*PAIRS, "multiply"), _pair),
        "add": _add,
        **dict.fromkeys(AVERAGES, _average),
        **dict.fromkeys(ACTIVATIONS, _activation),
        **dict.fromkeys(WEIGHT_AXIS, _product),
        **dict.fromkeys(MOVES, _move),
        "concat": _concat,
    }


def _exponents(ratio: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return k of ratios 2^k, int64[C]; None where one is no power of two."""
    found = [numerics.exact_log2(r) for r in ratio.tolist()]
    known = [k for k in found if k is not None]
    return np.asarray(known, np.int64) if len(known) == len(found) else None


def _is_one_shift(factor: NDArray[np.int64]) -> bool:
    """Whether all factors are one power of two, which a shift says better."""
    first = int(factor[0])
    return bool((factor == first).all()) and first & (first - 1) == 0
