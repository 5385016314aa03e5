"""Fold per-channel factors, BatchNorm's above all, into weights as Relay's FoldScaleAxis does.

Backward first: a factor ``s`` moves against the data through single-use ``add(·, constant)`` and,
where all of it is positive, ``relu``, into the convolution before: ``w · s``. Then forward, for
what is left (a BatchNorm before its convolution): ``x · s + t = (x + t / s) · s``, and ``s`` moves
with the data into the weights of all convolutions that read it. Each step is one float32 rounding.

Source: behaviour of Apache TVM 0.9 (src/relay/transforms/fold_scale_axis.cc), restated here.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from relay_passes.stock_relay.nodes import Array, Node, constant, count_uses, post_order

#: What a node's readers say of a factor on its channels: none, a positive one, or any is fine.
_NONE: Final = 0
_POSITIVE: Final = 1
_ANY: Final = 2


def fold_scales(root: Node) -> Node:
    """Move constant per-channel factors into weights, backward and then forward."""
    return _fold_forward(_fold_backward(root))


def _factor(node: Node) -> tuple[Node, Array] | None:
    """Return the data and the factor, float32[1, C, 1, 1], of a product with a channel constant."""
    for data, factor in (node.args, node.args[::-1]) if node.op == "multiply" else ():
        if _is_channel_constant(factor) and data.value is None:
            assert factor.value is not None
            return data, factor.value
    return None


def _is_channel_constant(node: Node) -> bool:
    """Tell whether a node is a constant of one number per channel."""
    return node.value is not None and node.value.ndim == 4 and node.value.size == len(node.value[0])


def _takes_scale(conv: Node) -> bool:
    """Tell whether a convolution's weights can take factors: constant, not grouped or depthwise."""
    weight, groups = conv.args[1].value, int(conv.origin.attrs.groups)
    return weight is not None and (groups == 1 or weight.shape[:2] == (groups, 1))


# ----------------------------------------------------------------------------------------- backward


def _fold_backward(root: Node) -> Node:
    """Move factors into the convolutions before them."""
    uses = count_uses(root)
    new: dict[Node, Node] = {}
    for node in post_order(root):
        new[node] = node.with_args([new[arg] for arg in node.args]) if node.args else node
        found = _factor(node)
        if found and _carries_scale(found[0], uses, positive=bool((found[1] > 0).all())):
            new[node] = _scaled(new[found[0]], found[1])
    return new[root]


def _carries_scale(node: Node, uses: Counter[Node], *, positive: bool) -> bool:
    """Tell whether a factor on a node's channels can move into weights before it."""
    if uses[node] != 1:
        return False
    if node.op == "conv2d":
        return _takes_scale(node)
    if node.op == "relu":
        return positive and _carries_scale(node.args[0], uses, positive=positive)
    if node.op == "add":
        return all(
            _is_channel_constant(arg) or _carries_scale(arg, uses, positive=positive)
            for arg in node.args
        )
    return False


def _scaled(node: Node, scale: Array) -> Node:
    """Return a node that computes `scale` times as much, by changed weights."""
    if node.value is not None:
        return constant(node.value * scale, node.dtype)
    if node.op == "conv2d":
        return _with_scaled_weight(node, node.args[0], scale.reshape(-1, 1, 1, 1))
    return node.with_args([_scaled(arg, scale) for arg in node.args])


def _with_scaled_weight(conv: Node, data: Node, scale: Array) -> Node:
    """Return a convolution of `data` with weights multiplied by `scale`, broadcast to OIHW."""
    weight = conv.args[1].value
    assert weight is not None
    return conv.with_args((data, constant(weight * scale, "float32")))


# ------------------------------------------------------------------------------------------ forward


def _fold_forward(root: Node) -> Node:
    """Move factors into all the convolutions that read them."""
    allowed = _allowed_factors(root)
    new: dict[Node, Node] = {}
    scales: dict[Node, Array] = {}
    for node in post_order(root):
        args = [new[arg] for arg in node.args]
        new[node] = node.with_args(args) if args else node
        found = _factor(node)
        if found and found[0] not in scales:
            data, factor = found
            if allowed[node] == _ANY or (allowed[node] == _POSITIVE and (factor > 0).all()):
                new[node], scales[node] = new[data], factor
            continue
        scale = next((scales[arg] for arg in node.args if arg in scales), None)
        if scale is None:
            continue
        if node.op == "conv2d":
            axes = (-1, 1, 1, 1) if int(node.origin.attrs.groups) > 1 else (1, -1, 1, 1)
            new[node] = _with_scaled_weight(node, args[0], scale.reshape(axes))
        else:
            scales[node] = scale
            new[node] = node.with_args(
                [a if a.value is None else constant(a.value / scale, a.dtype) for a in args]
            )
    return new[root]


def _allowed_factors(root: Node) -> dict[Node, int]:
    """Return for each node which factors all of its readers would take."""
    allowed = dict.fromkeys(post_order(root), _ANY)
    allowed[root] = _NONE
    for node in reversed(list(post_order(root))):
        for index, arg in enumerate(node.args):
            allowed[arg] = min(allowed[arg], _taken_by(node, index, allowed[node]))
    return allowed


def _taken_by(node: Node, index: int, beyond: int) -> int:
    """Return which factors on an operand a node takes, where `beyond` is what its readers take."""
    if node.op == "conv2d":
        return _ANY if index == 0 and _takes_scale(node) else _NONE
    if node.op == "relu":
        return min(beyond, _POSITIVE)
    if node.op == "add":
        return beyond if _is_channel_constant(node.args[1 - index]) else _NONE
    return _NONE
