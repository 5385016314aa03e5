"""Make transposed convolutions of convolutions, one a phase, and put them side by side.

Row s * q + r of a transposed convolution of stride s reads every s-th tap only, of rows next to q:
a phase r of its output is a convolution of its own, without any multiplication by zero. With s * s
phases as channels, the output is

    out[c, s * y + a, s * x + b] = phases[a * s + b][c, y, x],

which moves numbers and computes nothing. Factors, offsets and activations behind a transposed
convolution belong to its phases.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.float_model.fold_batch_norm import channel_constant
from relay_passes.float_model.fold_scales import affine_of
from relay_passes.graph import (
    Expr,
    Graph,
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
from relay_passes.operators.calls import ACTIVATIONS

#: Elements of all phases' weights together, above which a layer is left as it is.
_MOST_WEIGHTS: Final = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPhases(GraphPass):
    """Replace transposed convolutions by convolutions; see the text."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with one convolution a phase."""
        graph = read_graph(mod)
        tails = {b.var: tail for b in graph.bindings if (tail := _transposed(b, graph)) is not None}
        if not tails:
            return mod
        ends = {tail.end: var for var, tail in tails.items()}
        within = {v for tail in tails.values() for v in tail.within}
        calls: dict[Expr, Expr] = {}

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            if var in tails:
                calls[var] = value
            if var in ends:
                first = ends[var]
                return _as_phases(builder, var, calls[first], tails[first])
            return None if var in within else value

        return rewrite(mod, visit)


class _Side(NamedTuple):
    """A phase along one axis: its taps in order, and the zeros before and after the input."""

    taps: tuple[int, ...]
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tail:
    """A transposed convolution and what follows it: factor * x + offset, then activations."""

    sides: tuple[tuple[_Side, ...], tuple[_Side, ...]]
    shape: tuple[int, ...]
    end: Expr
    within: tuple[Expr, ...]
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    activations: tuple[Expr, ...]


# ---- transposed convolutions ---------------------------------------------------------------------
def _transposed(binding: Expr, graph: Graph) -> _Tail | None:
    """Return a transposed convolution that splits into phases, with its tail."""
    call = binding.value
    if op_name(call) != "nn.conv2d_transpose" or constant(call.args[1]) is None:
        return None
    attrs = call.attrs
    plain = str(attrs.data_layout) == "NCHW" and str(attrs.kernel_layout) == "IOHW"
    if not plain:
        return None
    size, out, weight = (static_shape(x) for x in (call.args[0], binding.var, call.args[1]))
    strides, dilation = ints(attrs.strides), ints(attrs.dilation)
    padding = ints(attrs.padding)[:2]
    if np.prod(weight) * np.prod(dilation) > _MOST_WEIGHTS:
        return None
    rows, columns = (
        _sides(*line) for line in zip(weight[2:], strides, dilation, padding, size[2:], out[2:],
                                      strict=True)
    )  # fmt: skip
    return _with_tail(binding, graph, (rows, columns))


def _sides(
    kernel: int, stride: int, dilation: int, padding: int, size: int, out: int
) -> tuple[_Side, ...]:
    """Return the phases along one axis; taps of -1 are zeros, which crop the input.

    out[s * q + r] = sum_j w[t + s * j] * x[q + d - j], where t = (r + p) mod s and
    d = (r + p - t) / s, is a convolution with the taps in reverse. A dilated kernel has zeros
    between its taps, and a phase that no tap reaches is all zeros.
    """
    rows, phases = -(-out // stride), []
    for r in range(stride):
        first = (r + padding) % stride
        places = [*range(first, (kernel - 1) * dilation + 1, stride)][::-1] or [-1]
        taps = [-1 if place % dilation else place // dilation for place in places]
        ahead = (r + padding - first) // stride
        before, after = len(taps) - 1 - ahead, rows - size + ahead
        taps = [-1] * max(0, -before) + taps + [-1] * max(0, -after)
        phases.append(_Side(tuple(taps), max(0, before), max(0, after)))
    return tuple(phases)


def _with_tail(
    binding: Expr, graph: Graph, sides: tuple[tuple[_Side, ...], tuple[_Side, ...]]
) -> _Tail:
    """Follow what alone reads a transposed convolution, as long as its phases can compute it."""
    uses, end, passed = graph.uses(), binding.var, []
    channels = static_shape(end)[1]
    factor, offset, activations = np.ones(channels), np.zeros(channels), []
    while len(readers := uses.get(end, [])) == 1 and readers[0] is not None:
        value, found = readers[0].value, affine_of(readers[0].value, readers[0].var)
        if op_name(value) in ACTIVATIONS:
            activations.append(value)
        elif found is not None and not activations:
            factor, offset = factor * found.factor, offset * found.factor + found.offset
        else:
            break
        passed.append(end)
        end = readers[0].var
    return _Tail(
        sides=sides,
        shape=static_shape(binding.var),
        end=end,
        within=tuple(passed),
        factor=factor,
        offset=offset,
        activations=tuple(activations),
    )


def _as_phases(builder: GraphBuilder, var: Expr, call: Expr, tail: _Tail) -> Expr:
    """Emit the phases of a transposed convolution and put them side by side."""
    weight, groups, name = constant(call.args[1]), int(call.attrs.groups), str(var.name)
    assert weight is not None
    read, each, *_ = weight.shape
    split = weight.astype(np.float64).reshape(groups, read // groups, each, *weight.shape[2:])
    kernel = split.transpose(0, 2, 1, 3, 4).reshape(groups * each, -1, *weight.shape[2:])
    kernel = kernel * tail.factor.reshape(-1, 1, 1, 1)
    # A tap of -1 is the last one of a kernel with zeros behind it.
    kernel = np.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 1)))
    phases = [*product(*tail.sides)]
    parts = [kernel[:, :, list(y.taps)][..., list(x.taps)] for y, x in phases]
    paddings = [(y.before, x.before, y.after, x.after) for y, x in phases]
    together = (
        groups == 1 and len({(p.shape, s) for p, s in zip(parts, paddings, strict=True)}) == 1
    )
    offsets = [tail.offset] * len(parts)
    if together:
        parts, paddings = [np.concatenate(parts)], paddings[:1]
        offsets = [np.concatenate(offsets)]
    made = []
    for index, (part, sides, offset) in enumerate(zip(parts, paddings, offsets, strict=True)):
        own = f"{name}.phase{index}"
        x = builder.emit(
            relax.op.nn.conv2d(
                call.args[0], relax.const(part.astype(np.float32)), padding=sides, groups=groups
            ),
            own,
        )
        if offset.any():
            x = builder.emit(relax.op.add(x, channel_constant(offset, 4)), own)
        for step in tail.activations:
            args = [x, *step.args[1:]]
            x = builder.emit(relax.Call(step.op, args, step.attrs, step.ty_args), own)
        made.append(x)
    if len(phases) == 1:
        return made[0]  # of stride 1
    factors = len(tail.sides[0]), len(tail.sides[1])
    return _side_by_side(builder, made, factors, tail.shape, name)


def _side_by_side(
    builder: GraphBuilder,
    phases: list[Expr],
    factors: tuple[int, int],
    shape: tuple[int, ...],
    name: str,
) -> Expr:
    """Emit what puts phases, float32[N, C, H, W] or all as channels, into their places."""
    n, channels, rows, columns = shape
    sy, sx = factors
    wide = phases[0]
    if len(phases) > 1:
        wide = builder.emit(relax.op.concat(relax.Tuple(phases), axis=1), f"{name}.phases")
    height, width = static_shape(phases[0])[2:]
    split = relax.op.reshape(wide, (n, sy, sx, channels, height, width))
    moved = relax.op.permute_dims(builder.emit(split, f"{name}.split"), [0, 3, 4, 1, 5, 2])
    whole = (n, channels, sy * height, sx * width)
    result = relax.op.reshape(builder.emit(moved, f"{name}.places"), whole)
    if whole == shape:
        return result
    whole_var = builder.emit(result, f"{name}.whole")
    return relax.op.strided_slice(whole_var, [2, 3], [0, 0], [rows, columns], [1, 1])
