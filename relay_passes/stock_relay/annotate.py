"""Relay's *annotate*: put `simulated_quantize` before operands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relay_passes.stock_relay.nodes import Node, Rule, unsupported
from relay_passes.stock_relay.options import Kind, StockOptions


@dataclass(frozen=True, slots=True, eq=False)
class _Annotated:
    """An expression that will be quantized, and the kind of its value."""

    node: Node
    kind: Kind

    def realize(self) -> Node:
        """Return the expression."""
        return self.node


@dataclass(slots=True)
class Annotate:
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
