"""Find integer layers in a graph: an operator that starts an accumulator, and its post-ops.

`ChainFinder` starts at an anchor, which an operator of the table takes, and follows the accumulator
from reader to reader as long as a pattern of `ChainFinder.PATTERNS` makes the reader post-ops; most
are one operator on the accumulator and a constant, by the table of post-ops. It passes through a
cast to int8 and back where the values provably fit, and takes in another product's accumulator that
is added. Tables decide, never names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, Graph, constant, dtype_of, op_name, static_shape
from relay_passes.names import Names
from relay_passes.operators.chain import Chain, widens
from relay_passes.operators.movement import nchw
from relay_passes.operators.post_ops import BY_RELAX_OP, POST_OPS
from relay_passes.operators.table import OPERATORS, start
from relay_passes.params import INT32_MAX, INT32_MIN
from relay_passes.partition.layers import Layer, PostOp

_INF: Final = float("inf")
#: Post-ops as a `Chain` has them, and the bindings that they take beside the reader's.
_Found: TypeAlias = "tuple[list[tuple[str, Any, Expr | None]], list[Expr]]"


def layer_of(chain: Chain, names: Mapping[Expr, str], name: str = "", output: str = "") -> Layer:
    """Return a chain as a `Layer`; `names` maps its inputs to tensor names."""
    in_shape = nchw(static_shape(chain.inputs[0]))
    kind, window, weight = OPERATORS[chain.kind].read(chain.anchor.value, in_shape)
    if chain.padding is not None:
        window = window._replace(padding=chain.padding.sides, pad_value=chain.padding.value)
    return Layer(
        name=name or chain.name,
        kind=kind,
        inputs=tuple(names[var] for var in chain.inputs),
        output=output or chain.output_name,
        in_shape=in_shape,
        out_shape=nchw(static_shape(chain.output)),
        weight=weight,
        kernel=window.kernel,
        stride=window.stride,
        padding=window.padding,
        pad_value=window.pad_value,
        dilation=window.dilation,
        post_ops=tuple(
            PostOp(op=op, value=number, tensor="" if var is None else names[var])
            for op, number, var in chain.post_ops
        ),
        out_dtype="int8" if dtype_of(chain.output) == "int8" else "int32",
        movement=chain.movement,
        zero_points=chain.zero_points,
        summands=tuple(layer_of(product, names) for product in chain.summands),
    )


def is_view(chain: Chain) -> bool:
    """Whether a chain makes nothing but another name of its source."""
    return chain.movement is not None and chain.movement.is_view and not chain.post_ops


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
        views: list[Chain] = []
        anchors = [c for c in map(self._start, self.bindings) if c is not None]
        # Those that start empty last: most are the residuals of another chain. So are moves: a
        # convolution takes its padding in, and a dense layer its reshape.
        rows = {id(c): OPERATORS[c.kind] for c in anchors}
        anchors.sort(
            key=lambda c: (
                rows[id(c)].starts_empty or rows[id(c)].moves,
                not rows[id(c)].takes_product,
            )
        )
        for chain in anchors:
            if chain.anchor.var in self.claimed:
                continue
            self._follow(chain)
            if OPERATORS[chain.kind].starts_empty and not self._is_work(chain):
                continue
            if is_view(chain) and not self._is_between(chain):
                views.append(chain)
            elif self._claim(chain, allow):
                found.append(chain)
        # What reads it may have been found behind it.
        found += [c for c in views[::-1] if self._is_between(c) and self._claim(c, allow)]
        position = {b.var: i for i, b in enumerate(self.bindings)}
        found.sort(key=lambda chain: position[chain.output])
        self._name(found)
        return found

    def _claim(self, chain: Chain, allow: Callable[[Chain], bool]) -> bool:
        """Take a chain's bindings; tell whether it may have them."""
        if any(b.var in self.claimed for b in chain.bindings) or not allow(chain):
            return False
        self.claimed.update(b.var for b in chain.bindings)
        return True

    def _name(self, chains: list[Chain]) -> None:
        """Name layers, each with a name of its own, and the tensors that they make."""
        taken = Counter(str(v.name) for v in (*self.params, *(b.var for b in self.bindings)))
        names = Names()
        for chain in chains:
            var = chain.output if OPERATORS[chain.kind].starts_empty else chain.anchor.var
            chain.name = names.fresh(self.layers.get(str(var.name), str(var.name)))
            own = str(chain.output.name)
            free = taken[chain.name] == (chain.name == own)
            chain.output_name = chain.name if dtype_of(chain.output) != "int8" and free else own

    @staticmethod
    def _is_work(chain: Chain) -> bool:
        """Whether a chain that starts empty ends in int8 or adds tensors: more than a cast."""
        return dtype_of(chain.output) == "int8" or len(chain.inputs) > 1

    def _is_between(self, chain: Chain) -> bool:
        """Whether a layer that was found makes what a chain reads, and one reads what it makes.

        Or whether there is nothing else: then it was found before.
        """
        readers = self.uses.get(chain.output, [])
        if readers == [None] and chain.source in self.params:
            return True
        read = any(reader is not None and reader.var in self.claimed for reader in readers)
        return read and chain.source in self.claimed

    # ---- anchors -----------------------------------------------------------------------------
    def _start(self, binding: Expr) -> Chain | None:
        """Return a chain that is only its anchor, or None when `binding` is none."""
        return start(binding, self._maker_of)

    def _maker_of(self, var: Expr) -> Expr | None:
        """Return the binding that makes a variable which only one operator reads."""
        return self.by_var.get(var) if self._once(var) else None

    def _once(self, var: Expr) -> bool:
        return len(self.uses.get(var, [])) == 1

    # ---- post-ops ----------------------------------------------------------------------------
    def _follow(self, chain: Chain) -> None:
        """Extend `chain` as far as it goes; stop at the last int8 tensor when it gets stuck."""
        within = OPERATORS[chain.kind].int8_range
        low, high = (-128.0, 127.0) if within else (-_INF, _INF)
        saved: tuple[Expr, int, int] | None = None  # output, bindings, post-ops at the last int8
        if dtype_of(chain.output) == "int8":
            saved = (chain.output, len(chain.bindings), len(chain.post_ops))
        while self._once(chain.output):
            reader = self.uses[chain.output][0]
            if reader is None or reader.var in self.claimed:
                break
            if dtype_of(chain.output) == "int8":
                if not (widens(reader.value) and -128 <= low and high <= 127):
                    break
                low, high = self._take(chain, reader, [], (low, high))
                continue
            if op_name(reader.value) == "astype" and dtype_of(reader.var) == "int8":
                low, high = self._take(chain, reader, [], (low, high))
                saved = (chain.output, len(chain.bindings), len(chain.post_ops))
                continue
            if (product := self._product(chain, reader)) is not None:
                chain.summands.append(product)
                chain.bindings += product.bindings
                low, high = self._take(chain, reader, [], (low, high))
                continue
            if (found := self._post_ops(chain.output, reader)) is None:
                break
            if (
                found[0][0][0] == "mul"
                and widens(chain.bindings[-1].value)
                and not _is_empty(chain)
            ):
                break  # a diagonal weight multiplies an int8 tensor: another layer
            post_ops, extra = found
            chain.bindings += extra
            low, high = self._take(chain, reader, post_ops, (low, high))
        if dtype_of(chain.output) == "int32" and saved is not None and not self._leaves(chain):
            chain.output = saved[0]
            del chain.bindings[saved[1] :], chain.post_ops[saved[2] :]

    def _leaves(self, chain: Chain) -> bool:
        """Whether an int32 result is what the host wants: a result, or made float."""
        readers = self.uses.get(chain.output, [])
        return all(r is None or dtype_of(r.var) == "float32" for r in readers)

    @staticmethod
    def _take(
        chain: Chain,
        reader: Expr,
        post_ops: list[tuple[str, Any, Expr | None]],
        interval: tuple[float, float],
    ) -> tuple[float, float]:
        """Append a reader and its post-ops; return the interval of the values after it."""
        chain.bindings.append(reader)
        chain.output = reader.var
        low, high = interval
        for op, value, var in post_ops:
            alone = len(chain.post_ops) == 1 and OPERATORS[chain.kind].starts_empty
            if op == "shl" and alone and isinstance(value, int):
                chain.post_ops[0] = (
                    "add_tensor",
                    chain.post_ops[0][1] + value,
                    chain.post_ops[0][2],
                )
            elif op == "mul" and _is_empty(chain):
                chain.post_ops[0] = ("add_scaled", value, chain.post_ops[0][2])
            else:
                chain.post_ops.append((op, value, var))
            if POST_OPS[op].operand == "limit":
                low, high = (float(POST_OPS[op].meaning(x, value, None)) for x in (low, high))
            else:
                low, high = -_INF, _INF
        return low, high

    def _post_ops(self, var: Expr, reader: Expr) -> _Found | None:
        """Return what `reader` does to accumulator `var`, or None where no pattern has it."""
        if dtype_of(reader.var) != "int32" or static_shape(reader.var) != static_shape(var):
            return None
        found = (pattern(self, var, reader.value) for pattern in self.PATTERNS)
        return next((one for one in found if one is not None), None)

    def _relu(self, var: Expr, value: Expr) -> _Found | None:
        return ([("max", 0, None)], []) if op_name(value) == "nn.relu" else None

    def _clip(self, var: Expr, value: Expr) -> _Found | None:
        if op_name(value) != "clip":
            return None
        low, high = (int(getattr(a, "value", a)) for a in value.args[1:3])
        return [("max", max(low, INT32_MIN), None), ("min", min(high, INT32_MAX), None)], []

    def _constant(self, var: Expr, value: Expr) -> _Found | None:
        """Read an operator on the accumulator and a constant, by the table of post-ops."""
        row = BY_RELAX_OP.get(op_name(value))
        if row is None or (row.operand == "shift" and not value.args[0].same_as(var)):
            return None
        number = _operand(_other(value, var), static_shape(var))
        if number is None or not (row.per_channel or isinstance(number, int)):
            return None
        return [(row.name, number, None)], []

    def _product(self, chain: Chain, reader: Expr) -> Chain | None:
        """Return the other product that `reader` adds to a product nothing but added to so far."""
        value, var = reader.value, chain.output
        if not OPERATORS[chain.kind].adds_up or op_name(value) != "add":
            return None
        other = _other(value, var)
        binding = self.by_var.get(other)
        if binding is None or other in self.claimed or not self._once(other):
            return None
        found = self._start(binding)
        if found is None or not OPERATORS[found.kind].adds_up:
            return None
        commutes = all(POST_OPS[op].addition for op, _, _ in chain.post_ops)
        return found if commutes and static_shape(other) == static_shape(var) else None

    def _residual(self, var: Expr, value: Expr) -> _Found | None:
        """Read an int8 tensor astype int32, perhaps shifted left or multiplied by a constant."""
        if op_name(value) != "add":
            return None
        var, shape = _other(value, var), static_shape(var)
        binding = self.by_var.get(var)
        taken: list[Expr] = []
        post_op: tuple[str, int | NDArray[np.int32]] = ("add_tensor", 0)
        change = "" if binding is None else op_name(binding.value)
        if binding is not None and change in ("left_shift", "multiply") and self._once(var):
            number = _operand(binding.value.args[1], shape)
            if change == "multiply" and number is not None:
                post_op = ("add_scaled", number)
            elif change == "left_shift" and isinstance(number, int):
                post_op = ("add_tensor", number)
            else:
                return None
            taken.append(binding)
            binding = self.by_var.get(binding.value.args[0])
        if binding is None or not widens(binding.value) or not self._once(binding.var):
            return None
        if static_shape(binding.var) != shape or binding.var in self.claimed:
            return None
        return [(*post_op, binding.value.args[0])], [*taken, binding]

    #: What can change an accumulator that this reader alone reads, the first that fits.
    PATTERNS: ClassVar[tuple[Callable[[ChainFinder, Expr, Expr], _Found | None], ...]] = (
        _relu,
        _clip,
        _constant,
        _residual,
    )


def _is_empty(chain: Chain) -> bool:
    """Whether nothing was done yet with an int8 tensor but to make it an accumulator."""
    return OPERATORS[chain.kind].starts_empty and [
        (op, value) for op, value, _ in chain.post_ops
    ] == [("add_tensor", 0)]


def _other(value: Expr, var: Expr) -> Expr:
    """Return the operand of a call of two that is not `var`."""
    return value.args[1] if value.args[0].same_as(var) else value.args[0]


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
