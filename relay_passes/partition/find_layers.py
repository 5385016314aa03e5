"""Find integer layers in a graph: an operator that starts an accumulator, and the steps after it.

`Chain.find` starts at an anchor (conv2d, matmul, max_pool2d, sum, or an int8 tensor widened to
int32) and follows the accumulator from reader to reader as long as `_STEPS` has the operator. It
passes through a cast to int8 and back where the values provably fit, and takes in another product's
accumulator that is added. Tables decide, never names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, Graph, constant, dtype_of, ints, op_name, static_shape
from relay_passes.names import Names
from relay_passes.params import INT32_MAX, INT32_MIN
from relay_passes.partition.layers import ADDITIONS, PRODUCT_KINDS, Layer, LayerKind, Step, StepOp

_INF: Final = float("inf")


@dataclass(slots=True, kw_only=True, eq=False)
class Chain:
    """One layer in a graph.

    Parameters
    ----------
    kind : LayerKind
        How the accumulator starts.
    anchor : relax.VarBinding
        The operator that starts it.
    bindings : list of relax.VarBinding
        All the layer's bindings, in no particular order.
    source : relax.Var or None
        The int8 tensor read first; None for ``add``.
    steps : list of (op, value, relax.Var or None)
        As `Step`, the tensor being a variable.
    output : relax.Var
        What the layer makes.
    products : list of Chain
        Accumulators, each only its anchor, that are added to this one's before the steps.
    name : str
        The layer's: that of its anchor's, or for ``add`` of its output's.
    output_name : str
        The name of the tensor made; an int32 accumulator has the layer's where no other tensor has.
    """

    kind: LayerKind
    anchor: Expr
    bindings: list[Expr]
    source: Expr | None
    output: Expr
    steps: list[tuple[StepOp, Any, Expr | None]] = field(default_factory=list)
    products: list[Chain] = field(default_factory=list)
    name: str = ""
    output_name: str = ""

    @property
    def inputs(self) -> tuple[Expr, ...]:
        """The int8 tensors read: data first, the products' data, then the residuals."""
        first = () if self.source is None else (self.source,)
        products = (product.source for product in self.products)
        return (*first, *products, *(var for _, _, var in self.steps if var is not None))

    def layer(self, names: Mapping[Expr, str], name: str = "", output: str = "") -> Layer:
        """Return the chain as a `Layer`; `names` maps its inputs to tensor names."""
        value = self.anchor.value
        in_shape = _nchw(static_shape(self.inputs[0]))
        out_shape = _nchw(static_shape(self.output))
        weight: NDArray[np.int8] | None = None
        kernel, stride, dilation, padding = (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)
        kind = self.kind
        if kind == "conv2d":
            weight = constant(value.args[1])
            stride, dilation, padding = _window(value.attrs)
        elif kind == "dense":
            weight = constant(value.args[1])
            assert weight is not None
            weight = np.ascontiguousarray(weight.T).reshape(weight.shape[1], *in_shape[1:])
            kind = "dense" if in_shape[2:] == (1, 1) else "conv2d"
        elif kind == "max_pool2d":
            stride, dilation, padding = _window(value.attrs)
            kernel = _pair(value.attrs.pool_size)
        elif kind == "sum_pool2d":
            kernel = (in_shape[2], in_shape[3])
        if weight is not None:
            kernel = (weight.shape[2], weight.shape[3])
        return Layer(
            name=name or self.name,
            kind=kind,
            inputs=tuple(names[var] for var in self.inputs),
            output=output or self.output_name,
            in_shape=in_shape,
            out_shape=out_shape,
            weight=weight,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            steps=tuple(
                Step(op=op, value=number, tensor="" if var is None else names[var])
                for op, number, var in self.steps
            ),
            out_dtype="int8" if dtype_of(self.output) == "int8" else "int32",
            products=tuple(product.layer(names) for product in self.products),
        )


def _nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 4 else (shape[0], prod(shape[1:]), 1, 1)


def _pair(values: Any) -> tuple[int, int]:
    first, second = ints(values)
    return first, second


def _window(attrs: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    top, left, bottom, right = ints(attrs.padding)
    return _pair(attrs.strides), _pair(attrs.dilation), (top, left, bottom, right)


class ChainFinder:
    """Find all chains of a graph; a binding belongs to one chain at most.

    Parameters
    ----------
    graph : Graph
    layers : mapping, optional
        The layers of tensors that are not called like theirs, by tensor (`names.layer_names`).
    """

    def __init__(self, graph: Graph, layers: Mapping[str, str] | None = None) -> None:
        """Read who defines and who reads what."""
        self.layers = layers or {}
        self.bindings, self.params = graph.bindings, graph.params
        self.by_var = {b.var: b for b in graph.bindings}
        self.uses = graph.uses()
        self.claimed: set[Expr] = set()

    def all(self, allow: Callable[[Chain], bool] = lambda chain: True) -> list[Chain]:
        """Return the chains that `allow` accepts, by position of their output."""
        found: list[Chain] = []
        # Widened tensors last: most are the residuals of another chain.
        anchors = [b for b in self.bindings if self._start(b) is not None]
        for binding in sorted(anchors, key=lambda b: op_name(b.value) == "astype"):
            if binding.var in self.claimed:
                continue
            chain = self._start(binding)
            assert chain is not None
            self._follow(chain)
            if chain.kind == "add" and not self._is_work(chain):
                continue
            if any(b.var in self.claimed for b in chain.bindings) or not allow(chain):
                continue
            self.claimed.update(b.var for b in chain.bindings)
            found.append(chain)
        position = {b.var: i for i, b in enumerate(self.bindings)}
        found.sort(key=lambda chain: position[chain.output])
        self._name(found)
        return found

    def _name(self, chains: list[Chain]) -> None:
        """Name layers, each with a name of its own, and the tensors that they make."""
        taken = Counter(str(v.name) for v in (*self.params, *(b.var for b in self.bindings)))
        names = Names()
        for chain in chains:
            var = chain.output if chain.kind == "add" else chain.anchor.var
            chain.name = names.fresh(self.layers.get(str(var.name), str(var.name)))
            own = str(chain.output.name)
            free = taken[chain.name] == (chain.name == own)
            chain.output_name = chain.name if dtype_of(chain.output) != "int8" and free else own

    @staticmethod
    def _is_work(chain: Chain) -> bool:
        """Whether an ``add`` chain ends in int8 or adds tensors: more than a cast."""
        return dtype_of(chain.output) == "int8" or len(chain.inputs) > 1

    # ---- anchors -----------------------------------------------------------------------------
    def _start(self, binding: Expr) -> Chain | None:
        """Return a chain that is only its anchor, or None when `binding` is none."""
        value, kind = binding.value, op_name(binding.value)
        if kind == "nn.conv2d" and dtype_of(binding.var) == "int32" and _is_int8(value.args):
            return self._chain("conv2d", binding, value.args[0])
        if kind == "matmul" and dtype_of(binding.var) == "int32" and _is_int8(value.args):
            data = value.args[0]
            flat = self.by_var.get(data)
            if flat is not None and op_name(flat.value) == "reshape" and self._once(data):
                source = flat.value.args[0]
                if isinstance(source, relax.Var) and len(static_shape(source)) in (2, 4):
                    return self._chain("dense", binding, source, flat)
            return self._chain("dense", binding, data)
        if kind == "nn.max_pool2d" and dtype_of(binding.var) == "int8":
            return self._chain("max_pool2d", binding, value.args[0])
        if kind == "sum" and dtype_of(binding.var) == "int32":
            wide = self.by_var.get(value.args[0])
            if wide is not None and _widens(wide.value) and self._once(wide.var):
                return self._chain("sum_pool2d", binding, wide.value.args[0], wide)
        if _widens(value):
            chain = self._chain("add", binding, None)
            chain.steps.append(("add_tensor", 0, value.args[0]))
            return chain
        return None

    @staticmethod
    def _chain(kind: LayerKind, anchor: Expr, source: Expr | None, *more: Expr) -> Chain:
        return Chain(
            kind=kind, anchor=anchor, bindings=[*more, anchor], source=source, output=anchor.var
        )

    def _once(self, var: Expr) -> bool:
        return len(self.uses.get(var, [])) == 1

    # ---- steps -------------------------------------------------------------------------------
    def _follow(self, chain: Chain) -> None:
        """Extend `chain` as far as it goes; stop at the last int8 tensor when it gets stuck."""
        low, high = (-128.0, 127.0) if chain.kind in ("max_pool2d", "add") else (-_INF, _INF)
        saved: tuple[Expr, int, int] | None = None  # output, bindings, steps at the last int8
        if dtype_of(chain.output) == "int8":
            saved = (chain.output, len(chain.bindings), len(chain.steps))
        while self._once(chain.output):
            reader = self.uses[chain.output][0]
            if reader is None or reader.var in self.claimed:
                break
            if dtype_of(chain.output) == "int8":
                if not (_widens(reader.value) and -128 <= low and high <= 127):
                    break
                low, high = self._take(chain, reader, [], (low, high))
                continue
            if op_name(reader.value) == "astype" and dtype_of(reader.var) == "int8":
                low, high = self._take(chain, reader, [], (low, high))
                saved = (chain.output, len(chain.bindings), len(chain.steps))
                continue
            if (product := self._product(chain, reader)) is not None:
                chain.products.append(product)
                chain.bindings += product.bindings
                low, high = self._take(chain, reader, [], (low, high))
                continue
            if (found := self._step(chain.output, reader)) is None:
                break
            steps, extra = found
            chain.bindings += extra
            low, high = self._take(chain, reader, steps, (low, high))
        if dtype_of(chain.output) == "int32" and saved is not None and not self._leaves(chain):
            chain.output = saved[0]
            del chain.bindings[saved[1] :], chain.steps[saved[2] :]

    def _leaves(self, chain: Chain) -> bool:
        """Whether an int32 result is what the host wants: a result, or made float."""
        readers = self.uses.get(chain.output, [])
        return all(r is None or dtype_of(r.var) == "float32" for r in readers)

    @staticmethod
    def _take(
        chain: Chain,
        reader: Expr,
        steps: list[tuple[StepOp, Any, Expr | None]],
        interval: tuple[float, float],
    ) -> tuple[float, float]:
        """Append a reader and its steps; return the interval of the values after it."""
        chain.bindings.append(reader)
        chain.output = reader.var
        low, high = interval
        for op, value, var in steps:
            alone = len(chain.steps) == 1 and chain.kind == "add"
            if op == "shl" and alone and isinstance(value, int):
                chain.steps[0] = ("add_tensor", chain.steps[0][1] + value, chain.steps[0][2])
            else:
                chain.steps.append((op, value, var))
            if op == "max":
                low, high = max(low, value), max(high, value)
            elif op == "min":
                low, high = min(low, value), min(high, value)
            else:
                low, high = -_INF, _INF
        return low, high

    def _step(
        self, var: Expr, reader: Expr
    ) -> tuple[list[tuple[StepOp, Any, Expr | None]], list[Expr]] | None:
        """Return what `reader` does to accumulator `var`: steps and further bindings, or None."""
        value, kind = reader.value, op_name(reader.value)
        if dtype_of(reader.var) != "int32" or static_shape(reader.var) != static_shape(var):
            return None
        if kind == "nn.relu":
            return [("max", 0, None)], []
        if kind == "clip":
            low, high = (int(getattr(a, "value", a)) for a in value.args[1:3])
            return [("max", max(low, INT32_MIN), None), ("min", min(high, INT32_MAX), None)], []
        if kind not in _STEPS or len(value.args) != 2:
            return None
        left, right = value.args
        if kind in ("left_shift", "right_shift") and not left.same_as(var):
            return None
        other = right if left.same_as(var) else left
        if (number := _operand(other, static_shape(var))) is not None:
            return [(_STEPS[kind], number, None)], []
        if kind == "add":
            return self._residual(other, static_shape(var))
        return None

    def _product(self, chain: Chain, reader: Expr) -> Chain | None:
        """Return the other product that `reader` adds to a product nothing but added to so far."""
        value, var = reader.value, chain.output
        if chain.kind not in PRODUCT_KINDS or op_name(value) != "add":
            return None
        other = value.args[1] if value.args[0].same_as(var) else value.args[0]
        binding = self.by_var.get(other)
        if binding is None or other in self.claimed or not self._once(other):
            return None
        found = self._start(binding)
        if found is None or found.kind not in PRODUCT_KINDS:
            return None
        commutes = all(op in ADDITIONS for op, _, _ in chain.steps)
        return found if commutes and static_shape(other) == static_shape(var) else None

    def _residual(
        self, var: Expr, shape: tuple[int, ...]
    ) -> tuple[list[tuple[StepOp, Any, Expr | None]], list[Expr]] | None:
        """Read an int8 tensor astype int32, perhaps shifted left or multiplied by a constant."""
        binding = self.by_var.get(var)
        taken: list[Expr] = []
        step: tuple[StepOp, int | NDArray[np.int32]] = ("add_tensor", 0)
        change = "" if binding is None else op_name(binding.value)
        if binding is not None and change in ("left_shift", "multiply") and self._once(var):
            number = _operand(binding.value.args[1], shape)
            if change == "multiply" and number is not None and np.min(number) >= 1:
                step = ("add_scaled", number)
            elif change == "left_shift" and isinstance(number, int):
                step = ("add_tensor", number)
            else:
                return None
            taken.append(binding)
            binding = self.by_var.get(binding.value.args[0])
        if binding is None or not _widens(binding.value) or not self._once(binding.var):
            return None
        if static_shape(binding.var) != shape or binding.var in self.claimed:
            return None
        return [(*step, binding.value.args[0])], [*taken, binding]


#: Operators on an accumulator and a constant (or, for add, a residual), and the step they are.
_STEPS: Final[dict[str, StepOp]] = {
    "add": "add",
    "right_shift": "shr",
    "left_shift": "shl",
    "minimum": "min",
    "maximum": "max",
    "multiply": "mul",
}


def _is_int8(args: Any) -> bool:
    """Whether an operator's data is an int8 variable and its weight an int8 constant."""
    return (
        isinstance(args[0], relax.Var)
        and dtype_of(args[0]) == "int8"
        and (weight := constant(args[1])) is not None
        and weight.dtype == np.int8
    )


def _widens(value: Expr) -> bool:
    """Whether a call casts an int8 variable to int32."""
    return (
        op_name(value) == "astype"
        and dtype_of(value) == "int32"
        and isinstance(value.args[0], relax.Var)
        and dtype_of(value.args[0]) == "int8"
    )


def _operand(expr: Expr, shape: tuple[int, ...]) -> int | NDArray[np.int32] | None:
    """Read a constant operand: an integer, or int32[C] for one along axis 1; None for others."""
    value = constant(expr)
    if value is None or not np.issubdtype(value.dtype, np.integer):
        return None
    if value.size == 1:
        return int(value.reshape(-1)[0])
    full = (1,) * (len(shape) - value.ndim) + value.shape
    if full != tuple(n if i == 1 else 1 for i, n in enumerate(shape)):
        return None
    return np.ascontiguousarray(value.reshape(-1), np.int32)
