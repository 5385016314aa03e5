"""Functions of one tensor in the float graph: element by element, in one operator or several.

A hard-swish may be one operator or four (add, clip, divide, multiply), SiLU a sigmoid and a
product. So what counts is which tensors an operator's elements depend on: those that depend on one
*source* alone, and on constants, are functions of it, and integers know them by their values at the
256 inputs. ReLU and clips from 0 alone are no such functions: every accumulator has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, Graph, clip_limits, constant, dtype_of, op_name, static_shape
from relay_passes.operators.calls import (
    WEIGHT_AXIS,
    channel_numbers,
    ends_accumulator,
    split_bias,
)

_Array = NDArray[np.float64]
_erf: Final = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: _Array) -> _Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _clip(call: Expr, x: _Array) -> _Array:
    return np.asarray(np.clip(x, *clip_limits(call)))


def _gelu_tanh(x: _Array) -> _Array:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))


def _softplus(call: Expr, x: _Array) -> _Array:
    beta, threshold = float(call.attrs.beta), float(call.attrs.threshold)
    return np.asarray(np.where(x * beta > threshold, x, np.logaddexp(0.0, x * beta) / beta))


def _of_operands(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda call, *operands: function(*operands)


#: What an operator makes of its operands alone, float64, by name.
_OF_OPERANDS: Final[Mapping[str, Callable[..., Any]]] = {
    "nn.relu": lambda x: np.maximum(x, 0.0),
    "nn.relu6": lambda x: np.clip(x, 0.0, 6.0),
    "nn.prelu": lambda x, slope: np.where(x > 0, x, x * slope),
    "nn.silu": lambda x: x * _sigmoid(x),
    "nn.gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "nn.gelu_tanh": _gelu_tanh,
    "nn.selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "erf": _erf,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "abs": np.abs,
    "negative": np.negative,
    "square": np.square,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
#: What an operator makes of its call and its operands.
MEANINGS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "clip": _clip,
        "nn.leakyrelu": lambda call, x: np.where(x > 0, x, x * float(call.attrs.alpha)),
        "nn.softplus": _softplus,
        **{name: _of_operands(function) for name, function in _OF_OPERANDS.items()},
    }
)
#: Cycles a vector at which the host's way, of a store, floats and a load, is the better one.
MOST_CYCLES: Final = 48
#: Operators with an axis of their own that a vector of constants lies along.
_ALONG_CHANNELS: Final = frozenset({"nn.prelu"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Function:
    """A tensor that is a function of another, element by element.

    Parameters
    ----------
    source : relax.Var
        The other.
    bindings : tuple of relax.VarBinding
        The operators from there on, the last one makes the tensor.
    """

    source: Expr
    bindings: tuple[Expr, ...]

    def values(self, inputs: _Array) -> _Array:
        """Return the function of numbers, float64[n], or float64[C, n] where channels differ."""
        known: dict[Expr, _Array] = {self.source: inputs[np.newaxis]}
        with np.errstate(all="ignore"):  # what is no number, the caller sees
            for binding in self.bindings:
                call = binding.value
                operands = [
                    known[a] if isinstance(a, relax.Var) else _column(a, call)
                    for a in _operands(call)
                ]
                known[binding.var] = MEANINGS[op_name(call)](call, *operands)
        result = known[self.bindings[-1].var]
        return result[0] if (result == result[:1]).all() else result


def functions_of(graph: Graph) -> dict[Expr, Function]:
    """Return the tensors of a float graph that integers may know as functions, and as which.

    Those that an operator reads which is no part of a function of the same source, and what is on
    the way to them. No function starts at an input of the network: what stands there prepares it.
    """
    definitions, uses = graph.definitions(), graph.uses()
    roots: dict[Expr, Expr] = {}
    for binding in graph.bindings:
        if _is_elementwise(binding, definitions, uses):
            found = {roots.get(v, v) for v in _tensors(binding.value)}
            if len(found) == 1:
                (root,) = found
                if root in definitions and static_shape(root) == static_shape(binding.var):
                    roots[binding.var] = root
    result: dict[Expr, Function] = {}
    for binding in reversed(graph.bindings):
        var = binding.var
        root = roots.get(var)
        if root is None:
            continue
        inside = all(r is not None and roots.get(r.var) is root for r in uses.get(var, []))
        if inside or var in result:
            continue
        function = _function(var, root, graph, definitions)
        if all(_is_plain(b.value) for b in function.bindings):
            continue
        for part in function.bindings:
            if part.var not in result:
                result[part.var] = _function(part.var, function.source, graph, definitions)
    return result


def _function(var: Expr, root: Expr, graph: Graph, definitions: Mapping[Expr, Expr]) -> Function:
    """Return a tensor as a function of `root`, or of a ReLU of it, if it depends on that alone."""
    source, between = root, _between(var, root, definitions)
    for member in between:
        first = definitions[member]
        if member is not var and ends_accumulator(first) and first.args[0].same_as(root):
            nearer = _between(var, member, definitions, {root})
            if root not in nearer:
                source, between = member, nearer
                break
    bindings = tuple(b for b in graph.bindings if b.var in between)
    return Function(source=source, bindings=bindings)


def _between(
    var: Expr, source: Expr, definitions: Mapping[Expr, Expr], ends: Collection[Expr] = ()
) -> dict[Expr, None]:
    """Return a tensor and what is on the way to it from `source`, no further than `ends`."""
    found: dict[Expr, None] = {}
    left = [var]
    while left:
        one = left.pop()
        if one.same_as(source) or one in found:
            continue
        found[one] = None
        if one not in ends:
            left += _tensors(definitions[one])
    return found


def _is_elementwise(
    binding: Expr, definitions: Mapping[Expr, Expr], uses: Mapping[Expr, list[Expr]]
) -> bool:
    """Whether an operator computes each element of its own place in float tensors."""
    call = binding.value
    if op_name(call) not in MEANINGS or dtype_of(binding.var) != "float32":
        return False
    found = split_bias(call)
    if found is not None and op_name(definitions.get(found[0])) in WEIGHT_AXIS:
        if len(uses[found[0]]) == 1:
            return False  # a layer's bias
    shape = static_shape(binding.var)
    tensors = [a for a in _operands(call) if isinstance(a, relax.Var)]
    others = [a for a in _operands(call) if not isinstance(a, relax.Var)]
    return (
        bool(tensors)
        and all(static_shape(t) == shape for t in tensors)
        and all(_column(c, call) is not None for c in others)
    )


def _is_plain(call: Expr) -> bool:
    """Whether an accumulator has this operation anyway."""
    return ends_accumulator(call) or split_bias(call) is not None


def _operands(call: Expr) -> list[Expr]:
    """Return what an operator computes with: no limits of a clip."""
    return [*call.args[:1]] if op_name(call) == "clip" else [*call.args]


def _tensors(call: Expr) -> list[Expr]:
    return [a for a in _operands(call) if isinstance(a, relax.Var)]


def _column(operand: Expr, call: Expr) -> Any:
    """Return a constant operand as float64[1, 1] or float64[C, 1]; None where it is no such."""
    value = constant(operand)
    if value is None:
        return None
    value = value.astype(np.float64)
    if value.size == 1:
        return value.reshape(1, 1)
    shape = (
        static_shape(call.args[0]) if isinstance(call.args[0], relax.Var) else static_shape(call)
    )
    if len(shape) < 2:
        return None
    if op_name(call) in _ALONG_CHANNELS:
        fits = value.shape == shape[1:2] and int(call.attrs.axis) % len(shape) == 1
        return value.reshape(-1, 1) if fits else None
    numbers = channel_numbers(value, shape)
    return None if numbers is None else numbers.reshape(-1, 1)
