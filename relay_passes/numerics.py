"""Every rounding, quantize and requantize equation, once; the passes and the tests use these.

All rounding is floor(x + 1/2), called HALF_UP: ±0.5 -> 1, 0; ±1.5 -> 2, -1; ±2.5 -> 3, -2. An
integer shifted right by n rounds the same way when 2^(n-1) is added before.

Per-tensor scales are powers of two, so the ratio of any two is a shift.
"""

from __future__ import annotations

from fractions import Fraction
from math import frexp, ldexp
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.params import INT32_MAX, MIN_SCALE, QuantParams, Requant
from vta_config.errors import CapacityError
from vta_config.isa import MAX_IMM

#: Ratios of float64 scales count as powers of two, or as integers, within this: what rounding in a
#: few operations leaves.
RATIO_TOLERANCE: Final = 2.0**-40
#: Biases up to here cost nothing: one GEMM step adds them.
_SMALL_BIAS: Final = 1 << 18
#: Largest SQNR that reports tell apart from a perfect copy, in dB; theirs are finite numbers.
SQNR_LIMIT_DB: Final = 300.0


def round_half_up(x: Any) -> NDArray[np.float64]:
    """Round float64 values to integers: floor(x + 1/2), exactly.

    x + 1/2 itself may round (0.49999999999999994 + 0.5 is 1.0), so the fraction decides.
    """
    x = np.asarray(x, np.float64)
    whole = np.floor(x)
    return np.asarray(whole + (x - whole >= 0.5), np.float64)


def quantize(x: Any, params: QuantParams, *, axis: int = 0, block: int = 0) -> NDArray[np.int8]:
    """Quantize: q = clip(floor(x / scale + 1/2) + zero_point, qmin, qmax).

    Parameters
    ----------
    x : float[...]
        Values; computed in float64, so that a power-of-two scale divides exactly.
    params : QuantParams
        Scale and limits; one scale per channel lies along `axis`.
    axis : int
        The channels' axis, for granularities other than ``tensor``.
    block : int
        Channels a block, for granularity ``block``.
    """
    x = np.asarray(x, np.float64)
    scale: Any = params.scale[0]
    if params.granularity != "tensor":
        scale = along(params.scales(x.shape[axis], block), x.ndim, axis)
    q = round_half_up(x / scale) + params.zero_point
    return np.clip(q, params.qmin, params.qmax).astype(np.int8)


def dequantize(
    q: Any, params: QuantParams, *, axis: int = 0, block: int = 0
) -> NDArray[np.float64]:
    """Dequantize: x = scale * (q - zero_point); arguments as in `quantize`."""
    q = np.asarray(q, np.float64) - params.zero_point
    if params.granularity == "tensor":
        return np.asarray(q * params.scale[0])
    return np.asarray(q * along(params.scales(q.shape[axis], block), q.ndim, axis))


def along(values: NDArray[Any], ndim: int, axis: int) -> NDArray[Any]:
    """Shape a vector so that it broadcasts along `axis` of an array of `ndim` dimensions."""
    return values.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def shift_right_round(acc: Any, shift: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Shift right with rounding: (acc + 2^(n-1)) >> n = floor(acc / 2^n + 1/2); n <= 0 shifts left.

    Parameters
    ----------
    acc : int[...]
        Accumulator.
    shift : int or int64[...]
        n; broadcasts against `acc`.
    """
    acc = np.asarray(acc, np.int64)
    n = np.asarray(shift, np.int64)
    right, left = np.maximum(n, 0), np.maximum(-n, 0)
    return np.asarray(((acc << left) + ((1 << right) >> 1)) >> right, np.int64)


def requantize(acc: Any, shift: int | NDArray[np.int64], qmin: int, qmax: int) -> NDArray[np.int8]:
    """Requantize an accumulator: q = clip(floor(acc / 2^n + 1/2), qmin, qmax)."""
    return np.clip(shift_right_round(acc, shift), qmin, qmax).astype(np.int8)


def power_of_two_at_least(x: float) -> float:
    """Return the smallest power of two >= x, for x > 0; 1.0 for x = 0 (a tensor of zeros)."""
    if x == 0:
        return 1.0
    mantissa, exponent = frexp(x)  # x = mantissa * 2^exponent, mantissa in [1/2, 1)
    return ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def scale_for(max_abs: float, qmax: int, *, power_of_two: bool = True) -> float:
    """Return the scale that maps [-max_abs, max_abs] into [-qmax, qmax].

    scale = max_abs / qmax, or the smallest power of two >= that, and `MIN_SCALE` at least; 1.0 when
    max_abs is 0.
    """
    if max_abs == 0:
        return 1.0
    max_abs = max(max_abs, MIN_SCALE * qmax)
    if not power_of_two:
        return max_abs / qmax
    scale = power_of_two_at_least(max_abs / qmax)
    # max_abs / qmax rounds to nearest: when that fell onto a power of two, check exactly.
    return scale * 2 if scale * qmax < max_abs else scale


def exact_log2(ratio: float) -> int | None:
    """Return k when ratio is 2^k up to `RATIO_TOLERANCE`, else None."""
    if not 0.0 < ratio < float("inf"):
        return None
    k = round(float(np.log2(ratio)))
    return k if abs(ldexp(ratio, -k) - 1.0) <= RATIO_TOLERANCE else None


def dyadic(ratio: NDArray[np.float64], bound: int) -> Requant:
    """Return b / 2^c next to each ratio in lowest terms, b an immediate and b * bound < 2^31.

    Parameters
    ----------
    ratio : float64[C]
        Positive.
    bound : int
        Of the magnitude that is multiplied.
    """
    most = max(1, min(MAX_IMM, INT32_MAX // bound))
    c = np.clip(np.floor(np.log2(most / ratio)), 0, 31).astype(np.int64)
    b = np.clip(round_half_up(ratio * 2.0**c), 1, most).astype(np.int64)
    zeros = np.minimum(np.log2(b & -b).astype(np.int64), c)
    b, c = b >> zeros, c - zeros
    return Requant(
        multiplier=tuple(b.tolist()),
        shift=tuple(c.tolist()),
        ratio=tuple(Fraction(r) for r in ratio.tolist()),
    )


def exact_integers(ratio: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return integers >= 1 that ratios are up to `RATIO_TOLERANCE`, else None."""
    whole = round_half_up(ratio)
    near = np.abs(ratio - whole) <= RATIO_TOLERANCE * ratio
    return whole.astype(np.int64) if near.all() and (whole >= 1).all() else None


def quantize_bias(name: str, bias: Any, scale: Any) -> NDArray[np.int64]:
    """Quantize a bias to the accumulator's scale: floor(bias / scale + 1/2), int64[C] in int32.

    Raises
    ------
    CapacityError
        When a value does not fit int32.
    """
    value = round_half_up(np.asarray(bias, np.float64) / np.asarray(scale, np.float64))
    if value.size and np.abs(value).max() > INT32_MAX:
        raise CapacityError(
            f"{name}.bias",
            "must fit int32 at the accumulator's scale",
            got=f"{np.abs(value).max():.4g}",
            hint="the scales of its input and weight are too small",
        )
    return value.astype(np.int64)


def output_bias(
    name: str,
    bias: NDArray[np.float64],
    scale: NDArray[np.float64],
    bound: NDArray[Any],
    unit: NDArray[Any],
    zero_point: int = 0,
) -> NDArray[np.int64]:
    """Quantize the bias of an accumulator that becomes int8, int64[C].

    A bias that the sum cannot take back saturates the output whatever it is, so that it need not be
    larger: constants cost time by their size.

    Parameters
    ----------
    name : str
        For the sentence.
    bias, scale : float64[C]
        Real numbers, and the accumulator's scale.
    bound : number[C]
        Of the magnitude of the sum that the bias is added to.
    unit : float64[C]
        How many of the accumulator's units one of int8's is.
    zero_point : int
        Of the int8 tensor.

    Raises
    ------
    CapacityError
        When a value does not fit int32.
    """
    enough = np.maximum(bound + (129.0 - zero_point) * unit, _SMALL_BIAS) * scale
    return quantize_bias(name, np.clip(bias, -enough, enough), scale)


def sum_bound(bound: NDArray[Any], offset: NDArray[Any]) -> NDArray[Any]:
    """Bound the magnitude of a sum of which |sum - offset| <= bound."""
    return np.asarray(bound + np.abs(offset))


def accumulator_bound(weight: NDArray[np.int8], input_bound: int) -> NDArray[np.int64]:
    """Bound |sum of weight * input| for each output channel: input_bound * sum|w|.

    Parameters
    ----------
    weight : int8[O, ...]
        Output channels first.
    input_bound : int
        Largest |input|.

    Returns
    -------
    int64[O]
        Also bounds every partial sum, in any order.
    """
    wide = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1)
    return np.asarray(wide.sum(axis=1) * input_bound, np.int64)


def check_accumulator(name: str, bound: NDArray[np.int64]) -> None:
    """Check that an accumulator bounded by `bound` (int64[C]) cannot leave int32.

    Raises
    ------
    CapacityError
        When a channel's bound reaches 2^31.
    """
    worst = int(np.argmax(bound))
    if int(bound.flat[worst]) > INT32_MAX:
        raise CapacityError(
            name,
            "must keep every accumulator below 2^31",
            got=f"a bound of {int(bound.flat[worst])} in channel {worst}",
            hint="use larger scales or fewer bits",
        )


def sqnr_db(reference: Any, values: Any) -> float:
    """Return the signal-to-quantization-noise ratio: 10 log10(sum r² / sum (r - v)²), in dB.

    Parameters
    ----------
    reference : number[...]
        r; computed in float64.
    values : number[...]
        v, of the same shape.

    Returns
    -------
    float
        Infinity when they are equal.
    """
    reference = np.asarray(reference, np.float64)
    noise = float(np.square(reference - np.asarray(values, np.float64)).sum())
    return decibels(float(np.square(reference).sum()), noise)


def decibels(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise): infinity without noise, else minus infinity without signal.

    Parameters
    ----------
    signal, noise : float
        Sums of squares, >= 0.
    """
    if noise == 0:
        return float("inf")
    return float(10 * (np.log10(signal) - np.log10(noise))) if signal else float("-inf")


def limited_db(ratio: float) -> float:
    """Return a ratio in dB within ±`SQNR_LIMIT_DB`: a finite number."""
    return float(np.clip(ratio, -SQNR_LIMIT_DB, SQNR_LIMIT_DB))


def centred(rows: Any) -> NDArray[np.float64]:
    """Subtract each row's mean, that of an image's results: float64[images, values]."""
    wide = np.asarray(rows, np.float64)
    return np.asarray(wide - wide.mean(axis=1, keepdims=True))
