"""Fold BatchNorm into the convolution or dense layer before it, and name the tensors.

y = gamma * (conv(x) + b - mean) / sqrt(var + epsilon) + beta is a convolution with weight w * f and
bias (b - mean) * f + beta, where f = gamma / sqrt(var + epsilon), one number an output channel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

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
from relay_passes.names import Names, given_names, layer_names, with_layer_names
from relay_passes.numerics import along
from relay_passes.operators import split_bias

#: Names the importer makes up; others are kept.
_ANONYMOUS: Final = re.compile(r"(lv|gv)\d*$")
#: What a tensor is called when the model does not say, by operator; a number follows.
_DEFAULT_NAMES: Final = {
    "nn.conv2d": "conv",
    "matmul": "dense",
    "nn.max_pool2d": "maxpool",
    "mean": "avgpool",
    "nn.avg_pool2d": "avgpool",
    "concat": "concat",
    "nn.softmax": "softmax",
}
#: Operators that change a tensor without being layers: named after their (first) operand.
_SUFFIXES: Final = {
    "nn.relu": ".relu",
    "clip": ".clip",
    "add": ".add",
    "reshape": ".flat",
    "nn.batch_norm": ".bn",
}


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
            result = _fold_into(builder, known, uses, value.args[0], scale, offset)
            if result is None:
                data, rank = value.args[0], len(static_shape(value.args[0]))
                product = builder.emit(relax.op.multiply(data, _channels(scale, rank)), var.name)
                result = builder.emit(relax.op.add(product, _channels(offset, rank)), var.name)
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


def _fold_into(
    builder: GraphBuilder,
    known: dict[Expr, Expr],
    uses: dict[str, int],
    data: Expr,
    factor: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> Expr | None:
    """Emit the folded layer and its bias; None when `data` does not come from one alone."""
    bias: Any = 0.0
    producer: Any = known.get(data)
    source = data
    if op_name(producer) == "add" and (found := split_bias(producer)) is not None:
        source, bias = found
        if uses.get(data.name, 0) != 1:
            return None
        producer = known.get(source)
    rank = {"nn.conv2d": 4, "matmul": 2}.get(op_name(producer), 0)
    if rank != len(static_shape(data)) or uses.get(source.name, 0) != 1:
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
    return builder.emit(relax.op.add(layer, _channels(bias * factor + offset, rank)), source.name)


def _channels(values: NDArray[np.float64], rank: int) -> Expr:
    return relax.const(along(values.astype(np.float32), rank, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTensors(GraphPass):
    """Give every tensor of the float graph a clear, unique name.

    A name that the importer restored (``layer2.0.conv1`` on the convolution) is kept. A layer's
    bias add takes the layer's name, since that is the tensor one quantizes, and the sum before it
    ``NAME.acc``; a ReLU is ``NAME.relu``, a residual sum ``NAME.add``. A number follows a name that
    another tensor has; the layer of a ``NAME.acc`` is kept beside it (`relay_passes.names`).
    """

    def transform(self, mod: Module) -> Module:
        """Return `mod` with other variable names."""
        graph = read_graph(mod)
        definitions = graph.definitions()
        biased = {
            found[0]: b.var
            for b in graph.bindings
            if op_name(b.value) == "add"
            and (found := split_bias(b.value)) is not None
            and op_name(definitions.get(found[0])) in ("nn.conv2d", "matmul")
        }
        layer_of = {bias: layer for layer, bias in biased.items()}
        counts: dict[str, int] = {}
        given_by_model = given_names(mod)
        # The model's own names come before those made here.
        left = {*(given_by_model or ())} - {str(var.name) for var in graph.params}
        names = Names((*left, *(str(var.name) for var in graph.params)))
        names_of_layers: dict[Expr, str] = {}
        layers = layer_names(mod)

        def is_given(name: str) -> bool:
            if given_by_model is None:
                return not _ANONYMOUS.match(name)
            return name in given_by_model

        def own(var: Expr, name: str) -> str:
            if name != var.name or name not in left:
                return names.fresh(name)
            left.discard(name)
            return name

        def name_of(var: Expr, value: Expr) -> str:
            kind = op_name(value)
            given = str(var.name) if is_given(var.name) else ""
            if kind in _SUFFIXES and not given.endswith(_SUFFIXES[kind]):
                source = next((a for a in value.args if isinstance(a, relax.Var)), None)
                if source is not None:
                    return f"{source.name}{_SUFFIXES[kind]}"
            if given:
                return given
            base = _DEFAULT_NAMES.get(kind, kind.rsplit(".", 1)[-1] or "tensor")
            counts[base] = counts.get(base, -1) + 1
            return f"{base}{counts[base]}"

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            if var in layer_of:
                return builder.emit(value, names_of_layers[layer_of[var]])
            name = own(var, name_of(var, value))
            if var in biased:
                layer = names_of_layers[var] = name
                name = names.fresh(f"{layer}.acc")
                layers[name] = layer
            return builder.emit(value, name)

        return with_layer_names(rewrite(mod, visit), layers)
