"""TVM 0.9's `relay.quantize`, integer for integer, as a pass over Relax: the baseline.

Relay's quantization runs four rewrites over a float network whose BatchNorms are folded
(`stock_graph`, `stock_fold`):

1. *partition*: where a convolution's section ends, ``cast_hint(int8)`` and ``stop_fusion`` mark
   that the value will be stored in 8 bits;
2. *annotate*: ``simulated_quantize`` nodes are put before operands, of kind INPUT (8 bits), WEIGHT
   (8 bits, biases too) or ACTIVATION (32 bits); a node with several users is quantized once;
3. *calibrate*: activations get the scale ``global_scale / 2^(nbit − 1)`` everywhere, constants
   ``2^⌈log2 max|w|⌉ / 2^(nbit − 1)`` (`power2`) or ``max|w| / 2^(nbit − 1)`` (`max`);
4. *realize*: integers. A change of scale by 2^n is a shift (2^(n−1) added first when
   `round_for_shift`), any other a 32-bit fixed-point multiplication; then a clip to
   ±(2^(nbit − 1) − 1) — but a ``cast_hint`` without ``simulated_quantize`` wraps: what a user of
   Relay gets from the last residual sum.

Source: the documented behaviour and sources of Apache TVM 0.9 (python/tvm/relay/quantize,
src/relay/quantize, src/relay/qnn/utils.cc), restated here. What `StockRelay` leaves out of Relay:
calibration on data (`kl_divergence`, `percentile`), `do_simulation`, `debug_enabled_ops` and the
partitioned output format. Casts that change nothing and ``stop_fusion`` are not written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relay_passes.graph import GraphPass, Module
from relay_passes.stock_relay.fold_scales import fold_scales
from relay_passes.stock_relay.nodes import Node, Rule, read_nodes, rewrite, unsupported, write_nodes
from relay_passes.stock_relay.realize import Kind, Realize, StockOptions

__all__ = ["StockOptions", "StockRelay"]


@dataclass(frozen=True, slots=True)
class StockRelay(GraphPass):
    """Quantize a float Relax module as TVM 0.9's Relay did.

    Parameters
    ----------
    options : StockOptions
        Relay's qconfig.

    Examples
    --------
    >>> quantized = StockRelay(StockOptions(global_scale=4.0))(module)  # doctest: +SKIP
    """

    options: StockOptions = field(default_factory=StockOptions)

    def transform(self, mod: Module) -> Module:
        """Return the quantized module.

        Parameters
        ----------
        mod : IRModule
            ``main`` is a float network in NCHW with constant weights, BatchNorm folded or not.

        Raises
        ------
        UnsupportedModelError
            When Relay could not quantize the network either, or it has control flow.
        """
        return write_nodes(quantize_nodes(fold_scales(read_nodes(mod)), self.options), mod)


def quantize_nodes(graph: Node, options: StockOptions) -> Node:
    """Run Relay's four rewrites over a float graph."""
    graph = rewrite(graph, _Partition(options).rules())
    annotate = _Annotate(options)
    graph = rewrite(graph, annotate.rules(), on_shared=annotate.share)
    return rewrite(graph, Realize(options).rules())


# ---------------------------------------------------------------------------------------- partition


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """A value inside a section that a convolution began."""

    node: Node

    def realize(self) -> Node:
        """End the section; every end is a node of its own."""
        hint = Node(op="cast_hint", args=(self.node,))
        return Node(op="stop_fusion", args=(hint,))


@dataclass(frozen=True, slots=True)
class _Partition:
    """Say where sections of quantized operators begin and end."""

    options: StockOptions

    def rules(self) -> dict[str, Rule]:
        """Return the rule of each operator that has one."""
        inside = dict.fromkeys(("relu", "clip", "max_pool2d"), self._identity)
        return inside | {
            "conv2d": self._conv2d,
            "add": self._add,
            "multiply": self._multiply,
            "global_avg_pool2d": self._global_avg_pool2d,
        }

    @staticmethod
    def _conv2d(node: Node, args: list[Any]) -> _Marked:
        """Begin a section after a convolution."""
        data, weight = args
        if isinstance(weight, _Marked):
            raise unsupported(node, "must have constant weights")
        return _Marked(node.with_args((_end(data), weight)))

    @staticmethod
    def _identity(node: Node, args: list[Any]) -> _Marked | None:
        """Stay in the operand's section."""
        (data,) = args
        return _Marked(node.with_args((data.node,))) if isinstance(data, _Marked) else None

    @staticmethod
    def _add(node: Node, args: list[Any]) -> _Marked | Node | None:
        """Stay for a bias; end both sections at a residual sum, which begins one if both had."""
        left, right = args
        if isinstance(left, _Marked) and isinstance(right, _Marked):
            return _Marked(node.with_args((left.realize(), right.realize())))
        if isinstance(left, _Marked):
            if right.op == "const":
                return _Marked(node.with_args((left.node, right)))
            return node.with_args((left.realize(), right))
        if isinstance(right, _Marked):
            return node.with_args((left, right.realize()))
        return None

    @staticmethod
    def _multiply(node: Node, args: list[Any]) -> _Marked | None:
        """End the section before a product and begin one after it."""
        left, right = args
        if isinstance(left, _Marked):
            if isinstance(right, _Marked):
                raise unsupported(node, "must not multiply two results of convolutions")
            return _Marked(node.with_args((left.realize(), right)))
        if isinstance(right, _Marked):
            return _Marked(node.with_args((left, right.realize())))
        return None

    @staticmethod
    def _global_avg_pool2d(node: Node, args: list[Any]) -> Node:
        """End a section before the pool, even when there is none."""
        (data,) = args
        return node.with_args(((data if isinstance(data, _Marked) else _Marked(data)).realize(),))


def _end(value: Any) -> Node:
    """Return the expression of a value, with its section ended when it has one."""
    return value.realize() if isinstance(value, _Marked) else value


# ----------------------------------------------------------------------------------------- annotate


@dataclass(frozen=True, slots=True, eq=False)
class _Annotated:
    """An expression that will be quantized, and the kind of its value."""

    node: Node
    kind: Kind

    def realize(self) -> Node:
        """Return the expression."""
        return self.node


@dataclass(slots=True)
class _Annotate:
    """Put `simulated_quantize` before operands; counts convolutions while it runs."""

    options: StockOptions
    _convolutions: int = 0
    _stopped: bool = False
    _attached: dict[tuple[Node, Kind], Node] = field(default_factory=dict)

    def rules(self) -> dict[str, Rule]:
        """Return the rule of each operator that has one."""
        keeping = (
            "reshape clip relu strided_slice avg_pool2d transpose stop_fusion"  # kinds pass through
        ).split()
        rules = dict.fromkeys(keeping, self._identity) | {
            "conv2d": self._weighted,
            "dense": self._dense,
            "multiply": self._multiply,
            "add": self._add,
            "max_pool2d": self._stored,
            "cast_hint": self._cast_hint,
            "concatenate": self._concatenate,
            "global_avg_pool2d": self._global_avg_pool2d,
        }
        return {op: self._unless_skipped(rule) for op, rule in rules.items()}

    def share(self, value: Any) -> Any:
        """Quantize a pending value that has several users once, for all of them."""
        if isinstance(value, _Annotated):
            return _Annotated(self._attach(value.node, "input"), "input")
        return value

    def _attach(self, data: Node, kind: Kind) -> Node:
        """Return `data` quantized to a kind, the same node for the same data and kind."""
        if data.op == "simulated_quantize" and data.attrs["kind"] == kind:
            return data
        key = (data, kind)
        if key not in self._attached:
            self._attached[key] = Node(
                op="simulated_quantize", args=(data,), attrs={"kind": kind}, name=data.name
            )
        return self._attached[key]

    def _unless_skipped(self, rule: Rule) -> Rule:
        """Leave operators after a global average pool, and the convolutions to skip."""

        def guarded(node: Node, args: list[Any]) -> Any:
            if node.op == "dense" and self.options.skip_dense_layer:
                return None
            skipped = self._stopped
            if not skipped and node.op == "conv2d" and self.options.skip_conv_layers is not None:
                skipped = self._convolutions in self.options.skip_conv_layers
                self._convolutions += 1
            if skipped:
                return _plain(args[0]) if node.op == "cast_hint" else None
            return rule(node, args)

        return guarded

    def _as_input(self, value: Any) -> Node:
        """Return an operand that is quantized to INPUT unless it is already."""
        if isinstance(value, _Annotated) and value.kind != "activation":
            return value.node
        return self._attach(_plain(value), "input")

    def _as_weight(self, value: Node) -> Node:
        """Return an operand quantized to WEIGHT when it is a constant, else to INPUT."""
        return self._attach(value, "weight" if value.op == "const" else "input")

    def _weighted(self, node: Node, args: list[Any]) -> _Annotated:
        """Quantize the data to INPUT and the weights to WEIGHT."""
        data, weight = args
        if isinstance(weight, _Annotated) or weight.op != "const":
            raise unsupported(node, "must have constant weights")
        operands = (self._as_input(data), self._attach(weight, "weight"))
        return _Annotated(node.with_args(operands), "activation")

    def _dense(self, node: Node, args: list[Any]) -> _Annotated:
        """Treat a dense layer like a convolution."""
        return self._weighted(node, args)

    def _multiply(self, node: Node, args: list[Any]) -> _Annotated | None:
        """Quantize the pending side to INPUT and the other one by what it is."""
        left, right = args
        pending = [isinstance(value, _Annotated) for value in args]
        if not any(pending):
            return None
        if all(pending):
            raise unsupported(node, "must not multiply two quantized values")
        if pending[0]:
            operands = (self._as_input(left), self._as_weight(right))
        else:
            weight = self._as_weight(left)
            operands = (weight, self._as_input(right))
        return _Annotated(node.with_args(operands), "activation")

    def _add(self, node: Node, args: list[Any]) -> _Annotated | None:
        """Quantize plain operands; of two ACTIVATIONs, the right one."""
        left, right = args
        if isinstance(left, _Annotated) and isinstance(right, _Annotated):
            if left.kind == right.kind == "activation":
                operands = (left.node, self._attach(right.node, "input"))
                return _Annotated(node.with_args(operands), "activation")
            both_stored = left.kind == right.kind == "input"
            kind: Kind = "input" if both_stored else "activation"
            return _Annotated(node.with_args((left.node, right.node)), kind)
        if isinstance(right, _Annotated):
            return _Annotated(node.with_args((self._attach(left, "input"), right.node)), "input")
        if isinstance(left, _Annotated):
            return _Annotated(node.with_args((left.node, self._as_weight(right))), "activation")
        return None

    @staticmethod
    def _identity(node: Node, args: list[Any]) -> _Annotated | None:
        """Keep the operand's kind."""
        (data,) = args
        if isinstance(data, _Annotated):
            return _Annotated(node.with_args((data.node,)), data.kind)
        return None

    def _stored(self, node: Node, args: list[Any]) -> _Annotated | None:
        """Take the operand as INPUT and keep it so."""
        (data,) = args
        if isinstance(data, _Annotated):
            return _Annotated(node.with_args((self._as_input(data),)), "input")
        return None

    def _cast_hint(self, node: Node, args: list[Any]) -> _Annotated | Node:
        """Drop the hint where nothing is quantized."""
        return self._stored(node, args) or args[0]

    def _concatenate(self, node: Node, args: list[Any]) -> _Annotated | None:
        """Quantize plain operands to ACTIVATION when another one is pending."""
        if not any(isinstance(value, _Annotated) for value in args):
            return None
        operands = [
            value.node if isinstance(value, _Annotated) else self._attach(value, "activation")
            for value in args
        ]
        return _Annotated(node.with_args(operands), "activation")

    def _global_avg_pool2d(self, node: Node, args: list[Any]) -> Node | None:
        """Quantize nothing that comes after a quantized global pool."""
        (data,) = args
        if not isinstance(data, _Annotated):
            return None
        self._stopped = True
        return node.with_args((data.node,))


def _plain(value: Any) -> Node:
    """Return the expression of a value."""
    return value if isinstance(value, Node) else value.realize()
