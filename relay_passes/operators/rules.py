"""The conditions for a layer to run on VTA.

The first line of each rule is the sentence that the user reads if the condition is violated.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from relay_passes.graph import ints, static_shape
from relay_passes.operators.chain import Chain
from relay_passes.operators.post_ops import POST_OPS
from vta_config.hardware import VTAConfig
from vta_config.isa import MAX_IMM, MAX_PAD, MIN_IMM
from vta_config.portable import MAX_ACC_SHIFT, MAX_RESIDUAL

Rule = Callable[[Chain, VTAConfig], bool]
_INT8_BITS: Final = 8
#: Planes of an int8 number where operands are narrower.
_MOST_PLANES: Final = 3
#: The share of a buffer that one window may take: constants and residuals need the rest.
_SHARE: Final = 0.75


# ruff: noqa: D401 (the first line of a rule is a sentence for the user, not a command)


def nchw_layout(chain: Chain, config: VTAConfig) -> bool:
    """A tensor must have the layout NCHW, a kernel the layout OIHW."""
    attrs = chain.anchor.value.attrs
    names = ("data_layout", "layout", "kernel_layout")
    layouts = [str(getattr(attrs, name, "NCHW")) for name in names]
    return all(layout in ("NCHW", "OIHW") for layout in layouts)


def four_dimensions(chain: Chain, config: VTAConfig) -> bool:
    """A tensor must have four dimensions, or two for a dense layer."""
    shapes = [static_shape(var) for var in (*chain.inputs, chain.output)]
    return all(len(shape) == 4 or len(shape) == 2 for shape in shapes)


def one_image_of_int8(chain: Chain, config: VTAConfig) -> bool:
    """A product of two tensors needs a machine of batch 1 and operands of 8 bits."""
    return config.batch == 1 and config.inp_bits == config.wgt_bits == _INT8_BITS


def padding_fits(chain: Chain, config: VTAConfig) -> bool:
    """The padding must be at most 15 on every side."""
    return all(0 <= p <= MAX_PAD for p in _sides(chain))


def windows_meet_the_input(chain: Chain, config: VTAConfig) -> bool:
    """Every window of a convolution must contain at least one input pixel, not only padding."""
    attrs, operands = chain.anchor.value.attrs, (chain.anchor.value.args[1], chain.anchor.var)
    sizes = zip(*(static_shape(x)[2:] for x in (chain.source, *operands)), strict=True)
    windows = zip(ints(attrs.strides), ints(attrs.dilation), _sides(chain)[:2], strict=True)
    return all(
        padding <= (kernel - 1) * dilation and (out - 1) * stride - padding < size
        for (size, kernel, out), (stride, dilation, padding) in zip(sizes, windows, strict=True)
    )


def window_fits(chain: Chain, config: VTAConfig) -> bool:
    """The window of one output, and its weights, must fit the buffers of the machine."""
    attrs, kernel = chain.anchor.value.attrs, static_shape(chain.anchor.value.args[1])[2:]
    extents = ((k - 1) * d + 1 for k, d in zip(kernel, ints(attrs.dilation), strict=True))
    planes = [
        1 if bits == _INT8_BITS else _MOST_PLANES for bits in (config.inp_bits, config.wgt_bits)
    ]
    elems, taps = prod(extents) * planes[0], prod(kernel) * planes[1]
    return elems <= config.inp_depth * _SHARE and taps <= config.wgt_depth * _SHARE


def _sides(chain: Chain) -> tuple[int, ...]:
    """Return what a window's operator pads: (top, left, bottom, right)."""
    if chain.padding is not None:
        return chain.padding.sides
    return ints(chain.anchor.value.attrs.padding)


def dense_dilation(chain: Chain, config: VTAConfig) -> bool:
    """A pooling must have dilation 1 and round its output size down (ceil_mode 0)."""
    attrs = chain.anchor.value.attrs
    return all(int(d) == 1 for d in attrs.dilation) and not bool(attrs.ceil_mode)


def windows_start_inside(chain: Chain, config: VTAConfig) -> bool:
    """A pooling window must start inside the input, and nothing may be added to its maximum."""
    attrs = chain.anchor.value.attrs
    sizes = zip(static_shape(chain.inputs[0])[2:], static_shape(chain.output)[2:], strict=True)
    inside = all((o - 1) * int(s) < i for (i, o), s in zip(sizes, attrs.strides, strict=True))
    inside &= all(int(p) < int(k) for p, k in zip(attrs.padding[:2], attrs.pool_size, strict=True))
    return inside and all(not POST_OPS[op].addition for op, _, _ in chain.post_ops)


def one_number_a_block(chain: Chain, config: VTAConfig) -> bool:
    """A shift or multiplier must be the same for all channels of a block."""
    for op, value, _ in chain.post_ops:
        numbers = np.ravel(value)
        if POST_OPS[op].one_per_block(config) and numbers.size > 1:
            starts = np.repeat(numbers[:: config.block], config.block)[: numbers.size]
            if (numbers != starts).any():
                return False
    return True


def sums_rows_and_columns(chain: Chain, config: VTAConfig) -> bool:
    """A sum must be over all rows and columns and keep its dimensions."""
    attrs = chain.anchor.value.attrs
    rank = len(static_shape(chain.inputs[0]))
    axes = sorted(int(a) % rank for a in attrs.axis) if attrs.axis is not None else []
    return rank == 4 and axes == [2, 3] and bool(attrs.keepdims)


def multiplies_if_possible(chain: Chain, config: VTAConfig) -> bool:
    """A multiplication of the accumulator by less than 1 needs a machine with capability mul."""
    factors = (value for op, value, _ in chain.post_ops if op == "mul")
    return "mul" in config.capabilities or all(np.min(value) >= 1 for value in factors)


def shifts_in_range(chain: Chain, config: VTAConfig) -> bool:
    """A shift must be in [0, 31]."""
    amounts = _operands(chain, "shift")
    return all(np.min(value) >= 0 and np.max(value) <= MAX_ACC_SHIFT for value in amounts)


def residuals_fit(chain: Chain, config: VTAConfig) -> bool:
    """The magnitude of a residual's integer multiplier must be at most 8,128."""
    factors = ((1 << np.asarray(v)) if op == "add_tensor" else v for op, v in _residuals(chain))
    return all(np.max(np.abs(factor)) <= MAX_RESIDUAL for factor in factors)


def _residuals(chain: Chain) -> list[tuple[str, Any]]:
    return [(op, value) for op, value, _ in chain.post_ops if POST_OPS[op].residual]


def _operands(chain: Chain, meant: str) -> list[Any]:
    """Return the operands of all post-ops whose operand is meant to be a shift, a limit, ..."""
    return [value for op, value, _ in chain.post_ops if POST_OPS[op].operand == meant]


def limits_fit(chain: Chain, config: VTAConfig) -> bool:
    """A clip limit of the accumulator must fit in 16 bits."""
    limits = _operands(chain, "limit")
    return all(np.min(v) >= MIN_IMM and np.max(v) <= MAX_IMM for v in limits)


def channels_are_filled(chain: Chain, config: VTAConfig) -> bool:
    """Channels that are added must hold 0, or be whole blocks of channels."""
    movement = chain.movement
    if movement is None or not movement.fill:
        return True
    (part,) = movement.parts
    held = part.channels >= 0
    return all(len({*held[i : i + config.block]}) == 1 for i in range(0, len(held), config.block))


def one_left_shift(chain: Chain, config: VTAConfig) -> bool:
    """A left shift must be the same for all channels."""
    layer_wide = (value for op, value, _ in chain.post_ops if POST_OPS[op].same_for == "layer")
    return all(np.ptp(value) == 0 for value in layer_wide)


#: Conditions for the post-ops after every operator.
POST_OPS_FIT: Final[tuple[Rule, ...]] = (
    four_dimensions,
    shifts_in_range,
    residuals_fit,
    limits_fit,
    one_left_shift,
    one_number_a_block,
    multiplies_if_possible,
)
