"""Fold multiplications and additions by constants, one per channel, into layers; the rest scale.

y = a * x + b, as a BatchNorm that follows no layer leaves it, becomes

- part of the layer before it, also in front of ReLU (a > 0), pools and averages: their result is
  y where they read a * x instead;
- part of the convolutions and dense layers that alone read it: weights w * a, and a bias sum(w * b)
  where nothing is padded, for what is padded is 0 and not b;
- else a depthwise convolution of one tap, between tensors that integers compute; x - b becomes
  x + (-b).

What multiplies an input of the network stays: the host does it before it quantizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.float_model.fold_batch_norm import channel_constant, fold_into_layer
from relay_passes.graph import (
    Expr,
    Graph,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    ints,
    op_name,
    read_graph,
    rewrite,
    static_shape,
)
from relay_passes.operators.calls import (
    AVERAGES,
    WEIGHT_AXIS,
    channel_numbers,
    ends_accumulator,
    has_integer_form,
    split_bias,
)
from relay_passes.operators.functions import functions_of

#: Operators f with f(a * x) = a * f(x) for a > 0; of averages this holds for any a.
_POSITIVE: Final = frozenset({"nn.relu", "nn.max_pool2d"})
#: Factors of a layer's input channels that are further apart would cost its weights their bits.
_MOST_APART: Final = 16.0


class Affine(NamedTuple):
    """y = factor * x + offset, float64[C] each."""

    data: Expr
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]


def affine_of(value: Expr, result: Expr) -> Affine | None:
    """Read a multiplication, division, addition or subtraction by constants, one per channel.

    Parameters
    ----------
    value : relax.Call
    result : relax.Expr
        What it makes: an expression with a shape.
    """
    kind = op_name(value)
    if kind not in ("multiply", "divide", "add", "subtract"):
        return None
    left, right = value.args
    first, second = constant(left), constant(right)
    if (first is None) == (second is None):
        return None
    data, number = (left, second) if first is None else (right, first)
    shape = static_shape(data)
    if not isinstance(data, relax.Var) or len(shape) not in (2, 4) or shape != static_shape(result):
        return None
    values = channel_numbers(np.asarray(number), shape)
    if values is None or not np.isfinite(values).all():
        return None
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    if kind == "multiply":
        return Affine(data, values, zeros)
    if kind == "divide":
        return Affine(data, 1 / values, zeros) if first is None and values.all() else None
    if kind == "add":
        return Affine(data, ones, values)
    return Affine(data, ones, -values) if first is None else Affine(data, -ones, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldScales(GraphPass):
    """Fold factors and offsets into the layers around them; see the module's text."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with fewer multiplications and additions of constants."""
        for step in (_into_readers, _into_makers, _as_convolutions):
            graph = read_graph(mod)
            if any(affine_of(b.value, b.var) is not None for b in graph.bindings):
                mod = rewrite(mod, step(graph))
        return mod


_Visit = Callable[[GraphBuilder, Expr, Expr], "Expr | None"]


# ---- the layers behind ---------------------------------------------------------------------------
def _into_readers(graph: Graph) -> _Visit:
    """Return what folds into the layers that read y, where no others do."""
    uses, definitions = graph.uses(), graph.definitions()
    # Names are not unique: a BatchNorm's factor and offset have one.
    taken: dict[Expr, Affine] = {}
    into: dict[Expr, Expr] = {}  # from each reader
    for binding in graph.bindings:
        found = affine_of(binding.value, binding.var)
        readers = uses.get(binding.var, [])
        if found is None or not readers or op_name(definitions.get(found.data)) in WEIGHT_AXIS:
            continue
        if all(_takes(reader, binding.var, found) for reader in readers):
            taken[binding.var] = found
            into |= {reader.var: binding.var for reader in readers}

    def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        if var in taken:
            found = affine_of(value, var)
            assert found is not None
            return found.data
        if var not in into:
            return value
        return _with_input(builder, var, value, taken[into[var]])

    return visit


def _takes(reader: Expr, var: Expr, found: Affine) -> bool:
    """Whether a layer can read x in place of y."""
    if reader is None or op_name(reader.value) not in WEIGHT_AXIS:
        return False
    call = reader.value
    weight, factor = constant(call.args[1]), np.abs(found.factor)
    if weight is None or not call.args[0].same_as(var) or not factor.min() > 0:
        return False
    if factor.max() > _MOST_APART * factor.min():
        return False
    if op_name(call) == "matmul":
        return weight.ndim == 2 and len(static_shape(var)) == 2
    plain = str(call.attrs.data_layout) == "NCHW" and str(call.attrs.kernel_layout) == "OIHW"
    return plain and (not found.offset.any() or not any(ints(call.attrs.padding)))


def _with_input(builder: GraphBuilder, var: Expr, call: Expr, found: Affine) -> Expr:
    """Emit a layer that reads x in place of y."""
    weight = constant(call.args[1])
    assert weight is not None
    wide = weight.astype(np.float64)
    if op_name(call) == "matmul":
        scaled, sums = wide * found.factor[:, np.newaxis], found.offset @ wide
    else:
        outputs, each = weight.shape[:2]
        group = np.arange(outputs) // (outputs // int(call.attrs.groups))
        channels = group[:, np.newaxis] * each + np.arange(each)
        scaled = wide * found.factor[channels][..., np.newaxis, np.newaxis]
        sums = (wide.sum(axis=(2, 3)) * found.offset[channels]).sum(axis=1)
    args = [call.args[0], relax.const(scaled.astype(np.float32))]
    layer = builder.emit(relax.Call(call.op, args, call.attrs, call.ty_args), str(var.name))
    if not found.offset.any():
        return layer
    return relax.op.add(layer, channel_constant(sums, len(static_shape(var))))


# ---- the layer before ----------------------------------------------------------------------------
def _into_makers(graph: Graph) -> _Visit:
    """Return what folds into the layer that makes x, through operators that a factor passes."""
    # How often what stands for a variable is read.
    counts = {var: len(found) for var, found in graph.uses().items()}
    reads: dict[Expr, int] = {}

    def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        result = fold(builder, var, value)
        if result is None:
            result = builder.emit(value, str(var.name))
        reads[result] = counts.get(var, 0)
        return result

    def fold(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        found = affine_of(value, var)
        if found is None:
            return None
        known = {b.var: b.value for b in builder.bindings}
        source, passed = found.data, []
        while reads.get(source) == 1 and _passes(known[source], found):
            passed.append(source)
            source = known[source].args[0]
        maker = known.get(source)
        bare = op_name(maker) in WEIGHT_AXIS
        if (op_name(value) == "add" and bare and not passed) or reads.get(source) != 1:
            return None  # a bias as it should be
        if not bare and (split := split_bias(maker)) is not None and reads.get(split[0]) != 1:
            return None
        before = len(builder.bindings)
        result = fold_into_layer(builder, known, source, found.factor, found.offset)
        for step in reversed(passed) if result is not None else ():
            call = known[step]
            args = [result, *call.args[1:]]
            result = builder.emit(relax.Call(call.op, args, call.attrs, call.ty_args), step.name)
        reads.update((binding.var, 1) for binding in builder.bindings[before:])
        return result

    return visit


def _passes(call: Expr, found: Affine) -> bool:
    """Whether an operator's result is y where it reads a * x instead."""
    positive = op_name(call) in _POSITIVE and (found.factor > 0).all()
    if not (positive or op_name(call) in AVERAGES) or found.offset.any():
        return False
    return len(static_shape(call.args[0])) == len(static_shape(call))


# ---- the rest ------------------------------------------------------------------------------------
def _as_convolutions(graph: Graph) -> _Visit:
    """Return what turns factors between integer operators into depthwise convolutions."""
    uses, definitions = graph.uses(), graph.definitions()
    chosen: set[Expr] = set()
    curved = {
        binding.var
        for function in functions_of(graph).values()
        if any(
            affine_of(b.value, b.var) is None and not ends_accumulator(b.value)
            for b in function.bindings
        )
        for binding in function.bindings
    }
    for binding in graph.bindings:
        found, readers = affine_of(binding.value, binding.var), uses.get(binding.var, [])
        if binding.var in curved:
            continue  # a part of a function of one tensor, which integers compute as a whole
        if found is None or (found.factor == 1).all():
            continue
        if len(static_shape(found.data)) != 4 or found.data not in definitions:
            continue
        around = [definitions[found.data], *(r.value for r in readers if r is not None)]
        if readers and None not in readers and all(map(has_integer_form, around)):
            chosen.add(binding.var)

    def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        found = affine_of(value, var)
        if found is not None and op_name(value) == "subtract" and (found.factor == 1).all():
            return relax.op.add(found.data, channel_constant(found.offset, len(static_shape(var))))
        if found is None or var not in chosen:
            return value
        weight = relax.const(found.factor.astype(np.float32).reshape(-1, 1, 1, 1))
        call = relax.op.nn.conv2d(found.data, weight, groups=len(found.factor))
        if not found.offset.any():
            return call
        return relax.op.add(builder.emit(call, str(var.name)), channel_constant(found.offset, 4))

    return visit
