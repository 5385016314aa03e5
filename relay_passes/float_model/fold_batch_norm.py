"""Fold BatchNorm into the convolution or dense layer before it.

y = gamma * (conv(x) + b - mean) / sqrt(var + epsilon) + beta is a convolution with weight w * f and
bias (b - mean) * f + beta, where f = gamma / sqrt(var + epsilon), one number per output channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
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
from relay_passes.numerics import along
from relay_passes.operators.calls import split_bias


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConstants(GraphPass):
    """Compute reshape, permute_dims and expand_dims of constants, as ONNX files contain them."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with those operators replaced by constants."""
        return rewrite(mod, self._visit)

    @staticmethod
    def _visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        known = {b.var: b.value for b in builder.bindings}
        name = op_name(value)
        if not name or not value.args:
            return _inline_constants(value, known)
        data = constant(known.get(value.args[0], value.args[0]))
        if data is None or name not in ("reshape", "permute_dims", "expand_dims"):
            return _inline_constants(value, known)
        if name == "permute_dims":
            axes = None if value.attrs.axes is None else ints(value.attrs.axes)
            return relax.const(np.ascontiguousarray(np.transpose(data, axes)))
        return relax.const(data.reshape(static_shape(var)))


def _inline_constants(value: Expr, known: dict[Expr, Expr]) -> Expr:
    """Use constants in place of variables bound to them."""
    if not isinstance(value, relax.Call):
        return value
    args = [known[a] if a in known and constant(known[a]) is not None else a for a in value.args]
    return relax.Call(value.op, args, value.attrs, value.ty_args, value.span)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldBatchNorm(GraphPass):
    """Fold conv -> BN, conv -> add -> BN and the same after dense.

    A BatchNorm after anything else becomes multiply and add with constants; one in training mode,
    which computes its own mean, stays. Constants are [1, C, 1, 1], or [1, C] after dense.
    """

    def transform(self, mod: Module) -> Module:
        """Return `mod` without BatchNorm."""
        uses = {var.name: len(found) for var, found in read_graph(mod).uses().items()}
        folded: dict[Expr, Expr] = {}

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            if isinstance(value, relax.TupleGetItem) and value.tuple_value in folded:
                return folded[value.tuple_value] if value.index == 0 else None
            if op_name(value) != "nn.batch_norm" or bool(value.attrs.training):
                return value
            scale, offset = _batch_norm_constants(value)
            known = {b.var: b.value for b in builder.bindings}
            result = None
            if _is_read_once(known, uses, value.args[0]):
                result = fold_into_layer(builder, known, value.args[0], scale, offset)
            if result is None:
                data, rank = value.args[0], len(static_shape(value.args[0]))
                product = builder.emit(
                    relax.op.multiply(data, channel_constant(scale, rank)), var.name
                )
                result = builder.emit(
                    relax.op.add(product, channel_constant(offset, rank)), var.name
                )
            placeholder = builder.emit(relax.Tuple([result, result, result]), var.name)
            folded[placeholder] = result
            return placeholder

        return rewrite(mod, visit)


def _batch_norm_constants(call: Expr) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return factor f and offset of y = f * x + offset, float64[C]."""
    gamma, beta, mean, variance = (np.asarray(constant(a), np.float64) for a in call.args[1:5])
    factor = 1.0 / np.sqrt(variance + float(call.attrs.epsilon))
    if bool(call.attrs.scale):
        factor = gamma * factor
    return factor, (beta if bool(call.attrs.center) else 0.0) - mean * factor


def _is_read_once(known: dict[Expr, Expr], uses: dict[str, int], data: Expr) -> bool:
    """Whether nothing else reads a tensor, and the layer that it is the bias of."""
    found = split_bias(known[data]) if data in known else None
    return all(uses.get(v.name, 0) == 1 for v in (data, *([found[0]] if found else [])))


def fold_into_layer(
    builder: GraphBuilder,
    known: dict[Expr, Expr],
    data: Expr,
    factor: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> Expr | None:
    """Emit the layer that makes factor * data + offset, and its bias.

    Parameters
    ----------
    builder : GraphBuilder
    known : dict
        Its bindings so far.
    data : relax.Var
        What nothing else reads; None is returned where no layer makes it.
    factor, offset : float64[C]
    """
    bias: Any = 0.0
    producer: Any = known.get(data)
    source = data
    if op_name(producer) == "add" and (found := split_bias(producer)) is not None:
        source, bias = found
        producer = known.get(source)
    rank = {"nn.conv2d": 4, "matmul": 2}.get(op_name(producer), 0)
    if rank != len(static_shape(data)):
        return None
    weight = constant(producer.args[1])
    if weight is None or weight.ndim != rank:
        return None
    axis = 0 if rank == 4 else 1  # of the output channels
    scaled = (weight.astype(np.float64) * along(factor, rank, axis)).astype(np.float32)
    call = relax.Call(
        producer.op, [producer.args[0], relax.const(scaled)], producer.attrs, producer.ty_args
    )
    layer = builder.emit(call, source.name)
    return builder.emit(
        relax.op.add(layer, channel_constant(bias * factor + offset, rank)), source.name
    )


def channel_constant(values: NDArray[np.float64], rank: int) -> Expr:
    """Return numbers, one a channel, as float32[1, C, ...] with so many dimensions."""
    return relax.const(along(values.astype(np.float32), rank, 1))
