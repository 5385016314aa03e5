"""Normal form: a layer as reductions, constants, residuals and an epilogue on the ALU.

Leading additions (bias, rounding constant, residuals) commute with the reduction: constants merge
into bias digits that one GEMM step adds, residuals become GEMM steps with a diagonal weight. What
follows the first shift or clip runs on the ALU in order. On machines of narrow operands the
reduction of a layer is several, one for each product of planes (planes.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from flow.compiler.averages import diagonal_weights
from flow.compiler.bias import LateConstants, RegisterOp, bias_digits
from flow.compiler.borders import border_of
from flow.compiler.edges import Edge, edges_of, rectangles_of
from flow.compiler.epilogue_ops import EpilogueOp, ImmediateOp, epilogue_ops
from flow.compiler.geometry import NO_RANGE, Range, split
from flow.compiler.multiply import ShiftAdds
from flow.compiler.planes import plane_exponents, weight_exponents, weight_plane
from flow.compiler.residual import (
    RESIDUAL_EXPONENTS,
    CopiedResiduals,
    Residual,
    residuals_of,
    weight_terms,
)
from flow.compiler.shapes import ConvShape
from flow.compiler.split_shift import with_split_shift
from flow.program.layouts import (
    NO_BORDER,
    Bundles,
    blocks,
    pack_diagonals,
    pack_groups,
    pack_weight,
)
from relay_passes.operators.avg_pool2d import OPERATOR as AVG_POOL2D
from relay_passes.operators.conv2d import OPERATOR as CONV2D

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from flow.program.input_form import InputForm
    from flow.program.layouts import Border
    from relay_passes.partition.layers import Layer, PostOp
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormalLayer:
    """A layer in normal form.

    Parameters
    ----------
    layer : Layer
    shape : ConvShape
        Extents in blocks; a layer without weights has `ic` 0.
    form : InputForm or None
        How its input must lie in DRAM; None as an activation does.
    digits : int8[oc, constants, block_out, block_in] or None
        Wgt elements of the bias, which lie before each block's kernel.
    residuals : tuple[Residual, ...]
        Added before the epilogue, by falling exponent.
    epilogue : tuple[EpilogueOp, ...]
        Run in order.
    pool : Layer or None
        A max-pool that is computed with the layer; its output is stored instead.
    total : NormalLayer or None
        A sum over the picture that is computed with the layer; its output is stored instead.
    flat : bool
        The kernel covers the picture: `shape` has each pixel's blocks as input channels.
    summands : tuple[NormalLayer, ...]
        Further reductions into the same accumulators, with nothing but `shape`, digits and a
        kernel: of further planes, and of further layers.
    own_digits : Range
        Those of `digits` that belong to this reduction; others with the same weights have others.
    edges : tuple[Edge, ...]
        Constants of some outputs; their digits are the last of `digits`.
    border : Border
        What it reads around its input in DRAM.
    exponents : tuple[int, ...]
        The powers of two that the accumulator stands for one after the other, falling to 0.
    weight_exponents : tuple[int, ...]
        Of each plane of its weights, falling.
    bias : int64[oc · block]
        The constants that are added before the epilogue, in whatever form.
    planes : Mapping[str, int]
        The planes of tensors in DRAM, by name; as many as int8 needs where there is none.
    bundles : Bundles or None
        Of a grouped convolution: `shape` has the input channels of one of them.
    input_multipliers : frozenset[int]
        The diagonal weights with which it adds its input, where it has no weights of its own.
    """

    layer: Layer
    shape: ConvShape
    form: InputForm | None
    digits: NDArray[np.int8] | None
    residuals: tuple[Residual, ...]
    epilogue: tuple[EpilogueOp, ...]
    pool: Layer | None = None
    total: NormalLayer | None = None
    flat: bool = False
    summands: tuple[NormalLayer, ...] = ()
    own_digits: Range = NO_RANGE
    edges: tuple[Edge, ...] = ()
    border: Border = NO_BORDER
    exponents: tuple[int, ...] = (0,)
    weight_exponents: tuple[int, ...] = (0,)
    bias: NDArray[np.int64] | None = None
    planes: Mapping[str, int] = field(default_factory=dict)
    bundles: Bundles | None = None
    input_multipliers: frozenset[int] = frozenset()

    @property
    def reductions(self) -> tuple[NormalLayer, ...]:
        """All that is summed up, by falling exponent; first the layer's own, then summands'."""
        return _falling((self, *self.summands))

    @property
    def has_further_layers(self) -> bool:
        """Whether it sums up more than the planes of one layer."""
        return any(part.shape.base for part in self.summands)

    @property
    def early_residuals(self) -> tuple[Residual, ...]:
        """Residuals that are added before the accumulator is shifted to the left."""
        return tuple(r for r in self.residuals if r.exponent)

    @property
    def last_residuals(self) -> tuple[Residual, ...]:
        """Residuals that are added to the whole sums."""
        return tuple(r for r in self.residuals if not r.exponent)

    @property
    def weight_elems(self) -> int:
        """Wgt elements of the bias digits and the kernel."""
        return self.shape.oc * (self.shape.constants + self.shape.ic * self.shape.taps)

    def weights(self, config: VTAConfig) -> NDArray[np.int8]:
        """Pack the wgt elements as they lie in DRAM: each block's bias digits, then its kernel.

        It takes long; so it is done once, when all that shapes decide has been chosen.

        Returns
        -------
        int8[oc, constants + ic·taps, block_out, block_in]
        """
        parts = [] if self.digits is None else [self.digits]
        if self.layer.weight is not None:
            exponents, index = self.weight_exponents, self.shape.weight_plane
            kernel = weight_plane(self.layer.weight, index, exponents, config)
            kernel = kernel if self.form is None else self.form.weight(kernel)
            if self.bundles is not None:
                packed = pack_groups(kernel, self.bundles, config)
            else:
                pack = pack_diagonals if self.layer.operator.by_channel else pack_weight
                packed = pack(kernel, config)
            parts.append(packed.reshape(packed.shape[0], -1, config.block, config.block))
        return np.concatenate(parts, axis=1)

    def input_blocks(self, oc: Range) -> Range:
        """Return the blocks of input channels that some blocks of output channels read."""
        if self.bundles is None:
            return Range(0, self.shape.ic)
        return Range(*self.bundles.inputs_of(oc.start))

    def output_blocks(self, most: int) -> list[Range]:
        """Cut the blocks of output channels into ranges of at most `most` that read the same."""
        if self.bundles is None:
            return split(self.shape.oc, most)
        return [Range(*run) for run in self.bundles.outputs(most)]

    @property
    def last(self) -> Layer:
        """The layer whose output is stored."""
        return self.pool or (self.total.layer if self.total else self.layer)

    @property
    def diagonal(self) -> str:
        """The tensor in DRAM of the weights that it makes for itself; "" where it makes none."""
        return f"{self.layer.output} (weights)" if self.layer.operator.takes_factor else ""

    @property
    def kind(self) -> str:
        """What it computes, for reports."""
        joined = [] if self.last is self.layer else [self.last]
        return "+".join(part.kind for part in (self.layer, *self.layer.summands, *joined))

    @property
    def late_steps(self) -> int:
        """GEMM steps of all constants that are added after a shift."""
        return sum(e.passes for e in self.epilogue if isinstance(e, LateConstants))

    @property
    def late_elems(self) -> int:
        """Wgt elements of these constants, which stay as long as the layer runs."""
        return self.late_steps * self.shape.oc

    @property
    def sum_elems(self) -> int:
        """Acc elements that stay as long as the layer runs."""
        return self.total.shape.oc if self.total else 0

    @property
    def needs_vector(self) -> bool:
        """Whether the constant vector must lie in inp."""
        early = any(part.shape.constants for part in self.reductions)
        return early or bool(self.late_steps)

    @property
    def copies(self) -> bool:
        """Whether its epilogue needs acc elements beside the tile."""
        return any(
            isinstance(e, CopiedResiduals) or (isinstance(e, ShiftAdds) and e.copies)
            for e in self.epilogue
        )

    @property
    def register_elems(self) -> int:
        """Acc elements of the shift amounts or constants of the step that has most."""
        return max((len(e.values) for e in self.epilogue if isinstance(e, RegisterOp)), default=0)

    @property
    def all_residuals(self) -> list[Residual]:
        """Every tensor that is added, before or in the epilogue."""
        return [*self.residuals, *_residuals_in(self.epilogue)]

    @property
    def diagonal_elems(self) -> int:
        """Wgt elements of a block of a residual with a multiplier a channel, where most are."""
        return max((r.passes for r in self.all_residuals if r.diagonals is not None), default=0)

    @property
    def multipliers(self) -> frozenset[int]:
        """The diagonal weights that the layer needs, the same for all channels of a block."""
        return self.input_multipliers | {
            weight for r in self.all_residuals for block in r.terms for weight, _ in block
        }

    @property
    def repeats_tensors(self) -> bool:
        """Whether it only adds tensors, one of them several times: a function of it."""
        tensors = self.layer.inputs
        return self.layer.operator.starts_empty and len({*tensors}) < len(tensors)

    @property
    def private_multipliers(self) -> frozenset[int]:
        """Diagonal weights that lie in wgt for this layer alone: few need those of a function."""
        return self.multipliers if self.repeats_tensors else frozenset()


def normal_layer(
    layer: Layer,
    config: VTAConfig,
    *,
    form: InputForm | None = None,
    planes: Mapping[str, int] | None = None,
    with_edges: bool = True,
) -> NormalLayer:
    """Bring `layer`, whose input lies in `form`, into normal form for `config`.

    Parameters
    ----------
    layer : Layer
    config : VTAConfig
    form : InputForm, optional
    planes : Mapping[str, int], optional
        The planes of tensors in DRAM; tensors that it lacks have as many as any int8 needs.
    with_edges : bool
        Whether padding that is not zero may become constants, not a border in DRAM.

    Raises
    ------
    CapacityError
        When a constant, shift or immediate does not fit the machine.
    UnsupportedModelError
        When a post-op needs what the machine does not have.
    """
    planes, post_ops = planes or {}, with_split_shift(layer.post_ops, layer, config)
    lead = next((i for i, s in enumerate(post_ops) if not s.row.addition), len(post_ops))
    channels = layer.out_shape[1]
    total = np.zeros(blocks(channels, config.block) * config.block, np.int64)
    total[:channels] += int(np.prod(layer.zero_points))
    for op in post_ops[:lead]:
        if op.op == "add":
            total[:channels] += np.broadcast_to(np.asarray(op.value, np.int64), channels)
    epilogue = [*epilogue_ops(post_ops[lead:], layer, config, planes)]
    edges = None
    if form is None and with_edges:
        edges = _edges(layer, total, config)
    parts = [
        part
        for base, of in enumerate((layer, *layer.summands))
        for part in _products(
            of,
            base,
            config,
            planes,
            None if base else form,
            NO_BORDER if form or (edges is not None and not base) else border_of(of),
        )
    ]
    digits = bias_digits(total, _exponents(parts), config, layer.name)
    if digits is None and edges:
        values, places = [total + e.values for e in edges], [(e.rows, e.columns) for e in edges]
        epilogue.insert(0, RegisterOp.of_parts(values, places, config))
    elif digits is None:
        epilogue.insert(0, RegisterOp.of("add", total.reshape(-1, config.block), config))
    own, *summands = _with_digits(parts, digits or {})
    if digits is not None and edges:
        own = _with_edges(own, edges, config)
    exponents = _exponents(parts)
    if not layer.operator.starts_empty and layer.weight is None:
        # It sums up its input's planes as they are.
        exponents = max(
            (plane_exponents(name, config, planes) for name in layer.data_inputs), key=len
        )
    added = [post_op for post_op in post_ops[:lead] if post_op.tensor]
    residuals, exponents = _residuals(added, layer, config, planes, exponents)

    timing = config.profile
    constants = sum(part.own_digits.count for part in (own, *summands))
    further = (*epilogue, *residuals, *_shifts(exponents), *_plane_passes(layer, planes))
    shape = replace(
        own.shape,
        vector_cycles=timing.gemm_reset_step
        + constants * timing.gemm_step
        + sum(e.cycles(timing) for e in further),
        tile_cycles=timing.overhead(alu=False, reset=True)
        + constants * timing.overhead(alu=False)
        + sum(_overhead(e, timing) for e in further),
        residuals=len([*_residuals_in(further)]),
        summands=tuple(part.shape for part in summands),
        out_planes=planes.get(layer.output, 1) if layer.out_dtype == "int8" else 1,
    )
    return replace(
        own,
        shape=shape,
        residuals=residuals,
        epilogue=tuple(epilogue),
        summands=tuple(summands),
        exponents=exponents,
        bias=total,
        planes=planes,
    )


def _products(
    layer: Layer,
    base: int,
    config: VTAConfig,
    planes: Mapping[str, int],
    form: InputForm | None,
    border: Border,
) -> Iterator[NormalLayer]:
    """Yield the reductions of a layer by falling exponent, one a product of planes."""
    shape, flat = _extents(layer, config, form, border)
    shape = replace(shape, base=base)
    bundles = _bundles(layer, config)
    if bundles is not None:
        shape = replace(shape, ic=bundles.ic)
    plain = NormalLayer(
        layer=layer,
        shape=shape,
        form=form,
        digits=None,
        residuals=(),
        epilogue=(),
        flat=flat,
        bundles=bundles,
        input_multipliers=_input_multipliers(layer, config),
        border=border,
    )
    if layer.weight is None:
        yield plain
        return
    weights = weight_exponents(layer.weight, config)
    inputs = sorted(plane_exponents(layer.inputs[0], config, planes))
    pairs = product(range(len(weights)), range(len(inputs)))
    for w, x in sorted(pairs, key=lambda p: -(weights[p[0]] + inputs[p[1]])):
        exponent = weights[w] + inputs[x]
        changed = replace(shape, exponent=exponent, weight_plane=w, input_plane=x)
        yield replace(plain, shape=changed, weight_exponents=weights)


def _input_multipliers(layer: Layer, config: VTAConfig) -> frozenset[int]:
    """Return the diagonal weights with which a layer without weights adds its input."""
    row = layer.operator
    if row is AVG_POOL2D:
        return diagonal_weights(layer, config)
    if row.takes_factor:
        return frozenset(w for w, _ in weight_terms(-layer.zero_points[1], config.wgt_max))
    return frozenset() if row.has_weight or row.starts_empty else frozenset({1})


def _bundles(layer: Layer, config: VTAConfig) -> Bundles | None:
    """Return the bundles of a grouped convolution."""
    if layer.weight is None or not layer.operator.by_group:
        return None
    channels = layer.in_shape[1]
    groups = channels // layer.weight.shape[1]
    return Bundles.of(channels, layer.out_shape[1], groups, config.block)


def _extents(
    layer: Layer, config: VTAConfig, form: InputForm | None, border: Border
) -> tuple[ConvShape, bool]:
    """Return the extents of a layer's reduction, and whether its kernel covers the picture."""
    kernel, stride, dilation = layer.kernel, layer.stride, layer.dilation
    weight_shape = None if layer.weight is None else layer.weight.shape
    padding, in_shape = (layer.padding[0], layer.padding[1]), layer.in_shape
    corner, last_ic = (0, 0), 0
    if not border.empty:
        # With its border it is a larger picture that needs no padding.
        corner, padding, in_shape = padding, (0, 0), border.around(in_shape)
    if form is not None:
        assert layer.weight is not None and weight_shape is not None
        weight_shape = form.weight_shape(weight_shape)
        kernel, padding = (weight_shape[2], weight_shape[3]), (0, 0)
        stride = (stride[0] // form.stride[0], stride[1] // form.stride[1])
        dilation = (form.patch[0] // form.stride[0], form.patch[1] // form.stride[1])
        in_shape = form.dram_shape(in_shape)
        last_ic = blocks(form.last_channels(layer.weight.shape), config.block)
    ic = 0 if weight_shape is None else blocks(weight_shape[1], config.block)
    flat = _covers_picture(layer) and form is None
    if flat:
        # In DRAM its pixels lie like blocks of channels, and so do its weights.
        ic, kernel, stride, in_shape = ic * kernel[0] * kernel[1], (1, 1), (1, 1), (1, 1, 1, 1)
    row_step = 1
    if weight_shape is not None and kernel[0] == 1 and padding[0] % stride[0] == 0:
        # What is read of the picture is every so many rows: a picture of its own.
        row_step, stride = stride[0], (1, stride[1])
        padding = (padding[0] // row_step, *padding[1:])
        in_shape = (*in_shape[:2], blocks(in_shape[2], row_step), in_shape[3])
    shape = ConvShape(
        oc=blocks(layer.out_shape[1], config.block),
        ic=ic,
        height=in_shape[2],
        width=in_shape[3],
        out_height=layer.out_shape[2],
        out_width=layer.out_shape[3],
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        constants=0,
        vector_cycles=0,
        tile_cycles=0,
        step_cycles=config.profile.gemm_step,
        row_step=row_step,
        corner=corner,
        last_ic=last_ic,
    )
    return shape, flat


def _falling(parts: Sequence[NormalLayer]) -> tuple[NormalLayer, ...]:
    return tuple(sorted(parts, key=lambda part: -part.shape.exponent))


def _exponents(parts: Sequence[NormalLayer]) -> tuple[int, ...]:
    """Return the exponents of reductions and 0, falling."""
    return tuple(sorted({0, *(part.shape.exponent for part in parts)}, reverse=True))


def _with_digits(
    parts: Sequence[NormalLayer], digits: Mapping[int, NDArray[np.int8]]
) -> Iterator[NormalLayer]:
    """Give each exponent's digits to its first reduction; they lie before that one's weights.

    Reductions with the same plane of weights read the same elements, so they have the digits of all
    before them.
    """
    hosts = {
        exponent: next(part for part in _falling(parts) if part.shape.exponent == exponent)
        for exponent in digits
    }
    for part in parts:
        own, together, count = NO_RANGE, [], 0
        for exponent, host in hosts.items():
            if _same_weights(part, host):
                steps = digits[exponent].shape[1]
                own = Range(count, steps) if host is part else own
                together.append(digits[exponent])
                count += steps
        yield replace(
            part,
            shape=replace(part.shape, constants=count),
            digits=np.concatenate(together, axis=1) if together else None,
            own_digits=own,
        )


def _edges(layer: Layer, bias: NDArray[np.int64], config: VTAConfig) -> tuple[Edge, ...] | None:
    """Return what a layer adds in place of a border, None where it has one or needs none."""
    shape, _ = _extents(layer, config, None, NO_BORDER)
    bundles = _bundles(layer, config)
    shape = shape if bundles is None else replace(shape, ic=bundles.ic)
    if config.narrow or bias_digits(bias, (0,), config, layer.name) is not None:
        return edges_of(layer, shape, config)
    return rectangles_of(layer, shape, config)


def _with_edges(part: NormalLayer, edges: tuple[Edge, ...], config: VTAConfig) -> NormalLayer:
    """Put the digits of a layer's edges behind those of its bias."""
    digits = [edge.digits(config, part.layer.name) for edge in edges]
    steps = [of.shape[1] for of in digits]
    shape = replace(
        part.shape,
        constants=part.shape.constants + sum(steps),
        edge_steps=sum(n * edge.vectors for n, edge in zip(steps, edges, strict=True)),
    )
    before = [] if part.digits is None else [part.digits]
    return replace(
        part, shape=shape, digits=np.concatenate([*before, *digits], axis=1), edges=edges
    )


def _same_weights(a: NormalLayer, b: NormalLayer) -> bool:
    return a.shape.base == b.shape.base and a.shape.weight_plane == b.shape.weight_plane


def _residuals(
    added: Sequence[PostOp],
    layer: Layer,
    config: VTAConfig,
    planes: Mapping[str, int],
    exponents: tuple[int, ...],
) -> tuple[tuple[Residual, ...], tuple[int, ...]]:
    """Return what adds a layer's tensors in the fewest cycles, and the exponents it goes through.

    Where a multiplier takes many diagonal weights, further exponents are worth a shift each.
    """

    def split(tried: tuple[int, ...]) -> tuple[tuple[Residual, ...], tuple[int, ...]]:
        found = (
            part
            for post_op in added
            for part in residuals_of(
                post_op,
                layer,
                config,
                planes=len(plane_exponents(post_op.tensor, config, planes)),
                exponents=tried,
            )
        )
        parts = tuple(sorted(found, key=lambda part: -part.exponent))
        used = {*exponents, *(part.exponent for part in parts)}
        return parts, tuple(sorted(used, reverse=True))

    def cycles(found: tuple[tuple[Residual, ...], tuple[int, ...]]) -> tuple[int, int]:
        parts, used = found
        further: tuple[EpilogueOp, ...] = (*parts, *_shifts(used))
        return sum(e.cycles(config.profile) for e in further), len(further)

    if not added or config.wgt_bits == 8 == config.inp_bits:
        return split(exponents)
    tried = ((), *RESIDUAL_EXPONENTS)
    sets = {tuple(sorted({*exponents, *more}, reverse=True)): None for more in tried}
    return min((split(one) for one in sets), key=cycles)


def _residuals_in(steps: Iterable[EpilogueOp]) -> Iterator[Residual]:
    for step in steps:
        yield from (step,) if isinstance(step, Residual) else ()
        yield from step.parts if isinstance(step, CopiedResiduals) else ()


def _shifts(exponents: tuple[int, ...]) -> list[ImmediateOp]:
    """Return the left shifts between exponents."""
    return [ImmediateOp(op="shr", imm=(low - high,)) for high, low in pairwise(exponents)]


def _plane_passes(layer: Layer, planes: Mapping[str, int]) -> list[ImmediateOp]:
    """Return the passes between the stores of an int8 output's planes: rounding and a shift."""
    further = planes.get(layer.output, 1) - 1 if layer.out_dtype == "int8" else 0
    return [ImmediateOp(op="shr", imm=(0,))] * (2 * further)


def _overhead(step: EpilogueOp, timing: TimingProfile) -> int:
    """Return the cycles that a pass costs a tile beside those of its vectors."""
    return step.passes * timing.overhead(alu=not isinstance(step, Residual | LateConstants))


def _covers_picture(layer: Layer) -> bool:
    """Tell whether a convolution has one output for the whole picture: a dense layer on a map."""
    whole = layer.operator is CONV2D and layer.kernel == layer.in_shape[2:] != (1, 1)
    return whole and not any(layer.padding) and layer.dilation == (1, 1)
