"""What the rest of the project knows of an operator: one row of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, ints
from relay_passes.operators.chain import NO_SIDES, Chain, MakerOf, Sides
from relay_passes.operators.rules import Rule


class Window(NamedTuple):
    """What an output is made of: a kernel's extent, and how it moves over the feature map.

    Parameters
    ----------
    kernel, stride, dilation : tuple[int, int]
        (vertical, horizontal).
    padding : tuple[int, int, int, int]
        (top, left, bottom, right).
    pad_value : int
        The number outside of the feature map: what stands for 0.0 there.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Sides = NO_SIDES
    pad_value: int = 0

    @classmethod
    def of(cls, attrs: Any, kernel: tuple[int, ...]) -> Window:
        """Read the attributes of a convolution or pool."""
        top, left, bottom, right = ints(attrs.padding)
        (rows, columns), (sy, sx), (dy, dx) = kernel, ints(attrs.strides), ints(attrs.dilation)
        return cls((rows, columns), (sy, sx), (dy, dx), (top, left, bottom, right))

    def extent(self, in_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the rows and columns of the output, rounded down."""
        rows, columns = (
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, before, after, kernel, stride, dilation in zip(
                in_shape[2:], self.padding[:2], self.padding[2:], *self[:3], strict=True
            )
        )
        return rows, columns

    def views(
        self, x: NDArray[np.int64], out_shape: tuple[int, ...], *, fill: int | None = None
    ) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Return each tap (row, column) with what it reads for every output, [N, C, OH, OW].

        Outside of the feature map it reads `fill`, by default the window's `pad_value`.
        """
        fill = self.pad_value if fill is None else fill
        top, left, bottom, right = self.padding
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
        found = []
        for dy, dx in np.ndindex(*self.kernel):
            part = x[:, :, dy * self.dilation[0] :: self.stride[0]]
            part = part[:, :, :, dx * self.dilation[1] :: self.stride[1]]
            found.append((dy, dx, part[:, :, : out_shape[2], : out_shape[3]]))
        return found


class Reading(NamedTuple):
    """What an anchor says of its layer.

    Parameters
    ----------
    kind : str
        The layer's; a dense layer on a feature map is a convolution.
    window : Window
    weight : int8[O, I, KH, KW] or None
        OIHW.
    """

    kind: str
    window: Window = Window()
    weight: NDArray[np.int8] | None = None


#: The accumulator that a layer starts with: of its data int64[N, C, H, W], its weight, its window
#: and the output's shape.
Meaning = Callable[
    [NDArray[np.int64], "NDArray[np.int8] | None", Window, tuple[int, ...]], NDArray[np.int64]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerForm:
    """How `Requantize` makes an operator with a weight one of integers.

    Parameters
    ----------
    fits : callable
        Whether a call of the float graph has an integer implementation.
    make : callable
        Return the call that makes int32[...] of int8 data and an int8 weight, and pads by so many
        rows and columns: (top, left, bottom, right).
    padding : callable
        How many a call of the float graph pads.
    """

    fits: Callable[[Expr], bool]
    make: Callable[[Expr, Expr, NDArray[np.int8], Sides], Expr]
    padding: Callable[[Expr], Sides] = lambda call: NO_SIDES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operator:
    """An operator that starts an accumulator.

    Parameters
    ----------
    kind : str
        Its name, here and in reports: ``"conv2d"``.
    title : str
        What people call it.
    float_op, integer_op : str
        What Relax calls it in the float graph, and the anchor of its layers in the integer graph.
    rules : tuple of Rule
        What must hold for VTA to take it.
    start : callable
        Return the chain that a binding of `integer_op` starts, or None.
    read : callable
        Read the anchor's call, given the input's shape, NCHW.
    out_shape : callable
        The output's shape from the input's, the window and the weight's shape (None without).
    meaning : Meaning
        Its numpy meaning.
    how : str
        How VTA computes it, for people.
    weight_axis : int or None
        Axis of the weight's output channels; None without a weight.
    integer : IntegerForm or None
        Its integer implementation, where it has a weight.
    by_channel : bool
        Whether an output channel reads the input channel of its number and no other.
    by_group : bool
        Whether an output channel reads the input channels of its group, as many as its weight
        has.
    takes_product : bool
        Whether its anchor could start a layer of another kind: it is asked before that.
    starts_empty : bool
        Whether the accumulator starts at 0 and every operand is a residual.
    adds_up : bool
        Whether its accumulator may be added to another's before that one's post-ops.
    keeps_scale : bool
        Whether it moves values and computes nothing: the output has the input's scale.
    int8_range : bool
        Whether what it starts with lies within int8.
    pads : bool
        Whether it may read a number of its own outside of the feature map: `Window.pad_value`.
    moves : bool
        Whether it only copies numbers of its inputs, as `Chain.movement` says.
    takes_factor : bool
        Whether its second input has a number for each channel, by which the first is multiplied.
    more_ops : tuple of str
        Further operators of Relax that it is, in both graphs.
    """

    kind: str
    title: str
    float_op: str
    integer_op: str
    rules: tuple[Rule, ...]
    start: Callable[[Expr, MakerOf], Chain | None]
    read: Callable[[Expr, tuple[int, ...]], Reading]
    out_shape: Callable[[tuple[int, ...], Window, tuple[int, ...] | None], tuple[int, ...]]
    meaning: Meaning
    how: str
    weight_axis: int | None = None
    integer: IntegerForm | None = None
    by_channel: bool = False
    by_group: bool = False
    takes_product: bool = False
    starts_empty: bool = False
    adds_up: bool = False
    keeps_scale: bool = False
    int8_range: bool = False
    pads: bool = False
    moves: bool = False
    takes_factor: bool = False
    more_ops: tuple[str, ...] = ()

    @property
    def float_ops(self) -> tuple[str, ...]:
        """All operators of the float graph that become it."""
        return (self.float_op, *self.more_ops)

    @property
    def integer_ops(self) -> tuple[str, ...]:
        """All operators of the integer graph that may be its layers' anchors."""
        return (self.integer_op, *self.more_ops)

    @property
    def has_weight(self) -> bool:
        """Whether it multiplies its input with a weight."""
        return self.weight_axis is not None


def macs(out_shape: tuple[int, ...], weight_shape: tuple[int, ...], axis: int = 0) -> int:
    """Return the multiply-accumulates of an operator whose weight's output channels are `axis`."""
    return prod(out_shape) * prod(weight_shape) // max(1, weight_shape[axis])
