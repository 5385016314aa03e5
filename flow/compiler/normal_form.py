"""Normal form: a layer as a reduction, constants, residuals and an epilogue on the ALU.

Leading additions (bias, rounding constant, residuals) commute with the reduction: constants merge
into bias digits that one GEMM step adds, residuals become GEMM steps with a diagonal weight. What
follows the first shift or clip runs on the ALU in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import numpy as np

from flow.compiler.multiply import ShiftAdds
from flow.compiler.shapes import ConvShape
from flow.program.layouts import blocks, constant_digits, pack_diagonals, pack_weight
from relay_passes.operators.conv2d import OPERATOR as CONV2D
from relay_passes.operators.post_ops import ADDITIONS, RESIDUAL_OPS
from vta_config.errors import CapacityError, UnsupportedModelError
from vta_config.isa import MAX_IMM, MIN_IMM
from vta_config.portable import MAX_RESIDUAL, MAX_RESIDUAL_STEPS, MAX_SHIFT, MAX_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from flow.program.input_form import InputForm
    from relay_passes.partition.layers import Layer, PostOp
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile

#: Additions of immediates that one constant takes at most.
_MAX_ADDITIONS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """acc += tensor * m by diagonal weights, m a whole number for each channel.

    Parameters
    ----------
    tensor : str
        The int8 tensor.
    terms : tuple[tuple[tuple[int, int], ...], ...]
        For each block of output channels, (diagonal weight, repeats): m = Σ weight · repeats.
        Empty when channels of one block differ.
    diagonals : int8[oc, steps, block_out, block_in] or None
        Then: each block's wgt elements as they lie in DRAM, whose diagonals add up to m.
    """

    tensor: str
    terms: tuple[tuple[tuple[int, int], ...], ...]
    diagonals: NDArray[np.int8] | None = None

    @classmethod
    def of(cls, step: PostOp, layer: Layer, config: VTAConfig) -> Residual:
        """Split each multiplier into as few weights that int8 holds as there can be."""
        where = f"{layer.name}: {step.tensor}"
        lanes = _lanes(step, layer, config)
        factors = 1 << lanes if step.op == "add_tensor" else lanes
        if (factors == factors[:, :1]).all():
            terms = tuple(_split(int(m), where) for m in factors[:, 0])
            return cls(tensor=step.tensor, terms=terms)
        steps = _steps(int(factors.max()), where)
        parts = factors[:, np.newaxis] // steps + (
            np.arange(steps)[:, np.newaxis] < factors[:, np.newaxis] % steps
        )
        diagonals = parts[..., np.newaxis] * np.eye(config.block, dtype=np.int64)
        return cls(tensor=step.tensor, terms=(), diagonals=diagonals.astype(np.int8))

    @property
    def passes(self) -> int:
        """GEMM steps a vector, where it takes most."""
        if self.diagonals is not None:
            return int(self.diagonals.shape[1])
        return max(sum(repeats for _, repeats in block) for block in self.terms)

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return self.passes * timing.gemm_step


def _split(multiplier: int, where: str) -> tuple[tuple[int, int], ...]:
    """Return (diagonal weight, repeats), ⌈m / 127⌉ repeats in all of weights as equal as go."""
    steps = _steps(multiplier, where)
    weight, more = divmod(multiplier, steps)
    terms = ((weight, steps - more), (weight + 1, more))
    return tuple((w, repeats) for w, repeats in terms if repeats)


def _steps(multiplier: int, where: str) -> int:
    """Return how many diagonal weights a multiplier takes: ⌈m / 127⌉."""
    steps = -(-multiplier // MAX_WEIGHT)
    if steps > MAX_RESIDUAL_STEPS:
        raise CapacityError(
            where,
            f"must be multiplied by at most {MAX_RESIDUAL}",
            got=multiplier,
            hint="choose a smaller output scale for the residual's producer",
        )
    return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class ImmediateOp:
    """One ALU pass over a tile: an operation and its immediates, one a block of channels."""

    passes: ClassVar[int] = 1
    op: str
    imm: tuple[int, ...]

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return timing.alu_reg_step if self.op == "double" else timing.alu_imm_step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LateConstants:
    """Constants, one a channel, added after a shift: GEMM steps on the constant vector.

    Parameters
    ----------
    digits : int8[oc, steps, block_out, block_in]
        Wgt elements as they lie in DRAM.
    """

    digits: NDArray[np.int8]

    @property
    def passes(self) -> int:
        """GEMM steps a vector."""
        return int(self.digits.shape[1])

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return self.passes * timing.gemm_step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegisterShift:
    """A right shift by an amount a channel, which acc holds.

    Parameters
    ----------
    amounts : int32[oc, batch, block]
        Acc elements as they lie in DRAM.
    """

    passes: ClassVar[int] = 2
    amounts: NDArray[np.int32]

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return timing.alu_reg_step


EpilogueOp: TypeAlias = ImmediateOp | Residual | LateConstants | ShiftAdds | RegisterShift


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
        Added before the epilogue.
    epilogue : tuple[EpilogueOp, ...]
        Run in order.
    pool : Layer or None
        A max-pool that is computed with the layer; its output is stored instead.
    flat : bool
        The kernel covers the picture: `shape` has each pixel's blocks as input channels.
    summands : tuple[NormalLayer, ...]
        Further reductions into the same accumulators, with nothing but `shape` and a kernel.
    """

    layer: Layer
    shape: ConvShape
    form: InputForm | None
    digits: NDArray[np.int8] | None
    residuals: tuple[Residual, ...]
    epilogue: tuple[EpilogueOp, ...]
    pool: Layer | None = None
    flat: bool = False
    summands: tuple[NormalLayer, ...] = ()

    @property
    def reductions(self) -> tuple[NormalLayer, ...]:
        """All that is summed up: the layer's own inputs and weights, then the summands'."""
        return (self, *self.summands)

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
            kernel = self.layer.weight if self.form is None else self.form.weight(self.layer.weight)
            pack = pack_diagonals if self.layer.operator.by_channel else pack_weight
            packed = pack(kernel, config)
            parts.append(packed.reshape(packed.shape[0], -1, config.block, config.block))
        return np.concatenate(parts, axis=1)

    @property
    def last(self) -> Layer:
        """The layer whose output is stored."""
        return self.pool or self.layer

    @property
    def kind(self) -> str:
        """What it computes, for reports."""
        parts = [self.layer, *self.layer.summands, *([self.pool] if self.pool else [])]
        return "+".join(part.kind for part in parts)

    @property
    def late_steps(self) -> int:
        """GEMM steps of all constants that are added after a shift."""
        return sum(e.passes for e in self.epilogue if isinstance(e, LateConstants))

    @property
    def late_elems(self) -> int:
        """Wgt elements of these constants, which stay as long as the layer runs."""
        return self.late_steps * self.shape.oc

    @property
    def needs_vector(self) -> bool:
        """Whether the constant vector must lie in inp."""
        return bool(self.shape.constants or self.late_steps)

    @property
    def copies(self) -> bool:
        """Whether its epilogue needs acc elements beside the tile."""
        return any(isinstance(e, ShiftAdds) and e.copies for e in self.epilogue)

    @property
    def shifts_by_register(self) -> bool:
        """Whether acc must hold shift amounts."""
        return any(isinstance(e, RegisterShift) for e in self.epilogue)

    @property
    def all_residuals(self) -> list[Residual]:
        """Every tensor that is added, before or in the epilogue."""
        return [*self.residuals, *(s for s in self.epilogue if isinstance(s, Residual))]

    @property
    def diagonal_elems(self) -> int:
        """Wgt elements of a block of a residual with a multiplier a channel, where most are."""
        return max((r.passes for r in self.all_residuals if r.diagonals is not None), default=0)

    @property
    def multipliers(self) -> set[int]:
        """The diagonal weights that the layer needs, the same for all channels of a block."""
        row = self.layer.operator
        copies = row.by_channel and not (row.has_weight or row.starts_empty)
        own = {1} if copies else set()
        return own | {
            weight for r in self.all_residuals for block in r.terms for weight, _ in block
        }


def normal_layer(layer: Layer, config: VTAConfig, *, form: InputForm | None = None) -> NormalLayer:
    """Bring `layer`, whose input lies in `form`, into normal form for `config`.

    Raises
    ------
    CapacityError
        When a constant, shift or immediate does not fit the machine.
    UnsupportedModelError
        When a step needs what the machine does not have.
    """
    post_ops = list(layer.post_ops)
    lead = next((i for i, s in enumerate(post_ops) if s.op not in ADDITIONS), len(post_ops))
    channels = layer.out_shape[1]
    oc = blocks(channels, config.block)
    total = np.zeros(oc * config.block, np.int64)
    for op in post_ops[:lead]:
        if op.op == "add":
            total[:channels] += np.broadcast_to(np.asarray(op.value, np.int64), channels)
    digits = constant_digits(total, config, layer.name) if total.any() else None

    kernel, stride, dilation = layer.kernel, layer.stride, layer.dilation
    weight_shape = None if layer.weight is None else layer.weight.shape
    padding, in_shape = (layer.padding[0], layer.padding[1]), layer.in_shape
    if form is not None:
        assert weight_shape is not None
        weight_shape = form.weight_shape(weight_shape)
        kernel, padding = (weight_shape[2], weight_shape[3]), (0, 0)
        stride = (stride[0] // form.stride[0], stride[1] // form.stride[1])
        dilation = (form.patch[0] // form.stride[0], form.patch[1] // form.stride[1])
        in_shape = form.dram_shape(in_shape)
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
    residuals = tuple(Residual.of(s, layer, config) for s in post_ops[:lead] if s.tensor)
    epilogue = tuple(_epilogue_ops(post_ops[lead:], layer, config))
    constants, timing = 0 if digits is None else digits.shape[1], config.profile
    summands = tuple(normal_layer(product, config) for product in layer.summands)
    shape = ConvShape(
        oc=oc,
        ic=ic,
        height=in_shape[2],
        width=in_shape[3],
        out_height=layer.out_shape[2],
        out_width=layer.out_shape[3],
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        constants=constants,
        vector_cycles=timing.gemm_reset_step
        + constants * timing.gemm_step
        + sum(e.cycles(timing) for e in (*epilogue, *residuals)),
        tile_cycles=timing.overhead(alu=False, reset=True)
        + constants * timing.overhead(alu=False)
        + sum(_overhead(e, timing) for e in (*epilogue, *residuals)),
        step_cycles=timing.gemm_step,
        residuals=sum(isinstance(r, Residual) for r in (*residuals, *epilogue)),
        summands=tuple(product.shape for product in summands),
        row_step=row_step,
    )
    return NormalLayer(
        layer=layer,
        shape=shape,
        form=form,
        digits=digits,
        residuals=residuals,
        epilogue=epilogue,
        flat=flat,
        summands=summands,
    )


def _overhead(step: EpilogueOp, timing: TimingProfile) -> int:
    """Return the cycles that a pass costs a tile beside those of its vectors."""
    return step.passes * timing.overhead(alu=not isinstance(step, Residual | LateConstants))


def _covers_picture(layer: Layer) -> bool:
    """Tell whether a convolution has one output for the whole picture: a dense layer on a map."""
    whole = layer.operator is CONV2D and layer.kernel == layer.in_shape[2:] != (1, 1)
    return whole and not any(layer.padding) and layer.dilation == (1, 1)


def _epilogue_ops(
    post_ops: Sequence[PostOp], layer: Layer, config: VTAConfig
) -> Iterator[EpilogueOp]:
    """Yield what runs after the reduction."""
    index = 0
    while index < len(post_ops):
        post_op = post_ops[index]
        index += 1
        if post_op.op != "mul" or "mul" in config.capabilities:
            yield from _epilogue(post_op, layer, config)
            continue
        factors = _per_block(post_op, layer, config)
        if min(factors) < 1:
            raise UnsupportedModelError(
                f"{layer.name}.mul",
                "must be at least 1 on a machine without the capability mul",
                got=min(factors),
                hint="use shift requantization",
            )
        # The shift that follows is done between the additions, unless it needs a register.
        shifts = (0,) * len(factors)
        if index < len(post_ops) and post_ops[index].op == "shr":
            lanes = _lanes(post_ops[index], layer, config)
            if "shr_register" not in config.capabilities or (lanes == lanes[:, :1]).all():
                shifts = _per_block(post_ops[index], layer, config)
                index += 1
        yield ShiftAdds.of(factors, shifts)


def _epilogue(step: PostOp, layer: Layer, config: VTAConfig) -> Sequence[EpilogueOp]:
    """Turn one post-op into ALU instructions."""
    if step.op in RESIDUAL_OPS:
        return [Residual.of(step, layer, config)]
    if step.op == "add" and np.ndim(step.value):
        oc = blocks(layer.out_shape[1], config.block)
        numbers = np.zeros(oc * config.block, np.int64)
        numbers[: layer.out_shape[1]] = step.value
        return [LateConstants(digits=constant_digits(numbers, config, layer.name))]
    if step.op == "shr" and "shr_register" in config.capabilities:
        amounts = _lanes(step, layer, config).astype(np.int32)
        if (amounts != amounts[:, :1]).any():
            rows = np.repeat(amounts[:, np.newaxis], config.batch, axis=1)
            return [RegisterShift(amounts=rows)]
    values = _per_block(step, layer, config)
    if step.op == "shl":
        if len(set(values)) > 1:
            raise UnsupportedModelError(
                f"{layer.name}.shl",
                "must be one number a layer",
                got=values,
                hint="use one scale a tensor",
            )
        return [ImmediateOp(op="double", imm=(0,) * len(values))] * values[0]
    if step.op == "shr":
        passes = []
        while any(values):
            passes.append(ImmediateOp(op="shr", imm=tuple(min(v, MAX_SHIFT) for v in values)))
            values = tuple(v - min(v, MAX_SHIFT) for v in values)
        return passes
    if step.op == "add":
        # Constants that imm does not hold take several passes.
        passes = []
        while any(values):
            part = tuple(max(MIN_IMM, min(MAX_IMM, v)) for v in values)
            passes.append(ImmediateOp(op="add", imm=part))
            values = tuple(v - p for v, p in zip(values, part, strict=True))
            if len(passes) > _MAX_ADDITIONS:
                raise CapacityError(
                    f"{layer.name}.add",
                    f"must fit {_MAX_ADDITIONS} immediates of 16 bits",
                    got=step.value,
                    hint="add it before the shift",
                )
        return passes
    if not all(MIN_IMM <= v <= MAX_IMM for v in values):
        raise CapacityError(
            f"{layer.name}.{step.op}",
            "must fit a 16-bit immediate",
            got=step.value,
            hint="clip to fewer bits",
        )
    return [ImmediateOp(op=step.op, imm=values)]


def _lanes(step: PostOp, layer: Layer, config: VTAConfig) -> NDArray[np.int64]:
    """Return a step's operand for each lane of each block of output channels, int64[oc, block]."""
    channels = layer.out_shape[1]
    value = np.broadcast_to(np.asarray(step.value, np.int64), channels)
    padded = np.pad(value, (0, -channels % config.block), mode="edge")
    return padded.reshape(-1, config.block)


def _per_block(step: PostOp, layer: Layer, config: VTAConfig) -> tuple[int, ...]:
    """Return a step's operand for each block of output channels.

    Raises
    ------
    UnsupportedModelError
        When channels of one block differ: an immediate serves a whole block.
    """
    lanes = _lanes(step, layer, config)
    if (lanes != lanes[:, :1]).any():
        raise UnsupportedModelError(
            f"{layer.name}.{step.op}",
            "must be one number a block of output channels",
            got="one a channel",
            hint="fold per-channel scales into the weights",
        )
    return tuple(int(v) for v in lanes[:, 0])
