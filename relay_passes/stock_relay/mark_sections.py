"""Relay's *partition*: mark where sections of quantized operators begin and end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay_passes.stock_relay.nodes import Node, Rule, unsupported
from relay_passes.stock_relay.options import StockOptions


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """A value inside a section that a convolution began."""

    node: Node

    def realize(self) -> Node:
        """End the section; every end is a node of its own."""
        hint = Node(op="cast_hint", args=(self.node,))
        return Node(op="stop_fusion", args=(hint,))


@dataclass(frozen=True, slots=True)
class MarkSections:
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
